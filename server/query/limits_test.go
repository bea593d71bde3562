// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/query"
)

var endpoints = []string{"pprof", "flamegraph", "diff", "series", "exemplars", "types", "labels", "labels/host_name/values"}

// TestHostileParameters: each is refused with its name, what was wrong and what is possible, and
// the next question is answered.
func TestHostileParameters(t *testing.T) {
	f := newFixture(t, query.Options{MaxConcurrent: 1})
	twoHosts(f)
	repeated := `{thread_name=~"` + strings.Repeat("(.?){1000}", 50) + `"}`
	for _, c := range []struct{ endpoint, name, value, want string }{
		{"", "query", repeated, "repetitions such as x{1000}"},
		{"", "query", `{host_name!~"` + strings.Repeat("((.{30}){30}x?)", 40) + `"}`, "repetitions such as x{1000}"},
		{"", "query", "{" + strings.Repeat(`a!="",`, 200) + "}", "more than 128 matchers"},
		{"", "query", "{" + strings.Repeat(`a!="b",`, 10_000) + "}", "want at most 16384"},
		{"", "query", `{a="` + strings.Repeat("x", 100_000) + `"}`, "want at most 16384"},
		{"", "query", strings.Repeat("{", 10_000), "position"},
		{"", "query", `{a=~"` + strings.Repeat("(", 5000) + strings.Repeat(")", 5000) + `"}`, "parameter query"},
		{"", "type", strings.Repeat(":", 10_000), "want NAME"},
		{"", "from", "2300-01-01T00:00:00Z", "parameter from"},
		{"", "to", "9223372036854775807", "parameter to"},
		{"", "to", "now+100000w", "parameter to"},
		{"", "last", "9999999999999d", "parameter last"},
		{"", "seconds", "-1", "parameter seconds"},
		{"series", "step", "1ns", "from 1ms to 365d"},
		{"series", "step", "100000d", "from 1ms to 365d"},
		{"series", "step", "9223372036854775807s", "from 1ms to 365d"},
		{"series", "by", strings.Repeat("a,", 10_000), "at most 8"},
		{"flamegraph", "by", "a,b,c,d,e,f,g,h,i", "at most 8"},
		{"flamegraph", "max_nodes", "999999999999", "from 1 to 262144"},
		{"flamegraph", "max_depth", "-1", "from 1 to 1048576"},
		{"diff", "base_query", repeated, "parameter base_query"},
		{"diff", "base_last", "9999999999999d", "parameter base_last"},
		{"exemplars", "limit", "10001", "from 1 to 10000"},
	} {
		for _, endpoint := range endpoints {
			if c.endpoint != "" && c.endpoint != endpoint {
				continue
			}
			resp, body := f.get("/api/v1/"+endpoint, c.name, c.value)
			if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), c.want) || len(body) > 2000 {
				t.Errorf("%s %s=%.60s: %s: %.300s, want %s", endpoint, c.name, c.value, resp.Status, body, c.want)
			}
		}
	}
	equalSums(t, byLabel(f.pprof("from", at(0), "to", at(time.Hour)), "host_name"), map[string]int64{"a": 33, "b": 100})
}

// TestLongRanges: ranges as long as there are, which must neither overflow nor cost more than
// what is stored in them.
func TestLongRanges(t *testing.T) {
	f := newFixture(t, query.Options{MaxConcurrent: 1})
	twoHosts(f)
	for _, span := range [][]string{
		{"from", "0", "to", "2199-12-31T23:59:59Z"},
		{"from", "0"}, {"last", "10000w"}, {"to", "now+1000w", "last", "10000w"},
	} {
		for _, endpoint := range endpoints {
			for _, step := range []string{"365d", "31d"} {
				resp, body := f.get("/api/v1/"+endpoint, append([]string{"step", step, "base_query", "{}"}, span...)...)
				if resp.StatusCode != http.StatusOK {
					t.Errorf("%v %s: %s: %s", span, endpoint, resp.Status, body)
				}
			}
		}
		s := f.series(append([]string{"step", "365d"}, span...)...)
		if s.Total != 133*profiletest.Period {
			t.Errorf("%v: total is %d", span, s.Total)
		}
		if resp, body := f.get("/api/v1/series", append([]string{"step", "1ms"}, span...)...); resp.StatusCode != 400 || !strings.Contains(string(body), "at least") {
			t.Errorf("%v by milliseconds: %s %s", span, resp.Status, body)
		}
	}
	for _, reversed := range [][]string{{"from", at(time.Hour), "to", at(0)}, {"from", at(0), "to", at(0)}, {"from", "now+1h"}} {
		for _, endpoint := range endpoints {
			if resp, body := f.get("/api/v1/"+endpoint, reversed...); resp.StatusCode != 400 || !strings.Contains(string(body), "before the end") {
				t.Errorf("%v %s: %s %s", reversed, endpoint, resp.Status, body)
			}
		}
	}
}

// deep is a window of stacks of so many frames; each is called by the one before, or all by main.
func deep(samples, frames int, chain bool) *profile.Profile {
	p := profiletest.New(base, profiletest.Sample{Stack: "main", Labels: map[string]string{"host_name": "a"}, Count: 1})
	p.Sample = nil
	for i := range frames {
		f := &profile.Function{ID: uint64(i) + 2, Name: fmt.Sprint("f", i)}
		p.Function = append(p.Function, f)
		p.Location = append(p.Location, &profile.Location{ID: uint64(i) + 2, Mapping: p.Mapping[0], Address: p.Mapping[0].Start + uint64(i), Line: []profile.Line{{Function: f}}})
	}
	locations := p.Location[1:]
	for i := range samples {
		s := &profile.Sample{Value: []int64{1, profiletest.Period}, Label: map[string][]string{"host_name": {"a"}, "thread_name": {fmt.Sprint(i)}}}
		for j := range frames {
			at := frames - 1 - j
			if !chain {
				at = (at + i) % frames
			}
			s.Location = append(s.Location, locations[at])
		}
		p.Sample = append(p.Sample, s)
	}
	return p
}

// TestHostileData: what takes more than its memory is an error with the way out, at each
// endpoint that it can happen at, and leaves nothing behind.
func TestHostileData(t *testing.T) {
	var threads []profiletest.Sample
	for i := range 2000 {
		threads = append(threads, profiletest.Sample{Stack: "main", Labels: map[string]string{"host_name": "a", "thread_name": fmt.Sprintf("%0500d", i)}, Count: 1})
	}
	for name, c := range map[string]struct {
		data     *profile.Profile
		limit    int64
		requests []string
		want     string
	}{
		// The stacks together have 45,000 frames.
		"deep stacks": {deep(30, 1500, false), 1 << 20, []string{"pprof?", "flamegraph?", "diff?base_query={}"}, "takes more than 1 MiB of memory"},
		// One stack of 1,500 frames is held once and written five hundred times.
		"large profile": {deep(500, 1500, true), 1 << 20, []string{"pprof?"}, "1 MiB before it is compressed"},
		// Each thread has a long name.
		"groups": {
			profiletest.New(base, threads...), 1 << 20,
			[]string{"series?by=thread_name&step=1h", "series?by=thread_name,host_name&step=1h", "flamegraph?by=thread_name&max_depth=1&max_nodes=262144", "diff?base_query={}&by=thread_name&max_depth=1"},
			"takes more than 1 MiB of memory",
		},
		"values":          {profiletest.New(base, threads...), 1 << 20, []string{"labels/thread_name/values?"}, "takes more than 1 MiB of memory"},
		"groups of steps": {profiletest.New(base, threads...), 256 << 20, []string{"series?by=thread_name&step=1s"}, "groups of 3600 steps"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, query.Options{})
			f.put(c.data)
			mux, registry := serveStore(t, f, query.Options{MaxResult: c.limit, MaxConcurrent: 1})
			for _, path := range c.requests {
				w := ask(mux, path)
				if w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), c.want) || !strings.Contains(w.Body.String(), "narrower selector") {
					t.Errorf("%s: %d %.300s", path, w.Code, w.Body)
				}
			}
			if w := ask(mux, `labels?`); w.Code != http.StatusOK {
				t.Errorf("afterwards: %d %.300s", w.Code, w.Body)
			}
			wantIdle(t, registry)
			// With the default bounds it is no more than a large answer.
			for _, path := range c.requests {
				if resp, err := http.Get(f.url + "/api/v1/" + inRange(path)); err != nil || resp.StatusCode != http.StatusOK && c.limit < 256<<20 {
					t.Errorf("%s with the default bounds: %v %v", path, resp, err)
				} else {
					resp.Body.Close()
				}
			}
		})
	}
}

// inRange adds the first hour.
func inRange(path string) string {
	return strings.ReplaceAll(path, "{}", url.QueryEscape("{}")) + "&from=" + at(0) + "&to=" + at(time.Hour)
}

// serveStore serves the store of a fixture with other bounds.
func serveStore(t *testing.T, f *fixture, o query.Options) (*http.ServeMux, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	o.Store, o.Logger, o.Registerer = f.store, slog.New(slog.DiscardHandler), registry
	api, err := query.New(o)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	api.Register(mux)
	return mux, registry
}

func ask(mux http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/"+inRange(path), nil))
	return w
}

// gauges gives those of queries by name.
func gauges(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		if g := f.Metric[0].Gauge; g != nil {
			all[strings.TrimPrefix(f.GetName(), "fleetprof_query_")] = g.GetValue()
		}
	}
	return all
}

// wantIdle: no query runs or waits, and none has memory.
func wantIdle(t *testing.T, registry *prometheus.Registry) {
	t.Helper()
	if g := gauges(t, registry); g["memory_bytes"] != 0 || g["running"] != 0 || g["waiting"] != 0 {
		t.Errorf("after all queries: %v", g)
	}
}

// TestPanicsLeaveTheirTurn: whatever goes wrong in an answer, the next one has its turn.
func TestPanicsLeaveTheirTurn(t *testing.T) {
	f := newFixture(t, query.Options{})
	twoHosts(f)
	mux, registry := serveStore(t, f, query.Options{MaxConcurrent: 1})
	for range 3 {
		func() {
			defer func() { _ = recover() }()
			mux.ServeHTTP(broken{httptest.NewRecorder()}, httptest.NewRequest(http.MethodGet, "/api/v1/"+inRange("pprof?"), nil))
		}()
	}
	wantIdle(t, registry)
	if w := ask(mux, "pprof?"); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// broken is a client that is gone.
type broken struct{ http.ResponseWriter }

func (broken) Write([]byte) (int, error) { panic(http.ErrAbortHandler) }

// slow is a client that reads when it is told to.
type slow struct {
	*httptest.ResponseRecorder
	asked, read chan struct{}
}

func (s slow) Write(b []byte) (int, error) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-s.read
	return s.ResponseRecorder.Write(b)
}

// TestSlowClients: those who do not read their answer keep others from nothing but its memory.
func TestSlowClients(t *testing.T) {
	f := newFixture(t, query.Options{})
	twoHosts(f)
	mux, registry := serveStore(t, f, query.Options{MaxConcurrent: 1})
	s := slow{httptest.NewRecorder(), make(chan struct{}, 1), make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		mux.ServeHTTP(s, httptest.NewRequest(http.MethodGet, "/api/v1/"+inRange("flamegraph?"), nil))
	}()
	<-s.asked
	if g := gauges(t, registry); g["memory_bytes"] == 0 || g["memory_bytes"] > 64<<10 || g["running"] != 0 {
		t.Errorf("while an answer is sent: %v", g)
	}
	if w := ask(mux, "pprof?"); w.Code != http.StatusOK {
		t.Errorf("another query: %d %s", w.Code, w.Body)
	}
	close(s.read)
	<-done
	wantIdle(t, registry)
}

// TestMemoryIsShared: what is too much for all together is told to come again.
func TestMemoryIsShared(t *testing.T) {
	f := newFixture(t, query.Options{})
	f.put(profiletest.Random(1, "a", base, 100))
	mux, registry := serveStore(t, f, query.Options{MaxResult: 64 << 20, MaxMemory: 30_000})
	w := ask(mux, "pprof?")
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), "--queries-memory") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	wantIdle(t, registry)
}

// TestCancelled: a query ends with its client, where it is.
func TestCancelled(t *testing.T) {
	f := newFixture(t, query.Options{})
	f.put(deep(20, 1000, false))
	for _, path := range []string{"pprof?", "flamegraph?", "series?by=thread_name", "diff?base_query={}", "labels/thread_name/values?"} {
		mux, registry := serveStore(t, f, query.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/"+inRange(path), nil).WithContext(ctx))
		if w.Body.Len() > 0 {
			t.Errorf("%s: %d %.200s", path, w.Code, w.Body)
		}
		wantIdle(t, registry)
	}
}

// TestDeepestStack: the deepest stack that the store takes is drawn, trimmed and written like any other.
func TestDeepestStack(t *testing.T) {
	f := newFixture(t, query.Options{})
	f.put(deep(1, 8192, true))
	span := []string{"from", at(0), "to", at(time.Hour)}
	if p := f.pprof(span...); len(p.Sample) != 1 || len(p.Sample[0].Location) != 8192 {
		t.Errorf("%d samples", len(p.Sample))
	}
	for nodes, want := range map[string]int{"262144": 8193, "10": 10} {
		if g := f.flame(append(span, "max_nodes", nodes)...); len(g.Nodes) != want || g.Total != profiletest.Period || g.Nodes[want-1][2] != int64(want)-1 {
			t.Errorf("%d nodes of %d", len(g.Nodes), g.Total)
		}
	}
}
