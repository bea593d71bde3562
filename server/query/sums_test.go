// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/query"
	"github.com/fleetprof/fleetprof/server/store/block"
)

// Whether a question takes the sums of a block or its rows, which it must if not all windows are asked for, it gets the
// same as from the head.
func TestSums(t *testing.T) {
	var all []*profile.Profile
	for i := range 6 {
		for h, host := range []string{"a", "b"} {
			p := profiletest.Random(uint64(h), host, base.Add(time.Duration(i)*10*time.Second), 50)
			p.Comments = []string{"of " + host}
			all = append(all, p)
		}
	}
	head := newFixture(t, query.Options{})
	forms["head"](head, all)
	for name, store := range forms {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, query.Options{})
			store(f, all)
			if name == "block" {
				hasSums(t, f)
			}
			testSums(t, f, head)
		})
	}
}

// hasSums fails if the only block has none.
func hasSums(t *testing.T, f *fixture) {
	t.Helper()
	blocks, _ := filepath.Glob(filepath.Join(f.dir, "blocks", "*"))
	if len(blocks) != 1 {
		t.Fatalf("there are blocks %q", blocks)
	}
	b, err := block.Open(blocks[0])
	if err != nil || b.Sums == 0 {
		t.Fatalf("the block has %d sums, %v", b.Sums, err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func testSums(t *testing.T, sealed, head *fixture) {
	for _, to := range []time.Duration{time.Minute, 30 * time.Second} {
		for _, selector := range []string{"", `{host_name="a"}`, `{thread_name=~"worker-[0-3]"}`, `{process_pid=~"10[0-2].",host_name="b"}`, `{process_pid!~".*[0-5]"}`} {
			params := []string{"from", at(0), "to", at(to), "query", selector}
			for _, name := range []string{"host_name", "process_pid", "thread_name"} {
				got, want := byLabel(sealed.pprof(params...), name), byLabel(head.pprof(params...), name)
				if !maps.Equal(got, want) {
					t.Errorf("%v by %s: %v, want %v", params, name, got, want)
				}
			}
			got, want := sealed.flame(append(params, "by", "process_pid")...), head.flame(append(params, "by", "process_pid")...)
			if got.Total != want.Total || got.Samples != want.Samples || got.Profiles != want.Profiles || got.Hosts != want.Hosts || len(got.Nodes) != len(want.Nodes) {
				t.Errorf("%v: flame graph of %d, %d, %d, %d, %d nodes, want %d, %d, %d, %d, %d", params, got.Total, got.Samples, got.Profiles, got.Hosts, len(got.Nodes),
					want.Total, want.Samples, want.Profiles, want.Hosts, len(want.Nodes))
			}
			if got, want := sealed.pprof(params...).Comments, head.pprof(params...).Comments; !slices.Equal(got, want) {
				t.Errorf("%v: comments are %q, want %q", params, got, want)
			}
		}
	}
}
