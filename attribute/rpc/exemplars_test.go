// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/sample"
)

const (
	aTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	aSpan  = "00f067aa0ba902b7"
)

func TestParseTraceparent(t *testing.T) {
	for value, want := range map[string]string{
		"00-" + aTrace + "-" + aSpan + "-01":                   "sampled",
		"00-" + aTrace + "-" + aSpan + "-03":                   "sampled", // and random-trace-id, Level 2
		"00-" + aTrace + "-" + aSpan + "-00":                   "not sampled",
		"00-" + aTrace + "-" + aSpan + "-fe":                   "not sampled",
		"cc-" + aTrace + "-" + aSpan + "-01":                   "sampled", // a later version
		"cc-" + aTrace + "-" + aSpan + "-01-what-is":           "sampled",
		"cc-" + aTrace + "-" + aSpan + "-01.what":              "",
		"00-" + aTrace + "-" + aSpan + "-01-what-is":           "",
		"00-" + aTrace + "-" + aSpan + "-01-":                  "",
		"ff-" + aTrace + "-" + aSpan + "-01":                   "",
		"0x-" + aTrace + "-" + aSpan + "-01":                   "",
		"CC-" + aTrace + "-" + aSpan + "-01":                   "",
		"00-" + aTrace + "-" + aSpan + "-0A":                   "",
		"00-" + aTrace + "-" + aSpan + "-1":                    "",
		"00-" + aTrace + "-" + aSpan:                           "",
		"00_" + aTrace + "-" + aSpan + "-01":                   "",
		"00-" + aTrace + "_" + aSpan + "-01":                   "",
		"00-" + aTrace + "-" + aSpan + "_01":                   "",
		"00-" + strings.ToUpper(aTrace) + "-" + aSpan + "-01":  "",
		"00-" + aTrace + "-" + strings.ToUpper(aSpan) + "-01":  "",
		"00-" + strings.Repeat("0", 32) + "-" + aSpan + "-01":  "",
		"00-" + aTrace + "-" + strings.Repeat("0", 16) + "-01": "",
		"00-" + aTrace[1:] + "g-" + aSpan + "-01":              "",
		"00-" + aTrace[1:] + "-" + aSpan + "-01":               "",
		"00-0" + aTrace + "-" + aSpan + "-01":                  "",
		"":                                                     "",
	} {
		got := ""
		if p, ok := parseTraceparent([]byte(value)); ok {
			got = map[bool]string{false: "not sampled", true: "sampled"}[p.sampled]
			if p.trace.String() != aTrace || p.span.String() != aSpan {
				t.Errorf("%q is read as %s and %s", value, p.trace, p.span)
			}
		}
		if got != want {
			t.Errorf("%q is %q, want %q", value, got, want)
		}
	}
}

// traced is a head of HTTP/1 with a trace id that ends in a number.
func traced(request string, id int) string {
	return fmt.Sprintf("%s HTTP/1.1\r\nHost: localhost\r\nTracEParent: \t00-%032x-%016x-01 \r\nTracestate: secret\r\n\r\n", request, id, id)
}

// exemplarsOf tells a story to an engine that keeps so many exemplars of each handler,
// and gives what it keeps, one a line: number of the trace, its handler, status,
// duration and CPU time, by number.
func exemplarsOf(t *testing.T, perHandler int, text string, raw ...string) (*story, []string) {
	t.Helper()
	for i, r := range raw {
		text = strings.ReplaceAll(text, fmt.Sprintf("$%d", i), fmt.Sprintf("%q", r))
	}
	s := newStory(t)
	if perHandler > 0 {
		s.engine.exemplars = newExemplars(perHandler, rand.New(rand.NewPCG(1, 2)), s.engine.metrics.exemplarsLeftOut)
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			s.line(line)
		}
	}
	s.engine.Flush()
	s.check()
	return s, s.exemplars()
}

func (s *story) exemplars() (lines []string) {
	s.t.Helper()
	all := s.engine.Exemplars(time.Unix(0, 0))
	slices.SortFunc(all, func(a, b sample.Exemplar) int {
		return cmp.Or(cmp.Compare(a.TraceID.String(), b.TraceID.String()), a.Start.Compare(b.Start))
	})
	for _, e := range all {
		if e.TraceID.String()[16:] != e.SpanID.String() || !e.Sampled || e.Start.Before(time.Unix(3600, 0)) {
			s.t.Errorf("%+v", e)
		}
		cpu := "unknown"
		if e.CPU != nil {
			cpu = e.CPU.String()
		}
		l := e.Labels
		lines = append(lines, strings.Join(strings.Fields(fmt.Sprintln(strings.TrimLeft(e.TraceID.String(), "0"), l["service_name"],
			l["http_request_method"], l["http_route"]+l["url_template"]+l["rpc_method"], e.StatusClass, e.Duration, cpu)), " "))
	}
	return lines
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("exemplars are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// wantTraces compares how many headers there were.
func (s *story) wantTraces(valid, malformed, unknown float64) {
	s.t.Helper()
	m := &s.engine.metrics
	got := [3]float64{testutil.ToFloat64(m.tracesValid), testutil.ToFloat64(m.tracesMalformed), testutil.ToFloat64(m.tracesUnknown)}
	if want := [3]float64{valid, malformed, unknown}; got != want {
		s.t.Errorf("%v traceparents are valid, malformed, unknown, want %v", got, want)
	}
}

func TestExemplarsOfThreads(t *testing.T) {
	s, got := exemplarsOf(t, 5, warm+`
		T1 read 5 $0
		T1 sample exact GET /a
		T1 sample exact GET /a
		T1 write 5 200
		T1 sample unattributed
		T1 read 5 GET /a
		T1 sample exact GET /a
		T1 write 5 200
		T1 read 5 $1
		T1 write 5 500
		T1 read 5 $2
		T1 close 5`,
		traced("GET /a", 1), traced("POST /b/7", 2), traced("GET /a", 3))
	wantLines(t, got, "1 service-1 GET /a 2xx 3ms 20ms", "2 service-1 POST /b/{number} 5xx 1ms 0s")
	s.wantTraces(3, 0, 0)
	wantLines(t, s.exemplars()) // those of the next window
}

// The first byte is read by another goroutine; the route is told by memory, children
// count, what goes on after the answer does not.
func TestExemplarsOfGoroutines(t *testing.T) {
	s := newStory(t)
	s.engine.exemplars = newExemplars(5, rand.New(rand.NewPCG(1, 2)), s.engine.metrics.exemplarsLeftOut)
	told := sample.Request{Source: "goroutine", Goroutine: 7, Method: "GET", Path: "/a/1", Route: "GET /a/{id}"}
	tick := func(goroutine, parent uint64, want string) {
		s.now += uint64(time.Millisecond)
		x := sample.Executor{Kind: sample.Goroutine, Goroutine: goroutine, Parent: parent}
		s.sample(want, &sample.Sample{Process: sample.Process{PID: 1}, TID: 101, Executor: x, Request: told}, want)
	}
	head := traced("GET /a/1", 1)
	for _, line := range []string{warm, `G8 read 5 "G"`, fmt.Sprintf("G7 read 5 %q", head[1:])} {
		for part := range strings.Lines(line) {
			if part = strings.TrimSpace(part); part != "" {
				s.line(part)
			}
		}
	}
	tick(7, 0, "exact GET /a/{id} by goroutine")
	tick(9, 7, "inferred GET /a/{id} by goroutine")
	s.line("G7 write 5 200")
	tick(7, 0, "exact GET /a/{id} by goroutine")
	s.engine.Flush()
	s.check()
	wantLines(t, s.exemplars(), "1 service-1 GET /a/{id} 2xx 3ms 20ms")
	s.wantTraces(1, 0, 0)
}

// Samples that wait count once they are decided; of several requests none gets them.
func TestExemplarsOfEventLoops(t *testing.T) {
	_, got := exemplarsOf(t, 5, `
		L1 read 5 $0
		L1 sample inferred GET /a
		L1 write 5 200
		L1 wait
		L1 read 5 $1
		L1 wait
		L1 read 6 $2
		L1 wait
		L1 sample ambiguous
		L1 write 5 200
		L1 write 6 200`,
		traced("GET /a", 1), traced("GET /b", 2), traced("GET /c", 3))
	wantLines(t, got, "1 service-1 GET /a 2xx 2ms 10ms", "2 service-1 GET /b 2xx 5ms 0s", "3 service-1 GET /c 2xx 4ms 0s")
}

// tracedCall is a call whose traceparent is a literal without indexing, new name.
func tracedCall(stream int, path string, id int) string {
	const grpc, name = "application/grpc", "traceparent"
	value := fmt.Sprintf("00-%032x-%016x-01", id, id)
	return headers(stream, fmt.Sprintf("\x83\x86\x04%c%s\x0f\x10%c%s\x00%c%s%c%s", len(path), path, len(grpc), grpc, len(name), name, len(value), value))
}

func TestExemplarsOfStreams(t *testing.T) {
	s, got := exemplarsOf(t, 5, `
		L1 read 5 $0
		L1 sample inferred grpc acme.Shop/GetItem
		L1 write 5 $1
		G7 read 6 $0
		G8 write 6 $1`,
		preface+settings+tracedCall(1, "/acme.Shop/GetItem", 1), settings+ok(1))
	wantLines(t, got, "1 service-1 acme.Shop/GetItem 2xx 2ms 10ms", "1 service-1 acme.Shop/GetItem 2xx 1ms unknown")
	s.wantTraces(2, 0, 0)
}

func TestTraceparentsRefused(t *testing.T) {
	const head = "GET /a HTTP/1.1\r\n"
	const line = "traceparent: 00-" + aTrace + "-" + aSpan + "-01\r\n"
	s, got := exemplarsOf(t, 5, `
		T1 read 5 $0
		T1 write 5 200
		T1 read 5 $1
		T1 write 5 200
		T1 read 5 $2
		T1 write 5 200
		T1 read 5 $3 of 2000
		T1 write 5 200
		T1 read 5 GET /a
		T1 write 5 200`,
		head+line+line+"\r\n", head+strings.Replace(line, "00-", "ff-", 1)+"\r\n", head+"traceparent:\r\n\r\n", head+line[:40])
	wantLines(t, got)
	s.wantTraces(0, 3, 1)
}

// Of pipelined requests that were not all seen, an answer may be that of another one.
func TestExemplarsOfHiddenRequests(t *testing.T) {
	s, got := exemplarsOf(t, 5, `
		T1 read 5 $0
		T1 write 5 200
		T1 read 5 $0 of 900
		T1 write 5 200`, traced("GET /a", 1))
	wantLines(t, got, "1 service-1 GET /a 2xx 1ms 0s")
	s.wantTraces(2, 0, 0)
}

// What is read as a header says the same when it is written.
func FuzzParseTraceparent(f *testing.F) {
	f.Add([]byte("00-" + aTrace + "-" + aSpan + "-01"))
	f.Add([]byte("cc-" + aTrace + "-" + aSpan + "-fe-more"))
	f.Fuzz(func(t *testing.T, value []byte) {
		if p, ok := parseTraceparent(value); ok && !strings.HasPrefix(string(value[2:]), "-"+p.trace.String()+"-"+p.span.String()+"-") {
			t.Errorf("%q is read as %s and %s", value, p.trace, p.span)
		}
	})
}

// With no exemplars asked for, nobody looks.
func TestExemplarsOff(t *testing.T) {
	s, got := exemplarsOf(t, 0, `
		T1 read 5 $0
		T1 write 5 200
		T1 read 6 $1
		T1 write 6 $2`,
		traced("GET /a", 1), preface+settings+tracedCall(1, "/acme.Shop/GetItem", 1), settings+ok(1))
	wantLines(t, got)
	s.wantTraces(0, 0, 0)
}

// Each of the requests of a handler is as likely to be kept as any other: the counts
// are held against a chi-squared distribution.
func TestReservoir(t *testing.T) {
	const kept, requests, windows = 5, 40, 20_000
	x := newExemplars(kept, rand.New(rand.NewPCG(3, 4)), prometheus.NewCounter(prometheus.CounterOpts{}))
	h := &handler{}
	var counts [requests]float64
	for range windows {
		for i := range requests {
			x.add(h, &trace{status: i + 1})
		}
		if n := len(x.of[h].kept); n != kept {
			t.Fatalf("%d are kept, want %d", n, kept)
		}
		for _, one := range x.of[h].kept {
			counts[one.status-1]++
		}
		x.take(time.Time{}, ofSomebody)
	}
	const expected = float64(windows) * kept / requests
	var squares float64
	for _, n := range counts {
		squares += (n - expected) * (n - expected) / expected
	}
	// Without replacement the sum is smaller by 1 - kept/requests; 39 degrees of
	// freedom, more than six standard deviations.
	degrees := float64(requests - 1)
	if squares /= 1 - float64(kept)/requests; squares > degrees+6*math.Sqrt(2*degrees) {
		t.Errorf("chi-squared is %.0f with %v degrees of freedom: %v", squares, degrees, counts)
	}
}

// All handlers together have a bound. One that it cuts short is sampled as evenly, and
// what does not fit is counted.
func TestReservoirsTogether(t *testing.T) {
	const windows, requests = 1000, 8
	leftOut := prometheus.NewCounter(prometheus.CounterOpts{})
	x := newExemplars(4, rand.New(rand.NewPCG(5, 6)), leftOut)
	cut, late := new(handler), new(handler)
	var counts [requests]float64
	for range windows {
		for range sample.MaxExemplars - 1 {
			x.add(&handler{}, new(trace))
		}
		for i := range requests {
			x.add(cut, &trace{status: i + 1}) // there is room for one
		}
		x.add(late, new(trace))
		counts[x.of[cut].kept[0].status-1]++
		if n := len(x.take(time.Time{}, ofSomebody)); n != sample.MaxExemplars {
			t.Fatalf("%d exemplars, want %d", n, sample.MaxExemplars)
		}
	}
	if n := testutil.ToFloat64(leftOut); n != windows*requests {
		t.Errorf("%v left out, want %v", n, windows*requests)
	}
	for i, n := range counts {
		if want := float64(windows) / requests; math.Abs(n-want) > 6*math.Sqrt(want) {
			t.Errorf("request %d is kept %v times, want %v", i, n, want)
		}
	}
}
