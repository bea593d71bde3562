// SPDX-License-Identifier: Apache-2.0

package dictionary

import "github.com/fleetprof/fleetprof/server/columns"

// Memory keeps what the numbers of one sender have become in a dictionary, so that what
// comes in one profile after the other is looked up once. It is not safe for concurrent
// use.
type Memory struct {
	// By the sender's numbers, that of the dictionary plus 1, or 0 while unknown.
	locations, labelSets, stacks []uint32
}

// Size is how many bytes of memory m takes.
func (m *Memory) Size() int64 { return 4 * int64(cap(m.locations)+cap(m.labelSets)+cap(m.stacks)) }

// Stack gives the stack that the sender calls by a number, if it is known.
func (m *Memory) Stack(number uint32) (stack uint32, ok bool) {
	if int(number) >= len(m.stacks) || m.stacks[number] == 0 {
		return 0, false
	}
	return m.stacks[number] - 1, true
}

// KeepStack remembers a stack.
func (m *Memory) KeepStack(number, stack uint32) { m.stacks = put(m.stacks, number, stack+1) }

// Recall has t know what is remembered of a profile with these numbers.
func (m *Memory) Recall(t *Translation, o *columns.Origin) {
	recall(t.locations, m.locations, o.Locations)
	recall(t.labelSets, m.labelSets, o.LabelSets)
}

func recall(to, known, numbers []uint32) {
	for i, n := range numbers {
		if int(n) < len(known) {
			to[i] = known[n]
		}
	}
}

// Keep remembers what t knows of a profile with these numbers.
func (m *Memory) Keep(t *Translation, o *columns.Origin) {
	for i, n := range o.Locations {
		m.locations = put(m.locations, n, t.locations[i])
	}
	for i, n := range o.LabelSets {
		m.labelSets = put(m.labelSets, n, t.labelSets[i])
	}
}

func put(all []uint32, at, v uint32) []uint32 {
	if v == 0 {
		return all
	}
	if missing := int(at) + 1 - len(all); missing > 0 {
		all = append(all, make([]uint32, missing)...)
	}
	all[at] = v
	return all
}
