// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/ingest"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/uploader/server"
)

// shelf is a store that keeps totals by labels and stack, each id once.
type shelf struct {
	mu     sync.Mutex
	ids    map[[16]byte]bool
	totals map[string]int64
}

func newShelf() *shelf { return &shelf{ids: map[[16]byte]bool{}, totals: map[string]int64{}} }

func (s *shelf) Append(_ context.Context, p *columns.Profile, id [16]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids[id] {
		return nil
	}
	s.ids[id] = true
	for i, set := range p.LabelSet {
		key := map[string]string{}
		for _, l := range p.Labels(int(set)) {
			key[p.Strings[l.Key]] = p.Strings[l.Text]
		}
		var stack []string
		for _, l := range p.Stack(i) {
			stack = append(stack, p.Strings[p.Functions[p.LocationLines(int(l))[0].Function].Name])
		}
		for t, column := range p.Values {
			s.totals[fmt.Sprint(t, key, stack)] += column[i]
		}
	}
	return nil
}

func (s *shelf) PutExemplars(context.Context, time.Time, time.Time, []byte) error { return nil }

// add is what Append should make of a profile, by the reference's reading of it.
func add(totals map[string]int64, p *profile.Profile) {
	for _, s := range p.Sample {
		key := map[string]string{}
		for k, v := range s.Label {
			key[k] = v[0]
		}
		var stack []string
		for _, l := range s.Location {
			stack = append(stack, l.Line[0].Function.Name)
		}
		for t, v := range s.Value {
			totals[fmt.Sprint(t, key, stack)] += v
		}
	}
}

// fault is what happens to a request.
type fault int

const (
	none    fault = iota
	lost          // before it reaches the server
	unheard       // the server takes it, and its answer is lost
	busy          // the server is
	restart       // the server has been started anew, and knows no session
	faults
)

// faulty is a server of which each request meets the next fault.
type faulty struct {
	t     *testing.T
	store *shelf

	mu       sync.Mutex
	handler  http.Handler
	next     func() fault
	old      bool           // knows no pushes
	requests map[string]int // by path and status
	bytes    map[string]int64
}

func newFaulty(t *testing.T) (f *faulty, url string) {
	f = &faulty{t: t, store: newShelf(), next: func() fault { return none }, requests: map[string]int{}, bytes: map[string]int64{}}
	f.restart()
	h := httptest.NewServer(f)
	t.Cleanup(h.Close)
	return f, h.URL
}

func (f *faulty) restart() {
	h, err := ingest.New(f.store, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		f.t.Fatal(err)
	}
	mux := http.NewServeMux()
	h.Register(mux)
	f.handler = mux
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what := f.next()
	if what == restart {
		f.restart()
	}
	if what == lost {
		panic(http.ErrAbortHandler)
	}
	answer := httptest.NewRecorder()
	switch {
	case what == busy:
		answer.WriteHeader(http.StatusServiceUnavailable)
	case f.old && strings.HasSuffix(r.URL.Path, "/push"):
		answer.WriteHeader(http.StatusNotFound)
	default:
		f.handler.ServeHTTP(answer, r)
	}
	f.requests[fmt.Sprint(r.URL.Path, " ", answer.Code)]++
	f.bytes[r.URL.Path] += r.ContentLength
	if what == unheard {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// window makes a profile of some of a host's stacks.
func windowOf(r *rand.Rand, host string, n int) *profile.Profile {
	var samples []profiletest.Sample
	for range 1 + r.IntN(20) {
		samples = append(samples, profiletest.Sample{
			Stack: fmt.Sprintf("main;serve;f%d;g%d", r.IntN(3), r.IntN(9)), Labels: map[string]string{"host_name": host, "route": fmt.Sprint(r.IntN(4))}, Count: 1 + r.Int64N(9),
		})
	}
	return profiletest.New(time.Now().Add(-time.Hour+time.Duration(n)*10*time.Second), samples...)
}

// wrap compresses little: most of the time would go into that.
func wrap(t testing.TB, p *profile.Profile) sample.Profile {
	t.Helper()
	var b bytes.Buffer
	zip, err := gzip.NewWriterLevel(&b, gzip.StatelessCompression)
	if err := errors.Join(err, p.WriteUncompressed(zip), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return sample.Profile{Start: time.Unix(0, p.TimeNanos), Duration: profiletest.Duration, Samples: 1, PProf: b.Bytes()}
}

// deliver sends until it is taken, as the uploader does.
func deliver(t *testing.T, d *server.Destination, p sample.Profile) {
	t.Helper()
	for range 100 {
		if d.Send(t.Context(), p) == nil {
			return
		}
	}
	t.Fatal("a profile is not taken")
}

func wantTotals(t *testing.T, got *shelf, want map[string]int64) {
	t.Helper()
	if !maps.Equal(got.totals, want) {
		t.Errorf("%d totals differ from the %d sent:\n%v\n%v", len(got.totals), len(want), got.totals, want)
	}
}

// TestSessionsThroughFaults has random sequences of faults between two agents, which are started anew now and
// then, and a server: no sample is missing and none there twice.
func TestSessionsThroughFaults(t *testing.T) {
	t.Parallel() // beside TestFaults, which mostly waits
	for seed := range uint64(15) {
		r := rand.New(rand.NewPCG(seed, 1))
		f, url := newFaulty(t)
		f.next = func() fault { return fault(r.IntN(int(faults))) }
		if seed < 5 {
			only := fault(seed)
			f.next = func() fault { return fault(r.IntN(2)) * only } // each by itself
		}
		want := map[string]int64{}
		agents := []*server.Destination{destination(t, url), destination(t, url)}
		for n := range 20 {
			i := n % len(agents)
			if r.IntN(8) == 0 {
				agents[i] = destination(t, url)
			}
			p := windowOf(r, fmt.Sprint("host-", i), n)
			add(want, p)
			deliver(t, agents[i], wrap(t, p))
		}
		wantTotals(t, f.store, want)
		if t.Failed() {
			t.Fatalf("seed %d: requests are %v", seed, f.requests)
		}
	}
}

// TestSessions follows a session: what it says again is short, a server that has forgotten it is
// told all in the next request, and an older one is not asked again.
func TestSessions(t *testing.T) {
	t.Parallel()
	f, url := newFaulty(t)
	d, want := destination(t, url), map[string]int64{}
	p := profiletest.Random(1, "a", time.Now().Add(-time.Hour), 100)
	send := func(requests string) (size int64) {
		t.Helper()
		p.TimeNanos += int64(10 * time.Second)
		add(want, p)
		clear(f.requests)
		clear(f.bytes)
		deliver(t, d, wrap(t, p))
		if got := fmt.Sprint(f.requests); got != "map["+requests+"]" {
			t.Errorf("requests are %s, want %s", got, requests)
		}
		return f.bytes["/api/v1/push"]
	}
	whole := send("/api/v1/push 204:1")
	if again := send("/api/v1/push 204:1"); again*10 > whole {
		t.Errorf("%d bytes at first, then %d", whole, again)
	}
	f.restart()
	send("/api/v1/push 204:1 /api/v1/push 409:1")
	next := []fault{unheard}
	f.next = func() (now fault) {
		if len(next) > 0 {
			now, next = next[0], next[1:]
		}
		return now
	}
	// Taken, then out of sequence, then in full.
	send("/api/v1/push 204:2 /api/v1/push 409:1")
	f.old = true
	send("/api/v1/profiles 204:1 /api/v1/push 404:1")
	send("/api/v1/profiles 204:1")
	wantTotals(t, f.store, want)
}
