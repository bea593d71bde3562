// SPDX-License-Identifier: Apache-2.0

package query

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/fleetprof/fleetprof/server/columns"
)

// hashed is a decoded profile with a hash for each location, of all that it
// says: address, mapping, functions, lines. Equal locations of different
// profiles have equal hashes, so that merging finds them with one look; the
// hash is only a hint, what it leads to is compared. It is never changed.
type hashed struct {
	*columns.Profile
	locations []uint64
}

// hashLocations makes the hashes. The seed keeps whoever sends profiles from
// choosing locations whose hashes are equal.
func hashLocations(p *columns.Profile, seed maphash.Seed) *hashed {
	strings := make([]uint64, len(p.Strings))
	for i, s := range p.Strings {
		strings[i] = maphash.String(seed, s)
	}
	var b []byte
	sum := func(numbers ...uint64) uint64 {
		b = b[:0]
		for _, n := range numbers {
			b = binary.LittleEndian.AppendUint64(b, n)
		}
		return maphash.Bytes(seed, b)
	}
	mappings := make([]uint64, len(p.Mappings)+1) // by index plus 1; 0 for none
	for i, m := range p.Mappings {
		mappings[i+1] = sum(m.Start, m.Limit, m.Offset, strings[m.File], strings[m.BuildID], uint64(m.Resolved))
	}
	functions := make([]uint64, len(p.Functions))
	for i, f := range p.Functions {
		functions[i] = sum(strings[f.Name], strings[f.SystemName], strings[f.File], uint64(f.StartLine))
	}
	locations := make([]uint64, len(p.Locations))
	for i, l := range p.Locations {
		h := sum(l.Address, mappings[l.Mapping])
		for _, line := range p.LocationLines(i) {
			h = sum(h, functions[line.Function], uint64(line.Line), uint64(line.Column))
		}
		locations[i] = h
	}
	return &hashed{p, locations}
}

// Size is about how many bytes of memory h holds.
func (h *hashed) Size() int64 { return h.Profile.Size() + 8*int64(len(h.locations)) }
