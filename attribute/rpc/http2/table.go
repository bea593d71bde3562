// SPDX-License-Identifier: Apache-2.0

package http2

const (
	// defaultTableSize is that of a dynamic table until its encoder says another
	// (RFC 9113, section 6.5.2).
	defaultTableSize = 4096
	// maxTableSize is how much of a dynamic table is kept, in the octets of RFC
	// 7541, section 4.1. What is older is not known.
	maxTableSize = 64 << 10
	// entryOverhead is what an entry counts besides its name and value.
	entryOverhead = 32
)

// entry is one header field. Of names only the kind and of values only those
// of the wanted kinds are kept; the lengths say when an entry is evicted.
type entry struct {
	value             string
	nameLen, valueLen uint32
	kind              kind
}

func (e *entry) size() int { return int(e.nameLen) + int(e.valueLen) + entryOverhead }

// table is what is known of one direction's dynamic table: its newest entries,
// without a gap. See the package comment for why that is enough. The zero value
// is a table of size zero; use reset.
type table struct {
	ring  []entry // len is 0 or a power of two
	first int     // the oldest entry's place
	n     int     // how many entries
	size  int     // the sum of their sizes
	limit int     // what size must not exceed
	// older says that the encoder may have entries that are older than those
	// here. If it is false, a reference to one shows that something was missed.
	older bool
}

// reset makes the table that of a new connection.
func (t *table) reset() { *t = table{limit: defaultTableSize} }

// forget is for when insertions may have been missed: no entry's index is known
// any more.
func (t *table) forget() { *t = table{limit: max(t.limit, defaultTableSize), older: true} }

// at is the i-th newest entry, i < n.
func (t *table) at(i int) *entry { return &t.ring[(t.first+t.n-1-i)&(len(t.ring)-1)] }

// resize is a dynamic table size update. A table of no size is empty, and by
// that wholly known.
func (t *table) resize(size int) {
	if size == 0 {
		*t = table{}
		return
	}
	t.limit = min(size, maxTableSize)
	if size > maxTableSize {
		t.older = true
	}
	t.evict(t.limit)
}

// insert adds an entry as the newest. One that is larger than the table empties
// it (RFC 7541, section 4.4).
func (t *table) insert(e entry) {
	t.evict(t.limit - e.size())
	if e.size() > t.limit {
		return
	}
	if t.n == len(t.ring) {
		t.grow()
	}
	t.ring[(t.first+t.n)&(len(t.ring)-1)] = e
	t.n++
	t.size += e.size()
}

// evict drops the oldest entries until the rest has at most the size.
func (t *table) evict(size int) {
	for t.n > 0 && t.size > size {
		e := &t.ring[t.first]
		t.size -= e.size()
		*e = entry{}
		t.first = (t.first + 1) & (len(t.ring) - 1)
		t.n--
	}
}

func (t *table) grow() {
	ring := make([]entry, max(8, 2*len(t.ring)))
	for i := range t.n {
		ring[i] = t.ring[(t.first+i)&(len(t.ring)-1)]
	}
	t.ring, t.first = ring, 0
}

// bytes is how much memory the table holds, without what the allocator adds.
func (t *table) bytes() int {
	total := len(t.ring) * entryOverhead
	for i := range t.n {
		total += len(t.at(i).value)
	}
	return total
}
