// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/query"
)

// ofProcesses are two windows of host a and one of host b.
func ofProcesses() []*profile.Profile {
	sample := func(host, pid string, count int64) profiletest.Sample {
		labels := map[string]string{"host_name": host, "service_name": "api"}
		if pid != "" {
			labels["process_pid"] = pid
		}
		return profiletest.Sample{Stack: "main;work", Labels: labels, Count: count}
	}
	return []*profile.Profile{
		profiletest.New(base, sample("a", "7", 10), sample("a", "42", 3), sample("a", "x", 2), sample("a", "", 1)),
		profiletest.New(base, sample("b", "7", 5)),
		profiletest.New(base.Add(10*time.Second), sample("a", "42", 4), sample("a", "99", 1)),
	}
}

// Answers about processes are the same whether label sets have them or rows.
func TestProcesses(t *testing.T) {
	for name, store := range forms {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, query.Options{})
			store(f, ofProcesses())
			testProcesses(t, f)
		})
	}
}

func testProcesses(t *testing.T, f *fixture) {
	// Both profiles of the host count, wherever they are stored.
	if g := f.flame("from", at(0), "to", at(20*time.Second), "query", `{process_pid="x"}`); g.Profiles != 2 || g.Hosts != 1 {
		t.Errorf("%d profiles of %d hosts, want 2 of 1", g.Profiles, g.Hosts)
	}
	all, second := []string{"from", at(0), "to", at(20 * time.Second)}, []string{"from", at(10 * time.Second), "to", at(20 * time.Second)}
	for _, c := range []struct {
		span     []string
		selector string
		want     map[string]int64
	}{
		{all, "", map[string]int64{"7": 15, "42": 7, "x": 2, "": 1, "99": 1}},
		{second, "", map[string]int64{"42": 4, "99": 1}},
		{all, `{process_pid="7"}`, map[string]int64{"7": 15}},
		{all, `{process_pid="7",host_name="b"}`, map[string]int64{"7": 5}},
		{all, `{process_pid!="7"}`, map[string]int64{"42": 7, "x": 2, "": 1, "99": 1}},
		{all, `{process_pid=~"4.|x"}`, map[string]int64{"42": 7, "x": 2}},
		{all, `{process_pid!~"[0-9]+"}`, map[string]int64{"x": 2, "": 1}},
		{all, `{process_pid=""}`, map[string]int64{"": 1}},
		{all, `{process_pid!="",process_pid!="42"}`, map[string]int64{"7": 15, "x": 2, "99": 1}},
		{second, `{process_pid=~"..",host_name="a"}`, map[string]int64{"42": 4, "99": 1}},
	} {
		params := append(slices.Clone(c.span), "query", c.selector)
		equalSums(t, byLabel(f.pprof(params...), "process_pid"), c.want)
		total, values, groups, wantGroups := int64(0), []string{}, map[string]int64{}, map[string]int64{}
		for pid, n := range c.want {
			total += n * profiletest.Period
			if wantGroups[pid] = n * profiletest.Period; pid != "" {
				values = append(values, pid)
			}
		}
		slices.Sort(values)
		if got := f.list("/api/v1/labels/process_pid/values", params...); !slices.Equal(got, values) {
			t.Errorf("%v: values are %q, want %q", params, got, values)
		}
		if got := slices.Contains(f.list("/api/v1/labels", params...), "process_pid"); got != (len(values) > 0) {
			t.Errorf("%v: process_pid is among the labels: %v", params, got)
		}
		for _, by := range []string{"process_pid", "host_name,process_pid"} {
			clear(groups)
			for _, g := range f.series(append(params, "step", "10s", "by", by)...).Groups {
				groups[g.Values[len(g.Values)-1]] += g.Total
			}
			if fmt.Sprint(groups) != fmt.Sprint(wantGroups) {
				t.Errorf("%v: by %s: %v, want %v", params, by, groups, wantGroups)
			}
			g := f.flame(append(params, "by", by)...)
			if g.Total != total {
				t.Errorf("%v: by %s: flame graph of %d, want %d", params, by, g.Total, total)
			}
			for _, n := range g.Nodes {
				if n[3] == 0 {
					t.Errorf("%v: by %s: a node of nothing: %q", params, by, g.Names[n[0]])
				}
			}
		}
		if got := f.series(append(params, "step", "10s")...).Total; got != total {
			t.Errorf("%v: %d over time, want %d", params, got, total)
		}
	}
}
