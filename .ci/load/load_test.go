// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server/ingest"
	"github.com/fleetprof/fleetprof/server/query"
	"github.com/fleetprof/fleetprof/server/store"
)

// TestProfiles has profile.Parse read what hosts send.
func TestProfiles(t *testing.T) {
	f, err := newFleet(11, true, 1)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Unix(1_700_000_000, 0)
	for _, h := range f.hosts {
		w := f.draw(h, 100)
		sent, err := f.encode(w, start)
		if err != nil {
			t.Fatal(err)
		}
		p, err := profile.Parse(bytes.NewReader(sent.PProf))
		if err == nil {
			err = p.CheckValid()
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Sample) != 100 || p.TimeNanos != start.UnixNano() || p.DurationNanos != windowLength.Nanoseconds() {
			t.Errorf("%s: %d samples from %d on for %d ns", h.name, len(p.Sample), p.TimeNanos, p.DurationNanos)
		}
		seen, samples := map[string]bool{}, int64(0)
		for _, s := range p.Sample {
			key := fmt.Sprint(s.Label)
			for _, l := range s.Location {
				key += fmt.Sprintf(" %d", l.ID)
			}
			if seen[key] {
				t.Errorf("%s: two samples with one stack and labels", h.name)
			}
			seen[key] = true
			samples += s.Value[0]
			if label(s, "host_name") != h.name || label(s, "process_executable_name") == "" || len(s.Location) == 0 {
				t.Errorf("%s: a sample with labels %v and %d locations", h.name, s.Label, len(s.Location))
			}
		}
		if samples != sent.Samples {
			t.Errorf("%s: %d samples are said, %d sent", h.name, sent.Samples, samples)
		}
	}
}

// A fleet is the same for the same seed, and its stacks that were not recorded are the same
// whenever they come.
func TestFleetIsReproducible(t *testing.T) {
	var all [2][]byte
	for i := range all {
		f, err := newFleet(2, true, 7)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			p, err := f.encode(f.draw(f.hosts[1], 50), time.Unix(1, 0))
			if err != nil {
				t.Fatal(err)
			}
			all[i] = append(all[i], p.PProf...)
		}
		first := fmt.Sprint(f.grownPlaces(f.services[0], 3))
		f.grownPlaces(f.services[0], 4)
		if again := fmt.Sprint(f.grownPlaces(f.services[0], 3)); again != first {
			t.Error("a stack has changed")
		}
	}
	if !bytes.Equal(all[0], all[1]) {
		t.Error("two fleets of one seed differ")
	}
}

// What agents have sent is what the server has stored, whether they send one after the
// other or all at once.
func TestSentIsStored(t *testing.T) {
	for _, atOnce := range []bool{false, true} {
		t.Run(fmt.Sprint("atOnce=", atOnce), func(t *testing.T) {
			s, err := store.Open(t.TempDir(), store.Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			l := live{agents: 6, growing: true, lines: 50, windows: 2, every: 50 * time.Millisecond, atOnce: atOnce}
			if atOnce {
				l.windows = 1
			}
			tally, cost, begin := newTally(l.agents*l.windows), wireCosts(t), time.Time{}
			if err := l.simulate(t.Context(), listen(t, s), tally, cost, &begin); err != nil {
				t.Fatal(err)
			}
			if tally.refused > 0 || tally.sent != l.agents*l.windows {
				t.Errorf("%d profiles were sent, %d attempts refused: %v", tally.sent, tally.refused, tally.reasons)
			}
			if got := samplesIn(t, s, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)); got != tally.samples || got == 0 {
				t.Errorf("%d samples are stored, %d were sent", got, tally.samples)
			}
		})
	}
}

// TestDay fills a store as a day does and has all of it answered.
func TestDay(t *testing.T) {
	d := day{agents: 3, growing: true, lines: 40, hours: 0.05, repeat: 1, dir: filepath.Join(t.TempDir(), "data"), out: t.Output()}
	f, err := d.fill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := samplesIn(t, f.Store, f.from, f.to); got != f.samples || got < 3*40*18 {
		t.Errorf("%d samples are stored, %d were appended", got, f.samples)
	}
	for _, answer := range answers {
		rounds, err := f.ask(t.Context(), answer, f.from, f.to)
		if err != nil {
			t.Fatal(err)
		}
		for _, times := range rounds {
			if len(times.all) < 10 || len(times.over) > 0 {
				t.Errorf("%s: %d selectors have an answer, %v do not", answer, len(times.all), times.over)
			}
		}
	}
}

// wireCosts makes a wireCost.
func wireCosts(t testing.TB) *wireCost {
	t.Helper()
	c, err := newWireCost()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// listen has the server's own handlers store what arrives on loopback.
func listen(t *testing.T, s *store.Store) (url string) {
	t.Helper()
	in, err := ingest.New(s, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	in.Register(mux)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(ln) }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })
	return "http://" + ln.Addr().String()
}

// samplesIn adds up what is stored, by reading the merged profile.
func samplesIn(t *testing.T, s *store.Store, from, to time.Time) (sum int64) {
	t.Helper()
	api, err := query.New(query.Options{Store: s, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.Parse(mergedBy(t, api, "{}", from, to))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Sample {
		sum += s.Value[0]
	}
	return sum
}

// mergedBy asks for a merged profile as go tool pprof does.
func mergedBy(t testing.TB, api *query.API, selector string, from, to time.Time) *bytes.Buffer {
	t.Helper()
	mux := http.NewServeMux()
	api.Register(mux)
	ask := url.Values{"query": {selector}, "from": {from.Format(time.RFC3339Nano)}, "to": {to.Format(time.RFC3339Nano)}}
	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/api/v1/pprof?"+ask.Encode(), nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("%d: %s", answer.Code, answer.Body)
	}
	return answer.Body
}

// TestCondense condenses two windows of one host, of which names and other programs must
// not be left.
func TestCondense(t *testing.T) {
	dir := t.TempDir()
	mapping := &profile.Mapping{ID: 1, Limit: 1 << 20, File: "/home/somebody/bin/server"}
	fun := func(id uint64, name string) *profile.Function {
		return &profile.Function{ID: id, Name: name, Filename: "/home/somebody/" + name + ".go"}
	}
	a, b := fun(1, "a"), fun(2, "b")
	la := &profile.Location{ID: 1, Mapping: mapping, Address: 16, Line: []profile.Line{{Function: a, Line: 3}}}
	lb := &profile.Location{ID: 2, Mapping: mapping, Address: 32, Line: []profile.Line{{Function: b, Line: 4}}}
	line := func(program string, n int64, stack ...*profile.Location) *profile.Sample {
		return &profile.Sample{Location: stack, Value: []int64{n, n * period}, Label: map[string][]string{
			"host_name": {"secret"}, "process_executable_name": {program}, "process_pid": {"7"}, "thread_name": {"main"},
		}}
	}
	for i, samples := range [][]*profile.Sample{
		{line("node", 2, la, lb), line("private", 1, lb)},
		{line("node", 3, la, lb), line("node", 1, lb)},
	} {
		p := &profile.Profile{
			SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
			PeriodType: &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: period, TimeNanos: int64(i) + 1, Sample: samples,
			Mapping: []*profile.Mapping{mapping}, Function: []*profile.Function{a, b}, Location: []*profile.Location{la, lb},
		}
		writeProfile(t, filepath.Join(dir, fmt.Sprintf("%d.pb.gz", i)), p)
	}
	to := filepath.Join(t.TempDir(), "host.pb.gz")
	if err := condense(dir, to, t.Output()); err != nil {
		t.Fatal(err)
	}
	gz := readFile(t, to)
	programs, err := readRecording(gz)
	if err != nil {
		t.Fatal(err)
	}
	node := programs["node"]
	if len(programs) != 1 || node == nil || len(node.lines) != 2 || node.samples != 6 || node.distinct != 2 || node.processes != 1 {
		t.Errorf("recorded are %+v", node)
	}
	p, err := profile.ParseData(gz)
	if err != nil {
		t.Fatal(err)
	}
	for _, private := range []string{"somebody", "secret", "private"} {
		if strings.Contains(p.String(), private) {
			t.Errorf("the recording says %q", private)
		}
	}
}
