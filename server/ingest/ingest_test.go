// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/server/ingest"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
)

type put struct {
	start, end time.Time
	gz         []byte
}

// shelf is a Store that keeps what it is given, or fails with err.
type shelf struct {
	mu              sync.Mutex
	puts, exemplars []put
	err             error
}

func (s *shelf) Put(_ context.Context, start, end time.Time, gz []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.puts = append(s.puts, put{start, end, bytes.Clone(gz)})
	}
	return s.err
}

func (s *shelf) PutExemplars(_ context.Context, start, end time.Time, gz []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.exemplars = append(s.exemplars, put{start, end, bytes.Clone(gz)})
	}
	return s.err
}

func newHandler(t testing.TB, s ingest.Store) (http.Handler, *prometheus.Registry) {
	t.Helper()
	r := prometheus.NewRegistry()
	h, err := ingest.New(s, slog.New(slog.DiscardHandler), r)
	if err != nil {
		t.Fatal(err)
	}
	return h, r
}

func post(h http.Handler, body []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/profiles", bytes.NewReader(body)))
	return w
}

func wantResult(t *testing.T, r *prometheus.Registry, result string, n int) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "fleetprof_ingest_profiles_total" && m.Label[0].GetValue() == result && m.Counter.GetValue() == float64(n) {
				return
			}
		}
	}
	t.Errorf("not %d profiles counted as %s: %v", n, result, families)
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
	if len(s.puts) != 1 || !bytes.Equal(s.puts[0].gz, gz) || s.puts[0].start.UnixNano() != p.TimeNanos || s.puts[0].end.Sub(s.puts[0].start) != profiletest.Duration {
		t.Errorf("put %d profiles", len(s.puts))
	}
	wantResult(t, r, "stored", 1)
	expect := "# HELP fleetprof_ingest_samples_total Samples in the profiles stored, repeats included.\n# TYPE fleetprof_ingest_samples_total counter\nfleetprof_ingest_samples_total 7\n"
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
		{"gzip of zeros", bomb(t, 1), 400, "read strings"},
		{"bomb", bomb(t, 129), 413, "bytes after unpacking"},
		{"large", make([]byte, ingest.MaxCompressed+1), 413, "in the request"},
		{"invalid UTF-8", changed(func(p *profile.Profile) { p.Function[0].Name = "\xc3\x28" }), 400, "invalid UTF-8"},
		{"no period type", changed(func(p *profile.Profile) { p.PeriodType = nil }), 400, "period type"},
		{"negative value", changed(func(p *profile.Profile) { p.Sample[0].Value[1] = math.MinInt64 }), 400, "want 0 or more"},
		{"no time", changed(func(p *profile.Profile) { p.TimeNanos = 0 }), 400, "read time"},
		{"no duration", changed(func(p *profile.Profile) { p.DurationNanos = 0 }), 400, "read duration"},
		{"heap profile", changed(func(p *profile.Profile) { p.SampleType[0].Type = "inuse_space" }), 400, "samples/count"},
		{"future", changed(func(p *profile.Profile) { p.TimeNanos += int64(3 * time.Hour) }), 400, "set the clocks"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if w := post(h, c.body); w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("answer is %d %q, want %d and %q", w.Code, w.Body, c.code, c.want)
			}
		})
	}
	if len(s.puts) != 0 {
		t.Errorf("%d profiles were stored", len(s.puts))
	}
	wantResult(t, r, "invalid", 11)
	wantResult(t, r, "too_large", 2)
}

func TestStoreErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		code   int
		after  string
		result string
	}{
		{store.ErrFull, http.StatusInsufficientStorage, "10", "disk_full"},
		{store.ErrClosed, http.StatusServiceUnavailable, "1", "closing"},
		{store.ErrRefused, http.StatusBadRequest, "", "invalid"},
		{errors.New("the disk is on fire"), http.StatusInternalServerError, "10", "failed"},
	} {
		h, r := newHandler(t, &shelf{err: c.err})
		w := post(h, profiletest.Gzip(t, window()))
		if w.Code != c.code || w.Header().Get("Retry-After") != c.after || !strings.Contains(w.Body.String(), c.err.Error()) {
			t.Errorf("%v is answered %d %v %s", c.err, w.Code, w.Header(), w.Body)
		}
		wantResult(t, r, c.result, 1)
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
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf"); err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-done
	wantResult(t, r, "cut_off", 1)
	if len(s.puts) != 0 {
		t.Error("half a profile was stored")
	}
}

// TestMany posts more profiles at a time than are checked at a time. Each is
// stored, or its sender is told to come back.
func TestMany(t *testing.T) {
	s := &shelf{}
	h, _ := newHandler(t, s)
	gz := profiletest.Gzip(t, profiletest.Random(1, "a", time.Now().Add(-10*time.Second), 50))
	var stored atomic.Int32
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			w := post(h, gz)
			switch {
			case w.Code == http.StatusNoContent:
				stored.Add(1)
			case w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "":
				t.Errorf("answer is %d %s", w.Code, w.Body)
			}
		})
	}
	wg.Wait()
	if n := int(stored.Load()); n == 0 || len(s.puts) != n {
		t.Errorf("%d of 40 were stored, %d said so", len(s.puts), n)
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
			if _, err := profile.ParseData(s.puts[0].gz); err != nil {
				t.Errorf("stored, but %v", err)
			}
		case w.Code != http.StatusBadRequest && w.Code != http.StatusRequestEntityTooLarge:
			t.Errorf("answer is %d", w.Code)
		}
	})
}
