// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"sync/atomic"
	"unsafe"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/profiler/unwind"
	"github.com/fleetprof/fleetprof/sample"
)

// A Rule in memory is its own encoding on our machines, which are little-endian:
// the fields in order, without padding. The kernel side reads what Go stores.
var _ = [1]struct{}{}[unsafe.Sizeof(unwind.Rule{})^unwind.RuleSize|
	unsafe.Offsetof(unwind.Rule{}.BXOffset)^5|
	unsafe.Offsetof(unwind.Rule{}.Add)^6|
	unsafe.Offsetof(unwind.Rule{}.CFA)^8|
	unsafe.Offsetof(unwind.Rule{}.RAOffset)^12|
	unsafe.Offsetof(unwind.Rule{}.FPOffset)^14]

// A verdict is what became of a table that was to be placed.
type verdict int

const (
	// placed: it is there.
	placed verdict = iota
	// waiting: memory for it will be free after grace. Try again.
	waiting
	// refused: what is in memory is in use. The object may ask again later.
	refused
	// misfit: it never will be there.
	misfit
	// unwanted: the object is not known any more, or has its table.
	unwanted
)

// place copies a table to shared memory and publishes it. starts are the file
// offsets of the regions' first bytes.
func (s *shelf) place(o *sample.Object, t *unwind.Table, starts []uint64) verdict {
	e := s.objects[o]
	if e == nil || e.state == bpf.SegmentReady {
		return unwanted
	}
	e.size = s.bound(t)
	if e.size > len(s.memory.Words)&^3 {
		return misfit
	}
	if len(t.Regions)-len(e.parts) > len(s.ids) {
		s.stats.segmentsExhausted.Inc()
		return refused
	}
	at, ok := s.free.take(e.size)
	if !ok {
		return s.makeRoom(e.size)
	}
	s.room.remove(at)
	view, end, ok := s.write(t, at)
	if !ok {
		s.free.add(at)
		s.room.add(at)
		return misfit
	}
	if unneeded := (wordRange{(end + 3) &^ 3, at.end}); unneeded.size() > 0 {
		s.free.add(unneeded)
		s.room.add(unneeded)
		at.end = unneeded.start
	}
	e.table, e.words = view, at
	s.describe(e, starts)
	s.publish(e, bpf.SegmentReady)
	if len(e.parts) > 1 {
		s.moved(e)
	}
	s.stats.tables.Inc()
	return placed
}

// bound is the size of the memory to take for a table, in words: a multiple of 4,
// and with room for the copies that write may have to make.
func (s *shelf) bound(t *unwind.Table) int {
	n := unwind.RuleSize/4*len(t.Rules) + len(t.Rows)
	for _, r := range t.Regions {
		n += len(r.Index)
	}
	// At each end of a block it copies one page's rows, and skips less than that.
	n += (len(t.Rows)>>s.blockBits + 1) * 2 * unwind.MaxPageRows
	return (n + 3) &^ 3
}

// write copies a table to free words and returns the copy and where it ends:
// rules, indexes, rows. Rows of one index entry that would lie in two blocks get
// a copy behind all others, and their entry leads there; ok is false if it cannot,
// because row numbers end or because pages share rows that they should not.
func (s *shelf) write(t *unwind.Table, at wordRange) (view *unwind.Table, end int, ok bool) {
	end = at.start
	take := func(n int) []uint32 {
		end += n
		return s.memory.Words[end-n : end : end]
	}
	view = &unwind.Table{Machine: t.Machine, Stats: t.Stats}
	rules := take(unwind.RuleSize / 4 * len(t.Rules))
	view.Rules = unsafe.Slice((*unwind.Rule)(unsafe.Pointer(unsafe.SliceData(rules))), len(t.Rules))
	copy(view.Rules, t.Rules)
	for _, r := range t.Regions {
		r.Index = append(take(len(r.Index))[:0], r.Index...)
		view.Regions = append(view.Regions, r)
	}
	base := end
	copy(take(len(t.Rows)), t.Rows)
	for _, r := range view.Regions {
		for i, entry := range r.Index {
			first, count := base+int(entry%unwind.MaxRows), int(entry/unwind.MaxRows)
			if count == 0 || !s.crosses(first, count) {
				continue
			}
			if s.crosses(end, count) {
				end = (end>>s.blockBits + 1) << s.blockBits
			}
			if end+count > at.end || end-base >= unwind.MaxRows {
				return nil, 0, false
			}
			r.Index[i] = uint32(end-base) | uint32(count)*unwind.MaxRows
			copy(take(count), s.memory.Words[first:])
		}
	}
	view.Rows = s.memory.Words[base:end:end]
	return view, end, true
}

// crosses tells whether count words from first on lie in more than one block.
func (s *shelf) crosses(first, count int) bool {
	return first>>s.blockBits != (first+count-1)>>s.blockBits
}

// describe tells where the parts of an object's table are.
func (s *shelf) describe(e *shelved, starts []uint64) {
	for len(e.parts) < len(e.table.Regions) {
		e.parts = append(e.parts, part{id: s.newID()})
	}
	index := e.words.start + unwind.RuleSize/4*len(e.table.Rules)
	rows := index
	for _, r := range e.table.Regions {
		rows += len(r.Index)
	}
	for i := range e.parts {
		p := part{id: e.parts[i].id} // with no code, if the file has changed
		at := index
		if i < len(e.table.Regions) {
			r := e.table.Regions[i]
			p.fileStart, p.start, p.length = starts[i], r.Start, r.Limit-r.Start
			index += len(r.Index)
		}
		e.parts[i] = p
		m := &s.memory.Segments[p.id]
		m.FileStart, m.Length = p.fileStart, uint32(p.length)
		m.Index, m.Rows, m.Rules = uint32(at), uint32(rows), uint32(e.words.start)
		atomic.StoreUint32(&m.Used, s.epoch)
	}
}

// makeRoom sees to it that n words in a row will be free, if that can be.
func (s *shelf) makeRoom(n int) verdict {
	victims, ok := s.victims(n)
	if !ok {
		return refused
	}
	for _, e := range victims {
		s.evict(e)
		s.stats.evictions.Inc()
	}
	return waiting
}

// victims returns the tables that must go for n words in a row to become free.
// One used in this epoch or the last is none of them: where all are in use, to
// evict one for another would only have both built again and again.
func (s *shelf) victims(n int) (victims []*shelved, ok bool) {
	if s.room.fits(n) {
		return nil, true
	}
	idle := s.unused(func(e *shelved, used uint32) bool {
		return e.state == bpf.SegmentReady && used+1 < s.epoch
	})
	room := s.room.clone()
	for i, e := range idle {
		if room.add(e.words); room.fits(n) {
			return idle[:i+1], true
		}
	}
	return nil, false
}

// evict takes the table of an object away.
func (s *shelf) evict(e *shelved) {
	s.publish(e, bpf.SegmentAbsent)
	for _, p := range e.parts {
		atomic.StoreUint32(&s.memory.Segments[p.id].Length, 0)
	}
	s.room.add(e.words)
	s.words.add(s.now()+grace, e.words)
	e.table, e.words = nil, wordRange{}
	s.stats.tables.Dec()
}
