// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/query"
)

type series struct {
	From, To, Step, Total int64
	Unit                  string
	Skipped               int
	By                    []string
	Groups                []struct {
		Values []string
		Total  int64
		Points [][2]int64
	}
}

func (f *fixture) series(params ...string) series {
	f.t.Helper()
	resp, body := f.get("/api/v1/series", params...)
	var s series
	if err := json.Unmarshal(body, &s); err != nil || resp.StatusCode != http.StatusOK {
		f.t.Fatalf("%v: %s: %s", params, resp.Status, body)
	}
	if s.Unit != "nanoseconds" || s.Groups == nil || s.By == nil {
		f.t.Errorf("%v: head is %+v", params, s)
	}
	total := int64(0)
	for i, g := range s.Groups {
		sum := int64(0)
		for _, p := range g.Points {
			sum += p[1]
			if p[0] < s.From || p[0] >= s.To || (p[0]-s.From)%s.Step != 0 || p[1] <= 0 {
				f.t.Errorf("%v: point %v", params, p)
			}
		}
		if sum != g.Total || i > 0 && g.Total > s.Groups[i-1].Total {
			f.t.Errorf("%v: group %q has total %d, its points %d", params, g.Values, g.Total, sum)
		}
		total += g.Total
	}
	if total != s.Total {
		f.t.Errorf("%v: total is %d, of the groups %d", params, s.Total, total)
	}
	return s
}

// lines writes the groups with their points in samples.
func (s series) lines() (out []string) {
	for _, g := range s.Groups {
		line := strings.Join(g.Values, ",") + ":"
		for _, p := range g.Points {
			line += fmt.Sprintf(" %ds=%d", (p[0]-base.UnixMilli())/1000, p[1]/profiletest.Period)
		}
		out = append(out, line)
	}
	return out
}

func TestSeries(t *testing.T) {
	f := newFixture(t, query.Options{})
	twoHosts(f) // a: 11 in each window of 10 s from 0 s on; b: 100 from 5 s to 15 s
	span := []string{"from", at(0), "to", at(time.Minute), "step", "10s"}
	for _, c := range []struct {
		more []string
		want []string
	}{
		{nil, []string{": 0s=61 10s=61 20s=11"}},
		{[]string{"by", "host_name"}, []string{"b: 0s=50 10s=50", "a: 0s=11 10s=11 20s=11"}},
		{[]string{"by", "thread_name,process_executable_name"}, []string{"w1,: 0s=50 10s=50", "w1,shop: 0s=10 10s=10 20s=10", "w2,: 0s=1 10s=1 20s=1"}},
		{[]string{"by", "no_such_label"}, []string{": 0s=61 10s=61 20s=11"}},
		{[]string{"query", `{host_name="b"}`}, []string{": 0s=50 10s=50"}},
		{[]string{"query", `{host_name="c"}`}, nil},
		{[]string{"step", "1m"}, []string{": 0s=133"}},
		{[]string{"step", "5s", "by", "host_name", "query", `{host_name="b"}`}, []string{"b: 5s=50 10s=50"}},
		// The range is widened to whole steps, and of a window counts what lies in it.
		{[]string{"from", at(12 * time.Second), "to", at(19 * time.Second), "by", "host_name"}, []string{"b: 10s=50", "a: 10s=11"}},
	} {
		params := append(slices.Clone(span), c.more...)
		equalLines(t, f.series(params...).lines(), c.want)
	}
	if s := f.series("from", at(12*time.Second), "to", at(19*time.Second)); s.From != base.UnixMilli() || s.To != base.UnixMilli()+60_000 || s.Step != 60_000 {
		t.Errorf("range is %+v", s)
	}
}

// TestSeriesAddUpToMerge: whatever the steps, their sums are those of the merged profile.
func TestSeriesAddUpToMerge(t *testing.T) {
	f := newFixture(t, query.Options{})
	for i := range 6 {
		f.put(profiletest.Random(uint64(i), fmt.Sprint("h", i%2), base.Add(time.Duration(i)*7*time.Second), 20))
	}
	for _, step := range []string{"99ms", "7s", "10s", "1m", "1h"} {
		from, to := at(0), at(time.Minute)
		s := f.series("from", from, "to", to, "step", step, "by", "host_name,process_executable_name")
		got := map[string]int64{}
		for _, g := range s.Groups {
			got[strings.Join(g.Values, " ")] = g.Total
		}
		want := map[string]int64{}
		merged := f.pprof("from", time.UnixMilli(s.From).UTC().Format(time.RFC3339Nano), "to", time.UnixMilli(s.To).UTC().Format(time.RFC3339Nano))
		for _, one := range merged.Sample {
			want[one.Label["host_name"][0]+" "+one.Label["process_executable_name"][0]] += one.Value[1]
		}
		if !maps.Equal(got, want) {
			t.Errorf("step %s: %v, want %v", step, got, want)
		}
	}
}

func TestSeriesLimits(t *testing.T) {
	f := newFixture(t, query.Options{})
	var many []profiletest.Sample
	for i := range 1000 {
		many = append(many, profiletest.Sample{Stack: "main", Labels: map[string]string{"thread_name": fmt.Sprint(i)}, Count: 1})
	}
	f.put(profiletest.New(base, many...))
	for _, c := range []struct {
		params []string
		status int
		want   string
	}{
		{[]string{"step", "0s"}, 400, "parameter step"},
		{[]string{"step", "often"}, 400, "parameter step"},
		{[]string{"step", "300ms"}, 400, "at most 11000"},
		{[]string{"by", "a,a"}, 400, "parameter by"},
		{[]string{"by", "thread_name", "step", "1s"}, 422, "narrower selector"},
		{[]string{"query", "{"}, 400, "parameter query"},
	} {
		resp, body := f.get("/api/v1/series", append([]string{"from", at(0), "to", at(time.Hour)}, c.params...)...)
		if resp.StatusCode != c.status || !strings.Contains(string(body), c.want) {
			t.Errorf("%q: %s: %s, want %q", c.params, resp.Status, body, c.want)
		}
	}
}

func TestDiff(t *testing.T) {
	f := newFixture(t, query.Options{})
	twoHosts(f)
	sides := func(params ...string) []string {
		t.Helper()
		resp, body := f.get("/api/v1/diff", append([]string{"from", at(0), "to", at(time.Minute)}, params...)...)
		var d struct {
			graph
			BaseTotal   int64 `json:"base_total"`
			BaseSamples int64 `json:"base_samples"`
			BaseHidden  int64 `json:"base_hidden"`
			BaseFrom    int64 `json:"base_from"`
			Nodes       [][7]int64
		}
		if err := json.Unmarshal(body, &d); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v: %s: %s", params, resp.Status, body)
		}
		if d.Total != d.Nodes[0][3] || d.BaseTotal != d.Nodes[0][5] || d.BaseTotal != d.BaseSamples*profiletest.Period {
			t.Errorf("head is %+v", d)
		}
		var is, was graph
		shown, baseShown := d.Hidden, d.BaseHidden
		for _, n := range d.Nodes {
			is.Nodes = append(is.Nodes, [5]int64(n[:5]))
			was.Nodes = append(was.Nodes, [5]int64{n[0], n[1], n[2], n[5], n[6]})
			shown, baseShown = shown+n[4], baseShown+n[6]
		}
		if shown != d.Total || baseShown != d.BaseTotal {
			t.Errorf("%d and %d are shown or hidden of %d and %d", shown, baseShown, d.Total, d.BaseTotal)
		}
		is.Names, is.Objects, was.Names, was.Objects = d.Names, d.Objects, d.Names, d.Objects
		lines := is.paths(t)
		for i, line := range was.paths(t) {
			lines[i] += " |" + line[strings.LastIndexByte(line[:strings.LastIndexByte(line, ' ')], ' '):]
		}
		return lines
	}
	equalLines(t, sides("query", `{host_name="a"}`, "base_query", `{host_name="b"}`), []string{
		"all 33 0 | 100 0",
		"all;program!main 33 0 | 0 0",
		"all;program!main;program!idle 3 3 | 0 0",
		"all;program!main;libc.so.6!work 30 30 | 0 0",
		"all;program!other 0 0 | 100 0",
		"all;program!other;program!main 0 0 | 100 0",
		"all;program!other;program!main;libc.so.6!work 0 0 | 100 100",
	})
	equalLines(t, sides("query", `{host_name="a"}`, "base_from", at(0), "base_to", at(10*time.Second), "by", "thread_name", "max_depth", "1"), []string{
		"all 33 0 | 11 0", "all;w1 30 30 | 10 10", "all;w2 3 3 | 1 1",
	})
	if n := len(sides("query", `{host_name="a"}`, "base_query", `{host_name="b"}`, "max_nodes", "3")); n != 3 {
		t.Errorf("%d nodes of at most 3", n)
	}
	for _, c := range [][]string{{}, {"base_last", "x"}, {"base_query", "{"}, {"base_from", at(0), "base_to", at(0)}} {
		resp, body := f.get("/api/v1/diff", c...)
		if resp.StatusCode != 400 || !strings.Contains(string(body), "parameter base_") {
			t.Errorf("%q: %s: %s", c, resp.Status, body)
		}
	}
}

// TestDiffAgreesWithReference compares with what profile.Merge makes of one profile less
// another, which is how go tool pprof -diff_base does it.
func TestDiffAgreesWithReference(t *testing.T) {
	f := newFixture(t, query.Options{})
	before := profiletest.Random(1, "h", base, 200)
	after := profiletest.Random(2, "h", base.Add(time.Hour), 200)
	f.put(before)
	f.put(after)
	negative := before.Copy()
	negative.Scale(-1)
	merged, err := profile.Merge([]*profile.Profile{negative, after})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{}
	for _, s := range merged.Sample {
		want[s.Location[0].Line[0].Function.Name] += s.Value[1]
	}
	_, body := f.get("/api/v1/diff", "from", at(time.Hour), "last", "1m", "base_from", at(0), "base_last", "1m", "max_nodes", "262144")
	var d struct {
		Names []string
		Nodes [][7]int64
	}
	if err := json.Unmarshal(body, &d); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, n := range d.Nodes {
		got[d.Names[n[0]]] += n[4] - n[6]
	}
	for _, sums := range []map[string]int64{got, want} {
		maps.DeleteFunc(sums, func(_ string, v int64) bool { return v == 0 })
	}
	if !maps.Equal(got, want) || len(want) < 50 {
		t.Errorf("changes of %d functions differ from those of %d", len(got), len(want))
	}
}
