// SPDX-License-Identifier: Apache-2.0

package dictionary

import (
	"math/bits"
	"math/rand/v2"
)

// Key is what something is found by. Bits are all of it, in 64 bits.
type Key interface {
	comparable
	Bits() uint64
}

// Numbers finds the numbers of keys, which whoever uses it holds in a slice. It takes a third of
// the memory of a map: 5 to 11 bytes for each. There are millions of stacks. It is not safe for
// concurrent use.
type Numbers[K Key] struct {
	slots []uint32 // numbers plus 1; 0 is none
	used  int
	seed  uint64 // so that nobody who chooses keys chooses their slots
}

// minSlots is a power of two, like every number of slots.
const minSlots = 4

// numberBytes is about what Numbers takes for a key.
const numberBytes = 8

// Find gives the number of a key among all, or else the slot where it belongs.
func (t *Numbers[K]) Find(all []K, k K) (id uint32, slot uint64, ok bool) {
	if t.slots == nil {
		t.slots, t.seed = make([]uint32, minSlots), rand.Uint64()
	}
	mask := uint64(len(t.slots) - 1)
	for slot = t.hash(k) & mask; ; slot = (slot + 1) & mask {
		id = t.slots[slot]
		if id == 0 {
			return 0, slot, false
		}
		if all[id-1] == k {
			return id - 1, slot, true
		}
	}
}

func (t *Numbers[K]) hash(k K) uint64 {
	high, low := bits.Mul64(k.Bits()^t.seed, 0x9e3779b97f4a7c15)
	return high ^ low
}

// Put enters the last of all keys in the slot that Find gave. Others may be in other tables.
func (t *Numbers[K]) Put(all []K, slot uint64) {
	t.slots[slot] = uint32(len(all))
	if t.used++; t.used <= len(t.slots)/4*3 {
		return
	}
	known := t.slots
	t.slots = make([]uint32, 2*len(known))
	mask := uint64(len(t.slots) - 1)
	for _, id := range known {
		if id == 0 {
			continue
		}
		slot := t.hash(all[id-1]) & mask
		for t.slots[slot] != 0 {
			slot = (slot + 1) & mask
		}
		t.slots[slot] = id
	}
}
