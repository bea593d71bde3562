// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/server/query"
)

// TestUnits: values are in the unit of the type that is asked for, at each endpoint that says one.
func TestUnits(t *testing.T) {
	f := newFixture(t, query.Options{})
	forms["both"](f, append(ofTwoHosts(), heapProfile(base)))
	for _, c := range []struct {
		kind, selector, unit string
		total                int64
	}{
		{"", "{}", "nanoseconds", 133 * 52631578},
		{"cpu", "{}", "nanoseconds", 133 * 52631578},
		{"space:inuse_space", "{}", "bytes", 4000},
		{"space:alloc_objects:count:space:bytes", "{}", "count", 2},
		// Of nothing it is the one that is asked for.
		{"", `{host_name="nobody"}`, "nanoseconds", 0},
		{"space:inuse_space:bytes", `{host_name="nobody"}`, "bytes", 0},
		{"space:inuse_space", `{host_name="nobody"}`, "bytes", 0},
		{"wall:wall:nanoseconds", "{}", "nanoseconds", 0},
		{"wall", "{}", "", 0},
	} {
		for _, endpoint := range []string{"series", "flamegraph", "diff"} {
			resp, body := f.get("/api/v1/"+endpoint, "from", at(0), "to", at(time.Minute), "type", c.kind, "query", c.selector, "base_query", "{}")
			var answer struct {
				Unit  string
				Total int64
			}
			if err := json.Unmarshal(body, &answer); err != nil || resp.StatusCode != http.StatusOK || answer.Unit != c.unit || answer.Total != c.total {
				t.Errorf("%s of %s%s: %s %.300s, want %d %s", endpoint, c.kind, c.selector, resp.Status, body, c.total, c.unit)
			}
		}
	}
}

func TestListOfTypes(t *testing.T) {
	for name, store := range forms {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, query.Options{})
			store(f, append(ofTwoHosts(), heapProfile(base.Add(time.Minute))))
			const cpu, heap = "cpu:cpu:nanoseconds:cpu:nanoseconds", ":space:bytes"
			all := []string{cpu, "space:alloc_objects:count" + heap, "space:alloc_space:bytes" + heap, "space:inuse_space:bytes" + heap}
			for _, c := range []struct {
				params []string
				want   []string
			}{
				{nil, all},
				{[]string{"type", "space"}, all},
				{[]string{"query", `{host_name="b"}`}, all[:3]}, // it has nothing in use
				{[]string{"query", `{thread_name="w1"}`}, all[:1]},
				{[]string{"to", at(50 * time.Second)}, all[:1]},
				{[]string{"from", at(50 * time.Second)}, all[1:]},
				{[]string{"to", at(-time.Hour), "from", at(-2 * time.Hour)}, []string{}},
			} {
				got := f.list("/api/v1/types", append([]string{"from", at(0), "to", at(time.Hour)}, c.params...)...)
				if !slices.Equal(got, c.want) {
					t.Errorf("%v: %q, want %q", c.params, got, c.want)
				}
			}
		})
	}
}
