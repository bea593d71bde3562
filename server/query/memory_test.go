// SPDX-License-Identifier: Apache-2.0

package query

import (
	"hash/maphash"
	"runtime"
	"testing"
)

// heap is the memory in use once garbage is gone.
func heap() int64 {
	runtime.GC()
	runtime.GC() // the first may have to end one that was under way
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemoryIsCounted compares what the bounds on memory go by with the heap:
// what is counted must be at least half of what is used, and at most twice.
func TestMemoryIsCounted(t *testing.T) {
	seed := maphash.MakeSeed()
	var profiles []*hashed
	before, counted := heap(), int64(0)
	for n := range uint64(4) {
		p := hashLocations(decoded(t, n, 1000), seed)
		profiles, counted = append(profiles, p), counted+p.Size()
	}
	within(t, "decoded profiles", counted, heap()-before)
	before = heap()
	m := newMerged(Selector{}, 1<<40)
	for _, p := range profiles {
		if err := m.add(p); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "a merged profile", m.held, heap()-before)
	runtime.KeepAlive(profiles)
	runtime.KeepAlive(m)
}

func within(t *testing.T, what string, counted, used int64) {
	t.Helper()
	t.Logf("%s: %d bytes counted, %d used", what, counted, used)
	if counted < used/2 || counted > 2*used {
		t.Errorf("%s: %d bytes counted, %d used", what, counted, used)
	}
}
