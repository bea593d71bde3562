// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"cmp"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/profiler/unwind"
	"github.com/fleetprof/fleetprof/sample"
)

const (
	// grace is how long memory rests that the kernel side was told to forget, in
	// nanoseconds: a walk may be under way in it. A walk takes a millisecond at most.
	grace = 1e9
	// retryAfter is how long an object stays without a table whose reason may pass,
	// in nanoseconds.
	retryAfter = 10e9
)

// shelf keeps unwind tables in the memory that the kernel side reads, shared by
// all processes, and gives numbers to the segments of their objects. When memory
// is short, tables that no walk used for an epoch or more make room, the longest
// unused first. Not safe for concurrent use.
type shelf struct {
	memory    *bpf.Memory
	blockBits int // of words, not bytes
	now       func() uint64
	stats     *tableStats
	// epoch counts the periods by which use is told apart; the kernel side notes
	// it in each segment that a walk passes.
	epoch uint32
	// moved is called when the mappings of an object may have got other segments.
	moved func(*shelved)

	objects map[*sample.Object]*shelved
	// free may be written now; room is what will be free after grace as well.
	free, room space
	words      resting[wordRange]
	ids        []uint32 // free numbers of segments
	oldIDs     resting[uint32]
	retries    resting[*shelved]
}

// shelved is an object that has, or may get, a table.
type shelved struct {
	object *sample.Object
	// parts are the executable segments. There is one until a table tells better.
	parts []part
	// state is that of all parts: bpf.SegmentNone, Absent or Ready.
	state uint32
	// table lies in words of shared memory; nil unless Ready.
	table *unwind.Table
	words wordRange
	// size is what the table took or would have taken, in words; 0: not known.
	size int
	// mappings counts those in lists of processes.
	mappings int
	// asked says that the table is being built.
	asked bool
	// unopened counts builds for which the file could not be opened.
	unopened int
}

// part is one executable segment of an object.
type part struct {
	id uint32
	// length bytes from file offset fileStart on are linked at start.
	fileStart, start, length uint64
}

// newShelf makes an empty shelf of all the memory. now is CLOCK_MONOTONIC.
func newShelf(memory *bpf.Memory, now func() uint64, stats *tableStats) *shelf {
	s := &shelf{
		memory: memory, blockBits: bits.TrailingZeros(uint(bpf.BlockWords)), now: now, stats: stats,
		moved:   func(*shelved) {},
		objects: make(map[*sample.Object]*shelved),
	}
	all := wordRange{0, len(memory.Words) &^ 3}
	s.free.add(all)
	s.room.add(all)
	for id := len(memory.Segments) - 1; id > 0; id-- { // 0 stays SegmentNone
		s.ids = append(s.ids, uint32(id))
	}
	return s
}

// poll does what has come due. It is called at every poll, and with a new epoch
// about every 10 s.
func (s *shelf) poll(epoch uint32) {
	s.epoch = epoch
	now := s.now()
	for w := range s.words.due(now) {
		s.free.add(w)
	}
	for id := range s.oldIDs.due(now) {
		s.ids = append(s.ids, id)
	}
	for e := range s.retries.due(now) {
		s.retry(e)
		break // one at a time: it looks at all objects
	}
	s.recycle()
	s.stats.segments.Set(float64(len(s.memory.Segments) - 1 - len(s.ids)))
	s.stats.bytes.Set(float64(4 * (len(s.memory.Words)&^3 - s.room.total)))
}

// get finds an object, or takes it in if it can have a table; nil if it cannot,
// and if there are no numbers left.
func (s *shelf) get(o *sample.Object) *shelved {
	if o.Kind != sample.File && o.Kind != sample.VDSO {
		return nil
	}
	e := s.objects[o]
	if e == nil {
		id := s.newID()
		if id == 0 {
			return nil
		}
		e = &shelved{object: o, parts: []part{{id: id}}, state: bpf.SegmentAbsent}
		s.objects[o] = e
	}
	return e
}

// lookup finds the table for a byte of an object by its file offset, and the
// address at which that byte is linked. The table is there if state is
// SegmentReady; it is good until the next poll.
func (s *shelf) lookup(o *sample.Object, offset uint64) (t *unwind.Table, addr uint64, state uint32) {
	if o.Kind != sample.File && o.Kind != sample.VDSO {
		return nil, 0, bpf.SegmentNone
	}
	e := s.objects[o]
	if e == nil {
		return nil, 0, bpf.SegmentAbsent
	}
	if e.state != bpf.SegmentReady {
		return nil, 0, e.state
	}
	for _, p := range e.parts {
		if at := offset - p.fileStart; at < p.length {
			atomic.StoreUint32(&s.memory.Segments[p.id].Used, s.epoch)
			return e.table, p.start + at, bpf.SegmentReady
		}
	}
	return nil, 0, bpf.SegmentNone
}

// segment is the number of the segment for a mapping of length bytes from a file
// offset on: of the one that most of the mapping shows.
func (e *shelved) segment(offset, length uint64) uint32 {
	if e == nil {
		return 0
	}
	id, most := e.parts[0].id, int64(0)
	for _, p := range e.parts {
		first := int64(offset - p.fileStart) // fileStart may lie before the file
		shown := min(first+int64(length), int64(p.length)) - max(first, 0)
		if shown > most {
			id, most = p.id, shown
		}
	}
	return id
}

// publish makes the state of an object known to the kernel side. All else that
// the state promises has been written before.
func (s *shelf) publish(e *shelved, state uint32) {
	e.state = state
	for _, p := range e.parts {
		atomic.StoreUint32(&s.memory.Segments[p.id].State, state)
	}
}

// newID takes a number for a segment, which starts without a table; 0 if there
// is none left.
func (s *shelf) newID() uint32 {
	if len(s.ids) == 0 {
		s.stats.segmentsExhausted.Inc()
		return 0
	}
	id := s.ids[len(s.ids)-1]
	s.ids = s.ids[:len(s.ids)-1]
	s.memory.Segments[id] = bpf.Segment{State: bpf.SegmentAbsent, Used: s.epoch}
	return id
}

// lastUsed is the epoch in which a walk passed the object last.
func (s *shelf) lastUsed(e *shelved) (epoch uint32) {
	for _, p := range e.parts {
		epoch = max(epoch, atomic.LoadUint32(&s.memory.Segments[p.id].Used))
	}
	return epoch
}

// unused returns the objects that match, the longest unused first.
func (s *shelf) unused(match func(e *shelved, used uint32) bool) []*shelved {
	type candidate struct {
		*shelved
		used uint32
	}
	var found []candidate
	for _, e := range s.objects {
		if used := s.lastUsed(e); match(e, used) {
			found = append(found, candidate{e, used})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int { return cmp.Compare(a.used, b.used) })
	sorted := make([]*shelved, len(found))
	for i, c := range found {
		sorted[i] = c.shelved
	}
	return sorted
}

// recycle keeps some numbers of segments free, for which it forgets objects that
// no process maps.
func (s *shelf) recycle() {
	spare := len(s.memory.Segments) / 32
	short := spare - len(s.ids) - len(s.oldIDs)
	if short <= 0 {
		return
	}
	for _, e := range s.unused(func(e *shelved, _ uint32) bool { return e.mappings == 0 }) {
		if short <= 0 {
			return
		}
		short -= len(e.parts)
		s.drop(e)
	}
}

// drop forgets an object.
func (s *shelf) drop(e *shelved) {
	if e.state == bpf.SegmentReady {
		s.evict(e)
	}
	s.publish(e, bpf.SegmentAbsent)
	for _, p := range e.parts {
		s.oldIDs.add(s.now()+grace, p.id)
	}
	delete(s.objects, e.object)
}

// giveUp says that an object has no table; with again, not before retryAfter.
func (s *shelf) giveUp(o *sample.Object, again bool) {
	e := s.objects[o]
	if e == nil || e.state != bpf.SegmentAbsent {
		return
	}
	s.publish(e, bpf.SegmentNone)
	if again {
		s.retries.add(s.now()+retryAfter, e)
	}
}

// retry lets an object ask for its table again, if there may be room for it.
func (s *shelf) retry(e *shelved) {
	if s.objects[e.object] != e || e.state != bpf.SegmentNone {
		return
	}
	if _, ok := s.victims(e.size); !ok {
		s.retries.add(s.now()+retryAfter, e)
		return
	}
	e.unopened = 0
	s.publish(e, bpf.SegmentAbsent)
}
