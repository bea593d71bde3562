// SPDX-License-Identifier: Apache-2.0

package query

import (
	"bytes"
	"hash/maphash"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
)

func decoded(t testing.TB, seed uint64, samples int) *columns.Profile {
	t.Helper()
	var b bytes.Buffer
	if err := profiletest.Random(seed, "host", time.Unix(1e9, 0), samples).WriteUncompressed(&b); err != nil {
		t.Fatal(err)
	}
	p, err := columns.Decode(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestEqualHashes gives all locations the same hash: the result must be what it
// is with good hashes.
func TestEqualHashes(t *testing.T) {
	good, bad := newMerged(Selector{}, 1<<40), newMerged(Selector{}, 1<<40)
	for n := range uint64(3) {
		p := hashLocations(decoded(t, n, 20), maphash.MakeSeed())
		if err := bad.add(&hashed{p.Profile, make([]uint64, len(p.Locations))}); err != nil {
			t.Fatal(err)
		}
	}
	seed := maphash.MakeSeed()
	for n := range uint64(3) {
		if err := good.add(hashLocations(decoded(t, n, 20), seed)); err != nil {
			t.Fatal(err)
		}
	}
	if g, b := len(good.locations.values), len(bad.locations.values); g != b || g == 0 {
		t.Errorf("%d locations with equal hashes, %d with good ones", b, g)
	}
	if g, b := len(good.stacks.values), len(bad.stacks.values); g != b || good.total != bad.total || len(good.rows.values) != len(bad.rows.values) {
		t.Errorf("%d stacks with equal hashes, %d with good ones", b, g)
	}
	for i, g := range good.locations.values { // both met them in the same order
		b := bad.locations.values[i]
		if g.Location != b.Location || len(g.lines) != len(b.lines) || g.lines[0] != b.lines[0] {
			t.Fatalf("location %d is %+v, want %+v", i, b, g)
		}
	}
}
