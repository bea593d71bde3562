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

type graph struct {
	From, To, Oldest, Newest int64
	Unit                     string
	Total, Samples, Hidden   int64
	Profiles, Hosts, Skipped int
	Names, Objects           []string
	Nodes                    [][5]int64
}

func (f *fixture) flame(params ...string) graph {
	f.t.Helper()
	resp, body := f.get("/api/v1/flamegraph", params...)
	var g graph
	if err := json.Unmarshal(body, &g); err != nil || resp.StatusCode != http.StatusOK {
		f.t.Fatalf("%v: %s: %s", params, resp.Status, body)
	}
	return g
}

// paths writes each node as its path, with total and self in samples.
func (g graph) paths(t *testing.T) []string {
	t.Helper()
	var out, path []string
	for i, n := range g.Nodes {
		depth := int(n[2])
		if depth > len(path) || (depth == 0) != (i == 0) {
			t.Fatalf("node %d has depth %d below %q", i, depth, path)
		}
		name := g.Names[n[0]]
		if o := g.Objects[n[1]]; o != "" {
			name = o + "!" + name
		}
		path = append(path[:depth:depth], name)
		out = append(out, fmt.Sprintf("%s %d %d", strings.Join(path, ";"), n[3]/profiletest.Period, n[4]/profiletest.Period))
	}
	return out
}

func equalLines(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestFlameGraph(t *testing.T) {
	f := newFixture(t, query.Options{})
	twoHosts(f)
	g := f.flame("from", at(0), "to", at(time.Minute))
	equalLines(t, g.paths(t), []string{
		"all 133 0",
		"all;program!main 33 0",
		"all;program!main;program!idle 3 3",
		"all;program!main;libc.so.6!work 30 30",
		"all;program!other 100 0",
		"all;program!other;program!main 100 0",
		"all;program!other;program!main;libc.so.6!work 100 100",
	})
	if g.Total != 133*profiletest.Period || g.Samples != 133 || g.Profiles != 4 || g.Hosts != 2 || g.Hidden != 0 || g.Unit != "nanoseconds" {
		t.Errorf("head is %+v", g)
	}
	if g.From != base.UnixMilli() || g.To != base.Add(time.Minute).UnixMilli() || g.Oldest != g.From || g.Newest != base.Add(30*time.Second).UnixMilli() {
		t.Errorf("times are %d %d %d %d", g.From, g.To, g.Oldest, g.Newest)
	}
	g = f.flame("from", at(0), "to", at(time.Minute), "by", "process_executable_name", "query", `{host_name="a"}`)
	equalLines(t, g.paths(t), []string{
		"all 33 0",
		"all;(no process_executable_name) 3 0",
		"all;(no process_executable_name);program!main 3 0",
		"all;(no process_executable_name);program!main;program!idle 3 3",
		"all;shop 30 0",
		"all;shop;program!main 30 0",
		"all;shop;program!main;libc.so.6!work 30 30",
	})
	if g.Hosts != 1 || g.Profiles != 3 {
		t.Errorf("%d hosts and %d profiles, want 1 and 3", g.Hosts, g.Profiles)
	}
}

// TestFlameGraphByLabels groups by several labels, with stacks and without.
func TestFlameGraphByLabels(t *testing.T) {
	f := newFixture(t, query.Options{})
	twoHosts(f)
	span := []string{"from", at(0), "to", at(time.Minute)}
	g := f.flame(append(span, "by", "thread_name,process_executable_name", "max_depth", "3")...)
	equalLines(t, g.paths(t), []string{
		"all 133 0",
		"all;w1 130 0",
		"all;w1;(no process_executable_name) 100 0",
		"all;w1;(no process_executable_name);program!other 100 100",
		"all;w1;shop 30 0",
		"all;w1;shop;program!main 30 30",
		"all;w2 3 0",
		"all;w2;(no process_executable_name) 3 0",
		"all;w2;(no process_executable_name);program!main 3 3",
	})
	g = f.flame(append(span, "by", "thread_name,process_executable_name", "max_depth", "2")...)
	equalLines(t, g.paths(t), []string{
		"all 133 0",
		"all;w1 130 0",
		"all;w1;(no process_executable_name) 100 100",
		"all;w1;shop 30 30",
		"all;w2 3 0",
		"all;w2;(no process_executable_name) 3 3",
	})
	if g.Total != 133*profiletest.Period || g.Samples != 133 || g.Hosts != 2 || g.Hidden != 0 {
		t.Errorf("head is %+v", g)
	}
	g = f.flame(append(span, "by", "thread_name,process_executable_name", "max_depth", "1")...)
	equalLines(t, g.paths(t), []string{"all 133 0", "all;w1 130 130", "all;w2 3 3"})
}

// TestSumsNeedNoStacks: sums by labels must not fail for what stacks take, for
// they are asked for over long ranges.
func TestSumsNeedNoStacks(t *testing.T) {
	f := newFixture(t, query.Options{MaxResult: 400_000})
	f.put(profiletest.Random(1, "a", base, 600))
	span := []string{"from", at(0), "to", at(time.Hour), "by", "process_executable_name"}
	if resp, body := f.get("/api/v1/flamegraph", span...); resp.StatusCode != http.StatusUnprocessableEntity {
		t.Fatalf("with stacks: %s %.200s", resp.Status, body)
	}
	g := f.flame(append(span, "max_depth", "1")...)
	var sum int64
	for _, n := range g.Nodes[1:] {
		sum += n[3]
	}
	if len(g.Nodes) != 21 || sum != g.Total || sum == 0 {
		t.Errorf("%d nodes with %d of %d", len(g.Nodes), sum, g.Total)
	}
}

// What tells many processes from each other takes no memory of a flame graph that does not show it.
func TestFlameGraphOfManyProcesses(t *testing.T) {
	f := newFixture(t, query.Options{MaxResult: 1 << 20})
	var samples []profiletest.Sample
	for i := range 10_000 {
		samples = append(samples, profiletest.Sample{
			Stack: "main", Count: 1,
			Labels: map[string]string{"host_name": fmt.Sprint("h", i%3), "process_pid": fmt.Sprint(i), "service_name": fmt.Sprint("s", i%2)},
		})
	}
	f.put(profiletest.New(base, samples...))
	f.seal()
	span := []string{"from", at(0), "to", at(time.Hour)}
	for _, by := range []string{"process_pid", "service_name,process_pid"} {
		if resp, body := f.get("/api/v1/flamegraph", append(span, "by", by)...); resp.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("by %s: %s %.200s, want %d", by, resp.Status, body, http.StatusUnprocessableEntity)
		}
	}
	g := f.flame(append(span, "by", "service_name")...)
	equalLines(t, g.paths(t), []string{
		"all 10000 0",
		"all;s0 5000 0", "all;s0;program!main 5000 5000",
		"all;s1 5000 0", "all;s1;program!main 5000 5000",
	})
	if g.Hosts != 3 {
		t.Errorf("%d hosts, want 3", g.Hosts)
	}
	if resp, body := f.get("/api/v1/diff", append(span, "base_query", `{service_name="s1"}`)...); resp.StatusCode != http.StatusOK {
		t.Errorf("diff: %s %.200s", resp.Status, body)
	}
}

func TestFlameGraphTrimmed(t *testing.T) {
	f := newFixture(t, query.Options{})
	twoHosts(f)
	g := f.flame("from", at(0), "to", at(time.Minute), "max_nodes", "5")
	equalLines(t, g.paths(t), []string{
		"all 133 0",
		"all;program!main 33 0",
		"all;program!other 100 0",
		"all;program!other;program!main 100 0",
		"all;program!other;program!main;libc.so.6!work 100 100",
	})
	if g.Hidden != 33*profiletest.Period {
		t.Errorf("hidden is %d samples", g.Hidden/profiletest.Period)
	}
	f.put(profiletest.Random(1, "r", base.Add(time.Hour), 120))
	for _, limit := range []int{1, 2, 100, 3000, 1 << 18} {
		g := f.flame("from", at(time.Hour), "to", at(2*time.Hour), "max_nodes", fmt.Sprint(limit))
		shown := g.Hidden
		for _, n := range g.Nodes {
			shown += n[4]
		}
		if len(g.Nodes) > limit || shown != g.Total || g.Nodes[0][3] != g.Total {
			t.Errorf("at most %d nodes: %d nodes, %d shown or hidden of %d, root %d", limit, len(g.Nodes), shown, g.Total, g.Nodes[0][3])
		}
		g.paths(t)
	}
}

func TestFlameGraphWithoutData(t *testing.T) {
	f := newFixture(t, query.Options{})
	g := f.flame()
	equalLines(t, g.paths(t), []string{"all 0 0"})
	if g.Total != 0 || g.Newest != 0 || g.Oldest != 0 {
		t.Errorf("head is %+v", g)
	}
	twoHosts(f)
	if g = f.flame("from", at(time.Hour), "to", at(2*time.Hour)); g.Total != 0 || g.Newest != base.Add(30*time.Second).UnixMilli() || g.Oldest != base.UnixMilli() {
		t.Errorf("head is %+v", g)
	}
}

// TestFlameGraphFrames has what is not a plain named frame: an inlined call, a
// location without a name, one without a mapping, and none at all.
func TestFlameGraphFrames(t *testing.T) {
	f := newFixture(t, query.Options{})
	p := profiletest.New(base, profiletest.Sample{Stack: "main;leaf", Count: 1})
	leaf, m := p.Location[0], p.Mapping[0]
	leaf.Line = append([]profile.Line{{Function: &profile.Function{ID: 77, Name: "inlined"}}}, leaf.Line...)
	p.Function = append(p.Function, leaf.Line[0].Function)
	bare := &profile.Location{ID: 50, Mapping: m, Address: m.Start + 0x234}
	lost := &profile.Location{ID: 51, Address: 0xabc}
	p.Location = append(p.Location, bare, lost)
	p.Sample = append(p.Sample,
		&profile.Sample{Location: []*profile.Location{lost, bare}, Value: []int64{1, profiletest.Period}},
		&profile.Sample{Value: []int64{1, profiletest.Period}})
	f.put(p)
	equalLines(t, f.flame("from", at(0), "to", at(time.Minute)).paths(t), []string{
		"all 3 1",
		"all;program!main 1 0",
		"all;program!main;program!leaf 1 0",
		"all;program!main;program!leaf;program!inlined 1 1",
		"all;program!program+0x1234 1 0",
		"all;program!program+0x1234;[unknown]+0xabc 1 1",
	})
}

// TestFlameGraphAgreesWithPProf sums self time by function both ways.
func TestFlameGraphAgreesWithPProf(t *testing.T) {
	f := newFixture(t, query.Options{})
	for i := range 4 {
		f.put(profiletest.Random(uint64(i), "h", base.Add(time.Duration(i)*10*time.Second), 30))
	}
	span := []string{"from", at(0), "to", at(time.Hour)}
	want := map[string]int64{}
	for _, s := range f.pprof(span...).Sample {
		want[s.Location[0].Line[0].Function.Name] += s.Value[1]
	}
	got := map[string]int64{}
	g := f.flame(append(span, "max_nodes", "262144")...)
	for _, n := range g.Nodes {
		if n[4] > 0 {
			got[g.Names[n[0]]] += n[4]
		}
	}
	if g.Hidden != 0 || !maps.Equal(got, want) {
		t.Errorf("hidden is %d; self times differ: %d functions, want %d", g.Hidden, len(got), len(want))
	}
}
