// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/query"
	"github.com/fleetprof/fleetprof/server/store"
)

// fixture is a store with an API on top.
type fixture struct {
	t     testing.TB
	store *store.Store
	dir   string
	url   string
}

func newFixture(t testing.TB, o query.Options) *fixture {
	t.Helper()
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	s, err := store.Open(dir, store.Options{Logger: log, Registerer: prometheus.NewRegistry(), MaxAge: 100 * 365 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	o.Store, o.Logger, o.Registerer = s, log, prometheus.NewRegistry()
	api, err := query.New(o)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	api.Register(mux)
	h := httptest.NewServer(mux)
	t.Cleanup(func() {
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &fixture{t, s, dir, h.URL}
}

func (f *fixture) put(p *profile.Profile) {
	f.t.Helper()
	start := time.Unix(0, p.TimeNanos)
	if err := f.store.Put(f.t.Context(), start, start.Add(time.Duration(p.DurationNanos)), profiletest.Gzip(f.t, p)); err != nil {
		f.t.Fatal(err)
	}
}

// get asks for a path with parameters, given as name, value, name, value, …
func (f *fixture) get(path string, params ...string) (*http.Response, []byte) {
	f.t.Helper()
	v := url.Values{}
	for i := 0; i < len(params); i += 2 {
		v.Set(params[i], params[i+1])
	}
	resp, err := http.Get(f.url + path + "?" + v.Encode())
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp, body
}

func (f *fixture) pprof(params ...string) *profile.Profile {
	f.t.Helper()
	resp, body := f.get("/api/v1/pprof", params...)
	if resp.StatusCode != http.StatusOK {
		f.t.Fatalf("%v: %s: %s", params, resp.Status, body)
	}
	p, err := profile.ParseData(body)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := p.CheckValid(); err != nil {
		f.t.Fatal(err)
	}
	return p
}

func (f *fixture) list(path string, params ...string) []string {
	f.t.Helper()
	resp, body := f.get(path, params...)
	var answer struct {
		Status string
		Data   []string
	}
	if err := json.Unmarshal(body, &answer); err != nil || resp.StatusCode != http.StatusOK || answer.Status != "success" || answer.Data == nil {
		f.t.Fatalf("%s %v: %s: %s", path, params, resp.Status, body)
	}
	return answer.Data
}

var base = time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)

func at(d time.Duration) string { return base.Add(d).Format(time.RFC3339) }

// twoHosts stores three windows of host a and one of host b.
func twoHosts(f *fixture) {
	for i := range 3 {
		f.put(profiletest.New(base.Add(time.Duration(i)*10*time.Second),
			profiletest.Sample{Stack: "main;libc.so.6!work", Labels: map[string]string{"host_name": "a", "thread_name": "w1", "process_executable_name": "shop"}, Count: 10},
			profiletest.Sample{Stack: "main;idle", Labels: map[string]string{"host_name": "a", "thread_name": "w2"}, Count: 1},
		))
	}
	p := profiletest.New(base.Add(5*time.Second),
		profiletest.Sample{Stack: "other;main;libc.so.6!work", Labels: map[string]string{"host_name": "b", "thread_name": "w1"}, Count: 100})
	p.Comments = []string{"from b"}
	f.put(p)
}

// byLabel sums both values for each value of a label.
func byLabel(p *profile.Profile, name string) map[string][2]int64 {
	sums := map[string][2]int64{}
	for _, s := range p.Sample {
		key := strings.Join(s.Label[name], ",")
		sum := sums[key]
		sums[key] = [2]int64{sum[0] + s.Value[0], sum[1] + s.Value[1]}
	}
	return sums
}

func equalSums(t *testing.T, got map[string][2]int64, counts map[string]int64) {
	t.Helper()
	want := map[string][2]int64{}
	for k, n := range counts {
		want[k] = [2]int64{n, n * profiletest.Period}
	}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for k := range want {
		if got[k] != want[k] {
			t.Errorf("%s is %v, want %v", k, got[k], want[k])
		}
	}
}

func TestPProfMergesAndFilters(t *testing.T) {
	f := newFixture(t, query.Options{})
	twoHosts(f)
	from, to := at(0), at(time.Minute)
	all := f.pprof("from", from, "to", to)
	equalSums(t, byLabel(all, "host_name"), map[string]int64{"a": 33, "b": 100})
	if all.TimeNanos != base.UnixNano() || all.DurationNanos != int64(30*time.Second) {
		t.Errorf("time is %d and duration %v", all.TimeNanos, time.Duration(all.DurationNanos))
	}
	if all.Period != profiletest.Period || all.PeriodType.Type != "cpu" || all.PeriodType.Unit != "nanoseconds" || !slices.Equal(all.Comments, []string{"from b"}) {
		t.Errorf("head is %v %v %q", all.Period, all.PeriodType, all.Comments)
	}
	if len(all.Sample) != 3 || len(all.Mapping) != 2 {
		t.Errorf("%d samples and %d mappings, want 3 and 2", len(all.Sample), len(all.Mapping))
	}
	for _, m := range all.Mapping {
		if len(m.BuildID) != 40 || !m.HasFunctions || m.HasInlineFrames {
			t.Errorf("mapping %+v has lost something", m)
		}
	}
	for _, c := range []struct {
		query string
		want  map[string]int64
	}{
		{`{}`, map[string]int64{"a": 33, "b": 100}},
		{`{host_name="a"}`, map[string]int64{"a": 33}},
		{`{host_name!="a"}`, map[string]int64{"b": 100}},
		{`{thread_name=~"w[2-9]"}`, map[string]int64{"a": 3}},
		{`{thread_name!~"w2|w3"}`, map[string]int64{"a": 30, "b": 100}},
		{`{thread_name=~"w"}`, nil}, // anchored
		{`{process_executable_name=""}`, map[string]int64{"a": 3, "b": 100}},
		{`{process_executable_name!=""}`, map[string]int64{"a": 30}},
		{`{host_name="a",thread_name="w1"}`, map[string]int64{"a": 30}},
	} {
		if c.want == nil {
			if resp, body := f.get("/api/v1/pprof", "query", c.query, "from", from, "to", to); resp.StatusCode != http.StatusNotFound {
				t.Errorf("%s: %s: %s", c.query, resp.Status, body)
			}
			continue
		}
		equalSums(t, byLabel(f.pprof("query", c.query, "from", from, "to", to), "host_name"), c.want)
	}
}

// TestMergeAgreesWithReference compares with profile.Merge, which is slow but
// not ours.
func TestMergeAgreesWithReference(t *testing.T) {
	f := newFixture(t, query.Options{})
	var all []*profile.Profile
	for i := range 6 {
		p := profiletest.Random(uint64(i%4), "host", base.Add(time.Duration(i)*10*time.Second), 100)
		f.put(p)
		all = append(all, p)
	}
	want, err := profile.Merge(all)
	if err != nil {
		t.Fatal(err)
	}
	got := f.pprof("from", at(0), "to", at(time.Hour))
	g, w := describe(got), describe(want)
	for k, v := range w {
		if g[k] != v {
			t.Fatalf("sample\n%s\nis %v, want %v", k, g[k], v)
		}
	}
	if len(g) != len(w) || len(got.Sample) != len(want.Sample) {
		t.Errorf("%d samples (%d distinct), want %d (%d distinct)", len(got.Sample), len(g), len(want.Sample), len(w))
	}
	if got.DurationNanos != int64(time.Minute) {
		t.Errorf("duration is %v", time.Duration(got.DurationNanos))
	}
}

// describe writes samples as text, whatever the IDs.
func describe(p *profile.Profile) map[string][2]int64 {
	sums := map[string][2]int64{}
	for _, s := range p.Sample {
		var b strings.Builder
		for _, l := range s.Location {
			b.WriteString(l.Mapping.File + " " + l.Mapping.BuildID)
			for _, line := range l.Line {
				b.WriteString(" " + line.Function.Name + " " + line.Function.SystemName + " " + line.Function.Filename)
			}
			b.WriteByte('\n')
		}
		for _, k := range slices.Sorted(func(yield func(string) bool) {
			for k := range s.Label {
				if !yield(k) {
					return
				}
			}
		}) {
			b.WriteString(k + "=" + strings.Join(s.Label[k], ",") + " ")
		}
		sum := sums[b.String()]
		sums[b.String()] = [2]int64{sum[0] + s.Value[0], sum[1] + s.Value[1]}
	}
	return sums
}

func TestLabels(t *testing.T) {
	f := newFixture(t, query.Options{})
	if got := f.list("/api/v1/labels"); len(got) != 0 {
		t.Errorf("labels of nothing are %q", got)
	}
	twoHosts(f)
	span := []string{"from", at(0), "to", at(time.Minute)}
	for _, c := range []struct {
		path, query string
		want        []string
	}{
		{"/api/v1/labels", "", []string{"host_name", "process_executable_name", "thread_name"}},
		{"/api/v1/labels", `{host_name="b"}`, []string{"host_name", "thread_name"}},
		{"/api/v1/labels/host_name/values", "", []string{"a", "b"}},
		{"/api/v1/labels/thread_name/values", `{host_name="a"}`, []string{"w1", "w2"}},
		{"/api/v1/labels/no_such_label/values", "", []string{}},
	} {
		if got := f.list(c.path, append(span, "query", c.query)...); !slices.Equal(got, c.want) {
			t.Errorf("%s of %s: %q, want %q", c.path, c.query, got, c.want)
		}
	}
	if got := f.list("/api/v1/labels/host_name/values", "from", at(20*time.Second), "to", at(time.Minute)); !slices.Equal(got, []string{"a"}) {
		t.Errorf("hosts later on: %q", got)
	}
}

func TestErrors(t *testing.T) {
	f := newFixture(t, query.Options{})
	if _, body := f.get("/api/v1/pprof"); !strings.Contains(string(body), "nothing is stored yet") {
		t.Errorf("empty store: %s", body)
	}
	twoHosts(f)
	for _, c := range []struct {
		name   string
		params []string
		status int
		want   []string
	}{
		{"selector", []string{"query", `{host_name="a"`}, 400, []string{"parameter query", "position 15", "unexpected end of input", "write it like {"}},
		{"regular expression", []string{"query", `{a=~"("}`}, 400, []string{"missing closing )"}},
		{"metric name", []string{"query", `checkout`}, 400, []string{"leave out checkout"}},
		{"time", []string{"from", "yesterday"}, 400, []string{"parameter from", `"yesterday"`, "RFC", "now-1h"}[:2]},
		{"order", []string{"from", "now", "to", "now-1h"}, 400, []string{"before the end"}},
		{"last", []string{"last", "5 minutes"}, 400, []string{"parameter last", "15m"}},
		{"seconds", []string{"seconds", "0"}, 400, []string{"parameter seconds"}},
		{"three", []string{"from", at(0), "to", at(9 * time.Second), "last", "5m"}, 400, []string{"only two"}},
		{"no data", []string{"query", `{host_name="c"}`, "from", at(0), "to", at(time.Minute)}, 404,
			[]string{`{host_name="c"}`, at(0), at(time.Minute), "stored profiles cover " + at(0) + " to " + at(30*time.Second)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := f.get("/api/v1/pprof", c.params...)
			if resp.StatusCode != c.status || resp.Header.Get("X-Go-Pprof") != "1" || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
				t.Errorf("answer is %s %v", resp.Status, resp.Header)
			}
			for _, w := range c.want {
				if !strings.Contains(string(body), w) {
					t.Errorf("text is %q, want %q in it", body, w)
				}
			}
			if c.status == http.StatusNotFound {
				return
			}
			resp, body = f.get("/api/v1/labels", c.params...)
			var answer struct{ Status, Error string }
			if err := json.Unmarshal(body, &answer); err != nil || resp.StatusCode != c.status || answer.Status != "error" || !strings.Contains(answer.Error, c.want[0]) {
				t.Errorf("labels answer %s %s", resp.Status, body)
			}
		})
	}
	for _, c := range [][2]string{
		{"max_nodes", "0"}, {"max_depth", "0"}, {"max_depth", "two"},
		{"by", "a,"}, {"by", "a,b,a"}, {"by", "a,b,c,d,e,f,g,h,i"},
	} {
		if resp, body := f.get("/api/v1/flamegraph", c[0], c[1]); resp.StatusCode != 400 || !strings.Contains(string(body), "parameter "+c[0]) {
			t.Errorf("%s: %s %s", c, resp.Status, body)
		}
	}
}

func TestDamagedProfileIsLeftOut(t *testing.T) {
	f := newFixture(t, query.Options{})
	twoHosts(f)
	files, err := filepath.Glob(filepath.Join(f.dir, "profiles", "*", "*.pb.gz"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	slices.Sort(files) // by start: the second is of host b
	b, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0xff
	if err := os.WriteFile(files[1], b, 0o600); err != nil {
		t.Fatal(err)
	}
	p := f.pprof("from", at(0), "to", at(time.Minute))
	equalSums(t, byLabel(p, "host_name"), map[string]int64{"a": 33})
	if len(p.Comments) != 1 || !strings.Contains(p.Comments[0], "1 stored profiles could not be read") {
		t.Errorf("comments are %q", p.Comments)
	}
}

// TestUnreadableProfileIsLeftOut has a directory where a file should be, which
// is no damage to the profile but cannot be read, and one that is gone.
func TestUnreadableProfileIsLeftOut(t *testing.T) {
	f := newFixture(t, query.Options{CacheBytes: 1})
	twoHosts(f)
	files, err := filepath.Glob(filepath.Join(f.dir, "profiles", "*", "*.pb.gz"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	slices.Sort(files)
	if err := errors.Join(os.Remove(files[1]), os.Mkdir(files[1], 0o700), os.Remove(files[3])); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		g := f.flame("from", at(0), "to", at(time.Minute))
		if g.Samples != 22 || g.Skipped != 1 {
			t.Errorf("%d samples and %d skipped, want 22 and 1", g.Samples, g.Skipped)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Run("result", func(t *testing.T) {
		f := newFixture(t, query.Options{MaxResult: 30_000})
		f.put(profiletest.Random(1, "a", base, 200))
		for _, path := range []string{"/api/v1/pprof", "/api/v1/flamegraph"} {
			if resp, body := f.get(path, "from", at(0), "to", at(time.Hour)); resp.StatusCode != 422 || !strings.Contains(string(body), "narrower selector") {
				t.Errorf("%s: %s %s", path, resp.Status, body)
			}
		}
	})
	t.Run("time", func(t *testing.T) {
		f := newFixture(t, query.Options{Timeout: time.Microsecond})
		twoHosts(f)
		if resp, body := f.get("/api/v1/pprof", "from", at(0), "to", at(time.Hour)); resp.StatusCode != 422 && resp.StatusCode != 503 {
			t.Errorf("%s %s", resp.Status, body)
		}
	})
	t.Run("cache", func(t *testing.T) {
		f := newFixture(t, query.Options{CacheBytes: 1})
		twoHosts(f)
		equalSums(t, byLabel(f.pprof("from", at(0), "to", at(time.Hour)), "host_name"), map[string]int64{"a": 33, "b": 100})
	})
}

// TestConcurrentQueries runs more queries at a time than are let in, while
// profiles arrive; each must see what was there before it.
func TestConcurrentQueries(t *testing.T) {
	f := newFixture(t, query.Options{MaxConcurrent: 2, CacheBytes: 10_000})
	twoHosts(f)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			p := profiletest.New(base.Add(time.Duration(i)*time.Second), profiletest.Sample{Stack: "late", Labels: map[string]string{"host_name": "c"}, Count: 1})
			f.put(p)
			sums := byLabel(f.pprof("from", at(0), "to", at(time.Hour)), "host_name")
			if sums["a"][0] != 33 || sums["b"][0] != 100 || sums["c"][0] < 1 {
				t.Errorf("sums are %v", sums)
			}
		})
	}
	wg.Wait()
}
