// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A story is told line by line, a millisecond each:
//
//	T1 read 5 GET /a            thread 1 reads a request from socket 5
//	T1 read 5 GET /a + GET /b   two of them at once
//	T1 read 5 "GE" / of 300     raw bytes; how many moved, if more
//	T1 write 5 200              it writes an answer, or 500 + 200
//	T1 write 5 GET /a           it writes a request
//	T1 sample exact GET /a      a tick there, and what must be said of it in the end
//	T1 wait                     its turn ends
//	passed 9                    so many requests are passed over before the next line
//	T1 late unattributed        a tick that happened before the line above
//	decided                     no sample waits
//	counted GET /a 1            so many requests of a handler are over
//
// Who: T1 a thread whose sockets block, L1 one with an event loop, G1 a
// goroutine, G2<1 one that goroutine 1 started, U1 unknown, R1 the runtime.
// 2:T1 is in process 2.
type story struct {
	t       *testing.T
	engine  *Engine
	now     uint64
	watched map[uint64]bool
	passed  int
	// said is what was decided of each sample, in their order.
	said, want []string
	lines      []string
	// calls is how often that was.
	calls []int
}

// oneTick is the weight of samples at 100 Hz.
var oneTick = sample.Weight{Ticks: 1, Period: 10e6}

func newStory(t *testing.T) *story {
	s := &story{t: t, watched: make(map[uint64]bool)}
	engine, err := New(Options{
		Identify:   func(pid uint32, _ bool) Identity { return known(fmt.Sprintf("service-%d", pid))(pid, true) },
		Watch:      func(socket uint64, everything bool) { s.watched[socket] = everything },
		Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.engine, s.now = engine, uint64(time.Hour)
	return s
}

func tell(t *testing.T, text string) *story {
	t.Helper()
	s := newStory(t)
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			s.line(line)
		}
	}
	s.engine.Flush()
	s.check()
	return s
}

func (s *story) check() {
	s.t.Helper()
	for i, want := range s.want {
		if s.calls[i] != 1 {
			s.t.Errorf("%s: decided %d times", s.lines[i], s.calls[i])
		}
		if s.said[i] != want {
			s.t.Errorf("%s: got %s", s.lines[i], s.said[i])
		}
	}
	checkTables(s.t, s.engine)
}

func (s *story) line(line string) {
	s.t.Helper()
	s.now += uint64(time.Millisecond)
	words := strings.Fields(line)
	switch words[0] {
	case "after":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.now += uint64(d)
		return
	case "lost":
		s.engine.LostActivities(1)
		return
	case "passed":
		s.passed = int(number1(s.t, words[1]))
		return
	case "flush":
		s.engine.Flush()
		return
	case "exited":
		s.engine.Exited(uint32(number1(s.t, words[1])))
		return
	case "decided":
		if n := s.engine.waiting.n; n != 0 {
			s.t.Errorf("%s: %d samples wait", line, n)
		}
		return
	case "counted":
		name, want := strings.Join(words[1:len(words)-1], " "), words[len(words)-1]
		if got := s.counted(name); strconv.Itoa(got) != want {
			s.t.Errorf("%s: %d are", line, got)
		}
		return
	case "watched":
		if !s.watched[number1(s.t, words[1])] {
			s.t.Errorf("%s: it is not", line)
		}
		return
	}
	pid, tid, x, loop := who(s.t, words[0])
	if words[1] == "sample" || words[1] == "late" {
		if words[1] == "late" {
			s.now -= uint64(1500 * time.Microsecond)
			defer func() { s.now += uint64(1500 * time.Microsecond) }()
		}
		s.sample(line, &sample.Sample{Process: sample.Process{PID: pid}, TID: tid, Executor: x}, strings.Join(words[2:], " "))
		return
	}
	a := &sample.Activity{Time: s.now, PID: pid, TID: tid, Executor: x, Nonblocking: loop, Passed: s.passed}
	s.passed = 0
	if len(words) > 2 {
		a.Socket = number1(s.t, words[2])
		what := strings.TrimSpace(line[strings.Index(line, " "+words[2])+len(words[2])+1:])
		a.Data, a.Bytes = bytesOf(s.t, what)
	}
	a.Kind = map[string]sample.ActivityKind{
		"read": sample.Read, "write": sample.Write, "close": sample.Close, "wait": sample.Wait,
	}[words[1]]
	if a.Kind == 0 {
		s.t.Fatalf("%s: what?", line)
	}
	s.engine.Activity(a)
	for i := range a.Data {
		a.Data[i] = 'x' // it is not kept
	}
}

// counted is how many requests of a handler are over.
func (s *story) counted(name string) (n int) {
	for _, of := range s.engine.handlers.services {
		for _, h := range of.handlers {
			if said(h.labels) == name {
				n += int(testutil.ToFloat64(h.requests))
			}
		}
	}
	return n
}

// sample gives the engine one; want is such as "exact GET /a", "inferred GET /a
// by deferred" or "ambiguous".
func (s *story) sample(line string, tick *sample.Sample, want string) {
	tick.Time = s.now
	if tick.Weight == (sample.Weight{}) {
		tick.Weight = oneTick
	}
	claimed := strings.HasPrefix(want, "exact") || strings.HasPrefix(want, "inferred")
	if claimed && !strings.Contains(want, " by ") {
		want += " by socket"
	}
	i := len(s.want)
	s.want, s.lines = append(s.want, want), append(s.lines, line)
	s.said, s.calls = append(s.said, ""), append(s.calls, 0)
	s.engine.Sample(tick, func(h sample.Handler) {
		s.calls[i]++
		s.said[i] = said(h)
	})
}

func said(h sample.Handler) string {
	parts := []string{string(h.Attribution), h.HTTPMethod, h.HTTPRoute, h.URLTemplate, h.RPCSystem, h.RPCMethod}
	if h.Source != "" {
		parts = append(parts, "by "+string(h.Source))
	}
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), " ")
}

func who(t *testing.T, name string) (pid, tid uint32, x sample.Executor, loop bool) {
	t.Helper()
	pid = 1
	if p, rest, ok := strings.Cut(name, ":"); ok {
		pid, name = uint32(number1(t, p)), rest
	}
	id, parent, _ := strings.Cut(name[1:], "<")
	n := number1(t, id)
	tid = pid*100 + uint32(n)
	switch name[0] {
	case 'T':
		x.Kind = sample.Thread
	case 'L':
		x.Kind, loop = sample.Thread, true
	case 'G':
		x.Kind, x.Goroutine, loop = sample.Goroutine, n, true
		tid = pid*100 + uint32(n)%3 // goroutines share threads
		if parent != "" {
			x.Parent = number1(t, parent)
		}
	case 'U':
		x.Kind = sample.UnknownExecutor
	case 'R':
		x.Kind = sample.RuntimeExecutor
	default:
		t.Fatalf("who is %s?", name)
	}
	return pid, tid, x, loop
}

func number1(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// bytesOf gives the bytes that a line speaks of.
func bytesOf(t *testing.T, what string) (data []byte, total int64) {
	t.Helper()
	what, of, _ := strings.Cut(what, " of ")
	for part := range strings.SplitSeq(what, " + ") {
		switch {
		case strings.HasPrefix(part, `"`):
			raw, err := strconv.Unquote(part)
			if err != nil {
				t.Fatalf("%s: %v", part, err)
			}
			data = append(data, raw...)
		case part != "" && part[0] >= '1' && part[0] <= '5':
			data = append(data, "HTTP/1.1 "+part+" Fine\r\nContent-Length: 2\r\n\r\nok"...)
		case part != "":
			data = append(data, part+" HTTP/1.1\r\nHost: localhost\r\n\r\n"...)
		}
	}
	total = int64(len(data))
	if of != "" {
		total = int64(number1(t, of))
		data = data[:min(len(data), int(total))]
	}
	return data, total
}

// checkTables finds contradictions in what the engine keeps.
func checkTables(t testing.TB, e *Engine) {
	t.Helper()
	requests, streams, open := 0, 0, make(map[*executor]int)
	for _, s := range e.sockets {
		n := 0
		for r := s.first; r != nil; r = r.nextSock {
			if r.serial == 0 || r.sock != s {
				t.Errorf("socket %d has a request that is over", s.id)
			}
			if r.open {
				open[r.reader]++
			}
			if r.stream != 0 {
				streams++
				if e.streams[streamKey{s.id, r.stream}] != r {
					t.Errorf("stream %d of socket %d is not found", r.stream, s.id)
				}
			}
			n++
		}
		if n != s.n {
			t.Errorf("socket %d has %d requests and counts %d", s.id, n, s.n)
		}
		requests += n
	}
	if requests != e.requestList.n {
		t.Errorf("%d requests, counted %d", requests, e.requestList.n)
	}
	if streams != len(e.streams) {
		t.Errorf("%d requests on streams, found %d", streams, len(e.streams))
	}
	pending := 0
	for _, x := range e.executors {
		n := 0
		for r := x.first; r != nil; r = r.nextOpen {
			n++
		}
		if n != x.open || n != open[x] {
			t.Errorf("executor %v has %d open requests, counts %d, on sockets %d", x.key, n, x.open, open[x])
		}
		if e.processes[x.key.pid] != x.proc {
			t.Errorf("executor %v is of a process that is forgotten", x.key)
		}
		pending += x.pending
	}
	if pending != e.waiting.n {
		t.Errorf("%d samples wait, counted %d", pending, e.waiting.n)
	}
	if e.socketList.n != len(e.sockets) || e.executorList.n != len(e.executors) {
		t.Errorf("lists of %d sockets and %d executors, tables of %d and %d",
			e.socketList.n, e.executorList.n, len(e.sockets), len(e.executors))
	}
}

func TestStories(t *testing.T) {
	all := stories()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) { tell(t, all[name]) })
	}
}
