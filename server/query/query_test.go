// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"bytes"
	"encoding/json"
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

	"github.com/fleetprof/fleetprof/server/columns"
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
	return openFixture(t, t.TempDir(), o)
}

func openFixture(t testing.TB, dir string, o query.Options) *fixture {
	t.Helper()
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
	var b bytes.Buffer
	if err := p.WriteUncompressed(&b); err != nil {
		f.t.Fatal(err)
	}
	decoded, err := columns.Decode(b.Bytes())
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.store.Append(f.t.Context(), decoded, store.IDOf(b.Bytes())); err != nil {
		f.t.Fatal(err)
	}
}

// seal makes a block of what has been put, so that the rest of a test asks that.
func (f *fixture) seal() {
	f.t.Helper()
	if err := f.store.Seal(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

// forms are what a store may have made of what was put: it is in the head, in a block,
// in several of them, or half and half.
var forms = map[string]func(f *fixture, all []*profile.Profile){
	"head": func(f *fixture, all []*profile.Profile) {
		for _, p := range all {
			f.put(p)
		}
	},
	"block": func(f *fixture, all []*profile.Profile) {
		for _, p := range all {
			f.put(p)
		}
		f.seal()
	},
	"blocks": func(f *fixture, all []*profile.Profile) {
		for _, p := range all {
			f.put(p)
			f.seal()
		}
	},
	"merged": func(f *fixture, all []*profile.Profile) {
		for _, p := range all {
			f.put(p)
			f.seal()
		}
		f.store.Compact(f.t.Context(), base.Add(time.Hour))
	},
	"both": func(f *fixture, all []*profile.Profile) {
		for i, p := range all {
			if i == len(all)/2 {
				f.seal()
			}
			f.put(p)
		}
	},
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
func twoHosts(f *fixture) { forms["head"](f, ofTwoHosts()) }

func ofTwoHosts() (all []*profile.Profile) {
	for i := range 3 {
		all = append(all, profiletest.New(base.Add(time.Duration(i)*10*time.Second),
			profiletest.Sample{Stack: "main;libc.so.6!work", Labels: map[string]string{"host_name": "a", "thread_name": "w1", "process_executable_name": "shop"}, Count: 10},
			profiletest.Sample{Stack: "main;idle", Labels: map[string]string{"host_name": "a", "thread_name": "w2"}, Count: 1},
		))
	}
	p := profiletest.New(base.Add(5*time.Second),
		profiletest.Sample{Stack: "other;main;libc.so.6!work", Labels: map[string]string{"host_name": "b", "thread_name": "w1"}, Count: 100})
	p.Comments = []string{"from b"}
	return append(all, p)
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
	for name, store := range forms {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, query.Options{})
			store(f, ofTwoHosts())
			mergesAndFilters(t, f)
		})
	}
}

func mergesAndFilters(t *testing.T, f *fixture) {
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
	for name, store := range forms {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, query.Options{})
			var all []*profile.Profile
			for i := range 6 {
				all = append(all, profiletest.Random(uint64(i%4), "host", base.Add(time.Duration(i)*10*time.Second), 20))
			}
			store(f, all)
			agreesWithReference(t, f, all)
		})
	}
}

func agreesWithReference(t *testing.T, f *fixture, all []*profile.Profile) {
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
	forms["both"](f, ofTwoHosts())
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

// TestDamagedBlockIsLeftOut changes a byte of every file of one of four blocks in turn,
// of files that queries read.
func TestDamagedBlockIsLeftOut(t *testing.T) {
	whole := newFixture(t, query.Options{})
	forms["blocks"](whole, ofTwoHosts())
	for _, name := range []string{"windows", "series", "labels", "stacks", "locations", "functions", "mappings", "rows"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(whole.dir)); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "blocks", "*", name+".parquet"))
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
			f := openFixture(t, dir, query.Options{CacheBytes: 1})
			for range 2 {
				p := f.pprof("from", at(0), "to", at(time.Minute))
				equalSums(t, byLabel(p, "host_name"), map[string]int64{"a": 33})
				if len(p.Comments) != 1 || !strings.Contains(p.Comments[0], "1 parts of the store could not be read") {
					t.Errorf("comments are %q", p.Comments)
				}
				if g := f.flame("from", at(0), "to", at(time.Minute)); g.Samples != 33 || g.Skipped != 1 {
					t.Errorf("%d samples and %d skipped, want 33 and 1", g.Samples, g.Skipped)
				}
			}
		})
	}
}

// heapProfile has four sample types, holds at one moment, and has no count of samples.
func heapProfile(start time.Time) *profile.Profile {
	p := profiletest.New(start, profiletest.Sample{Stack: "main;alloc", Labels: map[string]string{"host_name": "a"}},
		profiletest.Sample{Stack: "main", Labels: map[string]string{"host_name": "b"}})
	p.SampleType = []*profile.ValueType{{Type: "alloc_objects", Unit: "count"}, {Type: "alloc_space", Unit: "bytes"},
		{Type: "inuse_objects", Unit: "count"}, {Type: "inuse_space", Unit: "bytes"}}
	p.PeriodType, p.Period, p.DurationNanos = &profile.ValueType{Type: "space", Unit: "bytes"}, 512<<10, 0
	for i, s := range p.Sample {
		s.Value = []int64{1, 20, 0, 4000 * int64(1-i)}
	}
	return p
}

// TestTypes has profiles of CPU time and of the heap in one store.
func TestTypes(t *testing.T) {
	for name, store := range forms {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, query.Options{})
			store(f, append(ofTwoHosts(), heapProfile(base), heapProfile(base.Add(30*time.Second))))
			span := []string{"from", at(0), "to", at(time.Minute)}
			equalSums(t, byLabel(f.pprof(span...), "host_name"), map[string]int64{"a": 33, "b": 100})
			p := f.pprof(append(span, "type", "space:alloc_space")...)
			if len(p.SampleType) != 1 || p.SampleType[0].Type != "alloc_space" || p.SampleType[0].Unit != "bytes" || p.PeriodType.Type != "space" || p.Period != 512<<10 {
				t.Errorf("types are %v of %v, period %d", p.SampleType, p.PeriodType, p.Period)
			}
			sums := map[string]int64{}
			for _, s := range p.Sample {
				sums[s.Label["host_name"][0]] += s.Value[0]
			}
			if len(sums) != 2 || sums["a"] != 40 || sums["b"] != 40 {
				t.Errorf("sums are %v", sums)
			}
			if got := f.list("/api/v1/labels/host_name/values", append(span, "type", "space:inuse_space")...); !slices.Equal(got, []string{"a"}) {
				t.Errorf("hosts with something in use are %q", got)
			}
			g := f.flame(append(span, "type", "space:inuse_space:bytes:space:bytes")...)
			if g.Unit != "bytes" || g.Total != 8000 || g.Profiles != 2 {
				t.Errorf("flame graph has %+v", g)
			}
			if resp, body := f.get("/api/v1/pprof", append(span, "type", "space")...); resp.StatusCode != 400 || !strings.Contains(string(body), "say which") {
				t.Errorf("four types at once: %s %s", resp.Status, body)
			}
			if resp, body := f.get("/api/v1/pprof", append(span, "type", "wall")...); resp.StatusCode != 404 || !strings.Contains(string(body), "wall{}") {
				t.Errorf("a type that is not there: %s %s", resp.Status, body)
			}
		})
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
		f := newFixture(t, query.Options{Timeout: time.Nanosecond})
		twoHosts(f)
		if resp, body := f.get("/api/v1/pprof", "from", at(0), "to", at(time.Hour)); resp.StatusCode != 504 && resp.StatusCode != 503 {
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
