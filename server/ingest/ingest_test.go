// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/ingest"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
)

// exemplar is a document as it was put.
type exemplar struct {
	start, end time.Time
	gz         []byte
}

// shelf is a Store that keeps what it is given, each id once, or fails with err.
type shelf struct {
	mu        sync.Mutex
	profiles  []*columns.Profile
	ids       map[[16]byte]bool
	repeats   int
	exemplars []exemplar
	err       error
}

func (s *shelf) Append(_ context.Context, p *columns.Profile, id [16]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.ids == nil {
		s.ids = map[[16]byte]bool{}
	}
	if s.ids[id] {
		s.repeats++
		return nil
	}
	s.ids[id] = true
	s.profiles = append(s.profiles, p)
	return nil
}

func (s *shelf) PutExemplars(_ context.Context, start, end time.Time, gz []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.exemplars = append(s.exemplars, exemplar{start, end, bytes.Clone(gz)})
	}
	return s.err
}

// totals sums up all values of what is kept, by profile, type and labels.
func (s *shelf) totals() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	sums := map[string]int64{}
	for _, p := range s.profiles {
		for i, set := range p.LabelSet {
			var labels []string
			for _, l := range p.Labels(int(set)) {
				labels = append(labels, fmt.Sprintf("%s=%s", p.Strings[l.Key], p.Strings[l.Text]))
			}
			slices.Sort(labels)
			for t, column := range p.Values {
				sums[fmt.Sprintf("%s %s/%s %s", p.Name, p.Strings[p.Types[t].Type], p.Strings[p.Types[t].Unit], strings.Join(labels, " "))] += column[i]
			}
		}
	}
	return sums
}

// expected is what totals should be after a profile, by the reference's reading of it.
func expected(sums map[string]int64, name string, p *profile.Profile, series map[string]string) {
	for _, s := range p.Sample {
		all := maps.Clone(series)
		if all == nil {
			all = map[string]string{}
		}
		for k, v := range s.Label {
			all[k] = v[0]
		}
		var labels []string
		for k, v := range all {
			labels = append(labels, k+"="+v)
		}
		slices.Sort(labels)
		for t, v := range s.Value {
			sums[fmt.Sprintf("%s %s/%s %s", name, p.SampleType[t].Type, p.SampleType[t].Unit, strings.Join(labels, " "))] += v
		}
	}
}

func wantTotals(t *testing.T, s *shelf, want map[string]int64) {
	t.Helper()
	if got := s.totals(); !maps.Equal(got, want) {
		t.Errorf("totals are\n%v\nwant\n%v", got, want)
	}
}

func newHandler(t testing.TB, s ingest.Store) (http.Handler, *prometheus.Registry) {
	t.Helper()
	r := prometheus.NewRegistry()
	h, err := ingest.New(s, slog.New(slog.DiscardHandler), r)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	h.Register(mux)
	return mux, r
}

func post(h http.Handler, body []byte) *httptest.ResponseRecorder {
	return postTo(h, "/api/v1/profiles", body)
}

func postTo(h http.Handler, path string, body []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body)))
	return w
}

func wantResult(t *testing.T, r *prometheus.Registry, protocol, result string, n int) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "fleetprof_ingest_profiles_total" && m.Label[0].GetValue() == protocol && m.Label[1].GetValue() == result {
				got = int(m.Counter.GetValue())
			}
		}
	}
	if got != n {
		t.Errorf("%d profiles of %s are counted as %s, want %d", got, protocol, result, n)
	}
}

func window() *profile.Profile {
	return profiletest.New(time.Now().Add(-10*time.Second), profiletest.Sample{Stack: "main;work", Labels: map[string]string{"host_name": "a"}, Count: 7})
}

func TestStores(t *testing.T) {
	s := &shelf{}
	h, r := newHandler(t, s)
	p := window()
	gz := profiletest.Gzip(t, p)
	if w := post(h, gz); w.Code != http.StatusNoContent || w.Body.Len() != 0 {
		t.Fatalf("answer is %d %s", w.Code, w.Body)
	}
	want := map[string]int64{}
	expected(want, "cpu", p, nil)
	wantTotals(t, s, want)
	if got := s.profiles[0]; got.Start != p.TimeNanos || got.Duration != p.DurationNanos {
		t.Errorf("time is %d %d", got.Start, got.Duration)
	}
	if w := post(h, gz); w.Code != http.StatusNoContent || s.repeats != 1 || len(s.profiles) != 1 {
		t.Errorf("sent again: answer is %d %s, %d profiles", w.Code, w.Body, len(s.profiles))
	}
	wantResult(t, r, "pprof", "stored", 2)
	expect := "# HELP fleetprof_ingest_samples_total Samples in the profiles stored, repeats included.\n# TYPE fleetprof_ingest_samples_total counter\nfleetprof_ingest_samples_total 14\n"
	if err := testutil.GatherAndCompare(r, strings.NewReader(expect), "fleetprof_ingest_samples_total"); err != nil {
		t.Error(err)
	}
}

// bomb is n MiB of zeros in n kB: one gzip member again and again.
func bomb(t *testing.T, n int) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.Repeat(b.Bytes(), n)
}

func TestRefuses(t *testing.T) {
	s := &shelf{}
	h, r := newHandler(t, s)
	changed := func(f func(p *profile.Profile)) []byte {
		p := window()
		f(p)
		return profiletest.Gzip(t, p)
	}
	good := changed(func(*profile.Profile) {})
	for _, c := range []struct {
		name string
		body []byte
		code int
		want string
	}{
		{"empty", nil, 400, "unpack gzip"},
		{"garbage", []byte("GET / HTTP/1.1"), 400, "unpack gzip"},
		{"truncated", good[:len(good)/2], 400, "unpack gzip"},
		{"gzip of zeros", bomb(t, 1), 400, "sample types"},
		{"bomb", bomb(t, 129), 413, "bytes after unpacking"},
		{"large", make([]byte, ingest.MaxCompressed+1), 413, "in the request"},
		{"invalid UTF-8", changed(func(p *profile.Profile) { p.Function[0].Name = "\xc3\x28" }), 400, "invalid UTF-8"},
		{"negative value", changed(func(p *profile.Profile) { p.Sample[0].Value[1] = math.MinInt64 }), 400, "want 0 or more"},
		{"long period", changed(func(p *profile.Profile) { // four of it are 2⁶⁴
			p.SampleType, p.Sample, p.Period = p.SampleType[:1], p.Sample[:1], 1<<62
			p.Sample[0].Value = []int64{4}
		}), 400, "the sum of cpu is above"},
		{"no time", changed(func(p *profile.Profile) { p.TimeNanos = 0 }), 400, "read time"},
		{"long duration", changed(func(p *profile.Profile) { p.DurationNanos *= 1000 }), 400, "read duration"},
		{"large label", changed(func(p *profile.Profile) { p.Sample[0].Label["host_name"] = []string{strings.Repeat("x", 4097)} }), 400, "the value of host_name has 4097 bytes"},
		{"large label name", changed(func(p *profile.Profile) { p.Sample[0].Label[strings.Repeat("x", 10<<20)] = []string{"v"} }), 400, "a name has 10485760 bytes"},
		{"many labels", changed(func(p *profile.Profile) {
			for i := range 64 {
				p.Sample[0].Label[fmt.Sprint("l", i)] = []string{"v"}
			}
		}), 400, "a sample has 65, want 64"},
		{"future", changed(func(p *profile.Profile) { p.TimeNanos += int64(3 * time.Hour) }), 400, "set the clocks"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if w := post(h, c.body); w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("answer is %d %q, want %d and %q", w.Code, w.Body, c.code, c.want)
			}
		})
	}
	if len(s.profiles) != 0 {
		t.Errorf("%d profiles were stored", len(s.profiles))
	}
	wantResult(t, r, "pprof", "invalid", 13)
	wantResult(t, r, "pprof", "too_large", 2)
}

func TestStoreErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		code   int
		after  bool
		result string
	}{
		{store.ErrFull, http.StatusInsufficientStorage, true, "disk_full"},
		{store.ErrClosed, http.StatusServiceUnavailable, true, "closing"},
		{store.ErrRefused, http.StatusBadRequest, false, "invalid"},
		{errors.New("the disk is on fire"), http.StatusInternalServerError, true, "failed"},
	} {
		h, r := newHandler(t, &shelf{err: c.err})
		w := post(h, profiletest.Gzip(t, window()))
		if w.Code != c.code || (w.Header().Get("Retry-After") != "") != c.after || !strings.Contains(w.Body.String(), c.err.Error()) {
			t.Errorf("%v is answered %d %v %s", c.err, w.Code, w.Header(), w.Body)
		}
		wantResult(t, r, "pprof", c.result, 1)
	}
}

// TestCutOff has a client go away in the middle of its body.
func TestCutOff(t *testing.T) {
	s := &shelf{}
	h, r := newHandler(t, s)
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		defer close(done)
		h.ServeHTTP(w, req)
	}))
	defer server.Close()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "POST /api/v1/profiles HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf"); err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-done
	wantResult(t, r, "pprof", "cut_off", 1)
	if len(s.profiles) != 0 {
		t.Error("half a profile was stored")
	}
}

// TestMany has more agents send at a time than are served at a time. None is turned away.
func TestMany(t *testing.T) {
	s := &shelf{}
	h, _ := newHandler(t, s)
	var wg sync.WaitGroup
	for n := range 60 {
		wg.Go(func() {
			gz := profiletest.Gzip(t, profiletest.New(time.Now().Add(-10*time.Second), profiletest.Sample{Stack: "main", Labels: map[string]string{"host_name": fmt.Sprint(n)}, Count: 1}))
			if w := post(h, gz); w.Code != http.StatusNoContent {
				t.Errorf("answer is %d %s", w.Code, w.Body)
			}
		})
	}
	wg.Wait()
	if len(s.totals()) != 120 || len(s.profiles) != 60 {
		t.Errorf("%d of 60 were stored", len(s.profiles))
	}
}

// FuzzPost holds the handler against the reference: what it stores can be read.
func FuzzPost(f *testing.F) {
	f.Add(profiletest.Gzip(f, window()))
	f.Add([]byte{0x1f, 0x8b})
	f.Fuzz(func(t *testing.T, body []byte) {
		s := &shelf{}
		h, _ := newHandler(t, s)
		w := post(h, body)
		switch {
		case w.Code == http.StatusNoContent:
			if _, err := profile.ParseData(body); err != nil {
				t.Errorf("stored, but %v", err)
			}
		case w.Code != http.StatusBadRequest && w.Code != http.StatusRequestEntityTooLarge:
			t.Errorf("answer is %d", w.Code)
		}
	})
}
