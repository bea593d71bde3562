// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestNewWithoutOptions(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("no error")
	}
}

// What the program itself says comes before all else.
func TestPublished(t *testing.T) {
	goroutine := func(id, parent uint64) sample.Executor {
		return sample.Executor{Kind: sample.Goroutine, Goroutine: id, Parent: parent}
	}
	for _, tt := range []struct {
		name     string
		executor sample.Executor
		request  sample.Request
		want     string
	}{
		{
			"route", goroutine(1, 0), sample.Request{Source: "goroutine", Goroutine: 1, Method: "GET", Path: "/a/1", Route: "GET host/a/{id}"},
			"exact GET /a/{id} by goroutine",
		},
		{
			"path", goroutine(1, 0), sample.Request{Source: "uprobe", Goroutine: 1, Method: "PUT", Path: "/a/1?secret"},
			"exact PUT /a/{number} by uprobe",
		},
		{
			"call", goroutine(1, 0), sample.Request{Source: "goroutine", Goroutine: 1, RPC: "/acme.Shop/GetItem"},
			"exact grpc acme.Shop/GetItem by goroutine",
		},
		{
			"of the parent", goroutine(2, 1), sample.Request{Source: "goroutine", Goroutine: 1, Method: "GET", Path: "/a"},
			"inferred GET /a by goroutine",
		},
		{
			"a path that goes on", goroutine(1, 0), sample.Request{Source: "goroutine", Goroutine: 1, Method: "GET", Path: "/files/aa", PathCut: true},
			"exact GET /files/{rest} by goroutine",
		},
		{
			"a connection that became HTTP/2", goroutine(1, 0),
			sample.Request{Source: "goroutine", Goroutine: 1, Method: "PRI", Path: "*"}, "unattributed",
		},
		{
			"whoever it started", goroutine(2, 1),
			sample.Request{Source: "goroutine", Goroutine: 1, Method: "PRI", Path: "*"}, "unattributed",
		},
		{"of a stranger", goroutine(2, 1), sample.Request{Source: "goroutine", Goroutine: 9, Method: "GET", Path: "/a"}, "unattributed"},
		{"label of a thread", sample.Executor{}, sample.Request{Source: "label", Route: "/a"}, "exact /a by label"},
		{"method unknown", goroutine(1, 0), sample.Request{Source: "label", Goroutine: 1, Method: "BREW", Path: "/a"}, "exact _OTHER /a by label"},
		{"empty", sample.Executor{Kind: sample.RuntimeExecutor}, sample.Request{Source: "label"}, "runtime"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStory(t)
			s.sample(tt.name, &sample.Sample{Process: sample.Process{PID: 1}, Executor: tt.executor, Request: tt.request}, tt.want)
			s.engine.Flush()
			s.check()
		})
	}
}

// A goroutine that goes on from one request of its parent to the next is
// background work, wherever the requests were learned from.
func TestPublishedBackground(t *testing.T) {
	s := newStory(t)
	child := sample.Executor{Kind: sample.Goroutine, Goroutine: 2, Parent: 1}
	for _, path := range []string{"/a", "/b", "/b"} {
		s.sample(path, &sample.Sample{
			Process: sample.Process{PID: 1}, Executor: child,
			Request: sample.Request{Source: "goroutine", Goroutine: 1, Method: "GET", Path: path},
		}, "unattributed")
	}
	s.engine.Flush()
	s.check()
}

func TestHandlersOfAServiceAreBounded(t *testing.T) {
	s := newStory(t)
	s.engine.handlers.perService = 3
	for i, want := range []string{"/a", "/b", "/c", "other", "other", "/a"} {
		path := "/" + string("abcdea"[i])
		s.line("T1 read 5 GET " + path)
		s.line("T1 sample exact GET " + want)
		s.line("T1 write 5 200")
	}
	s.engine.Flush()
	s.check()
}

// Nor do many services with many handlers each take more than is theirs.
func TestHandlersOfAllServicesAreBounded(t *testing.T) {
	registry := prometheus.NewRegistry()
	h := newHandlers(500, newRequestMetrics(registry))
	before := inUse()
	for i := range 300 {
		s := h.service(fmt.Sprint("service ", i))
		for j := range 500 {
			h.template(s, methods[j%len(methods)], fmt.Sprint("/", j)).duration.Observe(1)
		}
	}
	if grown := inUse() - before; grown > 32<<20 {
		t.Errorf("%d MiB are held", grown>>20)
	}
	n, err := testutil.GatherAndCount(registry, "fleetprof_rpc_requests_total")
	if most := maxHandlers + len(methods); err != nil || n > most || n < maxHandlers {
		t.Errorf("%d handlers, %v, want %d to %d", n, err, maxHandlers, most)
	}
	if got := h.template(h.service("service 299"), "GET", "/new").labels.URLTemplate; got != other {
		t.Errorf("one more is %q", got)
	}
	if got := h.template(h.service("service 0"), "GET", "/0").labels.URLTemplate; got != "/0" {
		t.Errorf("one that is known is %q", got)
	}
}

// A sample counts for what it stands for, also if it had to wait.
func TestSamplesCountByWeight(t *testing.T) {
	s := newStory(t)
	weighed := func(want string) {
		s.sample(want, &sample.Sample{
			Weight:  sample.Weight{Ticks: 10, Period: 2e6},
			Process: sample.Process{PID: 1}, TID: 101, Executor: sample.Executor{Kind: sample.Thread},
		}, want)
	}
	s.line("T1 read 5 GET /a")
	weighed("exact GET /a")
	s.line("T1 write 5 200")
	s.line("T1 read 5 GET /a")
	weighed("exact GET /a")
	s.line("T1 sample exact GET /a")
	s.line("T1 write 5 200")
	weighed("unattributed")
	s.check()
	p := s.engine.processes[1]
	h, _ := s.engine.handlers.path(p.service, []byte("GET"), []byte("/a"), false)
	if got := testutil.ToFloat64(h.cpu); got != .05 {
		t.Errorf("%v s of CPU time, want 0.05", got)
	}
	if got := testutil.ToFloat64(s.engine.metrics.samples[sample.Exact]); got != 21 {
		t.Errorf("%v exact samples, want 21", got)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	e, err := New(Options{
		Identify: known("shop"), Watch: func(uint64, bool) {}, Registerer: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := newStory(t)
	s.engine = e
	for line := range strings.Lines("T1 read 5 GET /a\nT1 sample exact GET /a\nT1 sample exact GET /a\nT1 write 5 500\nT1 sample unattributed\n") {
		s.line(strings.TrimSpace(line))
	}
	s.check()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			labels := ""
			for _, l := range m.Label {
				if l.GetValue() != "" {
					labels += " " + l.GetName() + "=" + l.GetValue()
				}
			}
			switch {
			case m.Counter != nil:
				got[f.GetName()+labels] = m.Counter.GetValue()
			case m.Histogram != nil:
				got[f.GetName()+labels] = m.Histogram.GetSampleSum()
			}
		}
	}
	const of = " http_request_method=GET service_name=shop url_template=/a"
	for name, want := range map[string]float64{
		"fleetprof_rpc_requests_total" + of: 1, "fleetprof_rpc_errors_total" + of: 1,
		"fleetprof_rpc_cpu_seconds_total" + of: .02, "fleetprof_rpc_duration_seconds" + of: .003,
		"fleetprof_rpc_samples_total request_attribution=exact":        2,
		"fleetprof_rpc_samples_total request_attribution=unattributed": 1,
		"fleetprof_rpc_ended_total by=answer":                          1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

// Whatever comes, memory is bounded, and each sample is decided.
func TestHostileLoad(t *testing.T) {
	s := newStory(t)
	decided, samples := 0, 0
	before := inUse()
	for i := range 200_000 {
		s.now += 1000
		a := &sample.Activity{
			Time: s.now, PID: uint32(i % 50_000), TID: uint32(i), Socket: uint64(i % 70_000), Kind: sample.Read,
			Executor: sample.Executor{Kind: sample.Thread}, Nonblocking: i%3 == 0,
		}
		a.Data = fmt.Appendf(nil, "GET /%x/%d HTTP/1.1\r\n\r\n", i*2654435761, i)
		if i%5 == 0 {
			a.Data = fmt.Appendf(nil, "POST /%x/%s", i, strings.Repeat("a", 400)) // never ends
		}
		if i%7 == 0 {
			a.Data = append([]byte(preface+settings), get(1, "/x")...)
		}
		a.Bytes = int64(len(a.Data))
		s.engine.Activity(a)
		samples++
		s.engine.Sample(&sample.Sample{
			Time: s.now, Weight: oneTick, Process: sample.Process{PID: a.PID}, TID: a.TID, Executor: a.Executor,
		}, func(sample.Handler) { decided++ })
	}
	if grown := inUse() - before; grown > 64<<20 {
		t.Errorf("%d MiB are held", grown>>20)
	} else {
		t.Logf("%d MiB are held", grown>>20)
	}
	e := s.engine
	if len(e.sockets) > maxSockets || len(e.executors) > maxExecutors || len(e.processes) > maxProcesses ||
		e.requestList.n > maxRequests || len(e.waiting.all) > maxPending || len(e.handlers.cache) > maxCached {
		t.Errorf("%d sockets, %d executors, %d processes, %d requests, %d samples, %d paths", len(e.sockets), len(e.executors),
			len(e.processes), e.requestList.n, len(e.waiting.all), len(e.handlers.cache))
	}
	e.Flush()
	if decided != samples {
		t.Errorf("%d of %d samples are decided", decided, samples)
	}
	checkTables(t, e)
}

func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A flood of requests on one connection costs no more than its queue.
func TestFloodOnOneSocket(t *testing.T) {
	s := newStory(t)
	for range 2 * maxQueued {
		s.line("T1 read 5 GET /a + GET /b")
	}
	s.line("T1 sample unattributed")
	if s.engine.requestList.n > maxQueued {
		t.Errorf("%d requests are open", s.engine.requestList.n)
	}
	s.check()
}

// flood reads so many requests, on connections that no story uses.
func (s *story) flood(requests int) {
	for i := 0; i < requests; i += maxQueued {
		data := []byte(strings.Repeat("GET / HTTP/1.1\r\n\r\n", min(maxQueued, requests-i)))
		s.engine.Activity(&sample.Activity{
			Time: s.now, PID: 2, TID: uint32(i), Executor: sample.Executor{Kind: sample.Thread}, Socket: 1<<32 + uint64(i),
			Kind: sample.Read, Data: data, Bytes: int64(len(data)),
		})
	}
}

// Nor do many connections with many requests each.
func TestFloodOnManySockets(t *testing.T) {
	s := newStory(t)
	s.flood(2 * maxRequests)
	if s.engine.requestList.n != maxRequests {
		t.Errorf("%d requests are open", s.engine.requestList.n)
	}
	s.check()
}

// If a request gives way, those behind it on its connection are not what is served now.
func TestPipelinedRequestGivesWay(t *testing.T) {
	s := newStory(t)
	for line := range strings.Lines(strings.TrimSpace(warm)) {
		s.line(strings.TrimSpace(line))
	}
	s.line("T1 read 5 GET /a + GET /b")
	s.line("T1 sample ambiguous")
	s.flood(maxRequests - 1)
	s.line("T1 sample unattributed")
	s.check()
}

// The oldest samples give way, decided by what is known then.
func TestTooManySamplesWait(t *testing.T) {
	s := newStory(t)
	s.line("T1 read 5 GET /a")
	decided := 0
	for range maxPending + 5 {
		s.engine.Sample(&sample.Sample{
			Time: s.now, Process: sample.Process{PID: 1}, TID: 101, Executor: sample.Executor{Kind: sample.Thread},
		}, func(h sample.Handler) {
			decided++
			if want := sample.Ambiguous; decided <= 5 && h.Attribution != want || decided > 5 && h.Attribution != sample.Exact {
				t.Errorf("sample %d is %s", decided, h.Attribution)
			}
		})
	}
	if decided != 5 {
		t.Errorf("%d samples gave way", decided)
	}
	s.line("T1 write 5 200")
	if decided != maxPending+5 {
		t.Errorf("%d samples are decided", decided)
	}
}

// Upstream sockets are followed as long as that is cheap.
func TestFollowingIsBounded(t *testing.T) {
	s := newStory(t)
	s.tell("L1 read 5 GET /a", "L1 write 105 GET /a", "L1 wait", "L1 read 105 200", "L1 wait", "watched 105")
	for range maxFollowed + 1 {
		s.now -= uint64(time.Millisecond - time.Microsecond)
		s.line(`L1 read 105 "more"`)
	}
	if s.watched[105] {
		t.Error("it goes on")
	}
	s.tell("L1 wait")
	if s.watched[105] {
		t.Error("it begins anew at once")
	}
	s.tell("after 61s", `L1 read 105 "more"`, "L1 wait", "watched 105")
}
