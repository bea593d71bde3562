// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math/bits"
	"runtime/debug"
)

const (
	minBudget = 96 << 20
	maxBudget = 16 << 30
	// fixedMaps is what the BPF maps of a fixed size take: lists of mappings, the
	// tables of processes, programs, weights and goroutines, stacks known, counters.
	fixedMaps = 12 << 20
	// programBytes is the memory that no setting changes: code and data of this program
	// as far as they are in memory, and thread stacks.
	programBytes = 38 << 20
	// resultsRemembered is how many places in code have their names kept.
	resultsRemembered = 32768
)

// budget splits a memory budget, which holds for resident memory and BPF maps
// together. None of it depends on the number of CPUs or the frequency.
type budget struct {
	ring       int // bytes, a power of two
	activities int // ring of activities, bytes, a power of two
	blocks     int // unwind tables, MiB
	heap       int64
}

func splitBudget(bytes int64) budget {
	b := budget{
		ring:       1 << (bits.Len64(uint64(bytes/32)) - 1),
		activities: 1 << (bits.Len64(uint64(bytes/32)) - 1),
		blocks:     int(bytes / 4 >> 20),
	}
	b.heap = bytes - int64(b.ring) - int64(b.activities) - int64(b.blocks)<<20 - fixedMaps - programBytes
	return b
}

// tables is what names of code may take of the heap, without results.
func (b budget) tables() int64 { return b.heap / 2 }

// hold makes the garbage collector keep the heap inside the budget.
func (b budget) hold() { debug.SetMemoryLimit(b.heap) }
