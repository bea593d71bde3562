// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/profiler/unwind"
	"github.com/fleetprof/fleetprof/sample"
)

const libc = "/lib/x86_64-linux-gnu/libc.so.6"

// clock is a CLOCK_MONOTONIC that a test moves.
type clock struct{ ns uint64 }

func (c *clock) now() uint64 { return c.ns }

// newTestShelf makes a shelf of some words in blocks of 1<<blockBits.
func newTestShelf(words, blockBits, segments int) (*shelf, *clock) {
	memory := &bpf.Memory{
		Words:    make([]uint32, words),
		Segments: make([]bpf.Segment, segments),
		Mappings: make([]bpf.Mapping, 2*bpf.ListLength),
	}
	c := &clock{ns: 1}
	s := newShelf(memory, c.now, newTableStats(prometheus.NewRegistry()))
	s.blockBits = blockBits
	return s, c
}

func fileObject(i int) *sample.Object {
	return &sample.Object{Path: fmt.Sprint("/", i), Inode: uint64(i)}
}

// tableOf builds the table of a file, with the file offsets of its regions.
func tableOf(t testing.TB, path string) *built {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { file.Close() })
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := objfile.Open(file, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	b := new(built)
	if b.table, err = unwind.Build(f); err != nil {
		t.Fatal(err)
	}
	for _, r := range b.table.Regions {
		b.starts = append(b.starts, fileStart(f, r))
	}
	return b
}

// inventTable makes a table as FORMAT.md describes them, with many rows and some
// dense pages.
func inventTable(random *rand.Rand, regions, pages int) *built {
	b := &built{table: &unwind.Table{Machine: elf.EM_X86_64}}
	t := b.table
	for i := range 1 + random.IntN(40) {
		t.Rules = append(t.Rules, unwind.Rule{
			Kind: unwind.Offset, CFA: int32(i) << 20, Add: int16(-i), BXOffset: int8(-i),
			RA: unwind.AtCFA, RAOffset: -1, FPOffset: int16(random.Int32()),
		})
	}
	t.Rules[0] = unwind.Rule{}
	write := func(low, limit int) uint32 {
		first, n := uint32(len(t.Rows)), 1+random.IntN(min(limit, unwind.MaxPageRows))
		for _, pc := range append([]int{0}, random.Perm(limit - 1)[:n-1]...) {
			if pc > 0 {
				pc += low
			}
			t.Rows = append(t.Rows, uint32(random.IntN(len(t.Rules)))<<8|uint32(pc))
		}
		slices.SortFunc(t.Rows[first+1:], func(x, y uint32) int { return int(x%256) - int(y%256) })
		return first | uint32(n)*unwind.MaxRows
	}
	start := uint64(random.IntN(100)) << 12
	for range regions {
		r := unwind.Region{Start: start, Limit: start + uint64(pages)<<8, Index: make([]uint32, pages)}
		for i := range pages {
			if random.IntN(8) > 0 {
				r.Index[i] = write(0, 256)
				continue
			}
			r.Index[i] = uint32(len(r.Index))
			for quarter := range 4 {
				r.Index = append(r.Index, write(quarter*64, 64))
			}
		}
		t.Regions = append(t.Regions, r)
		b.starts = append(b.starts, start-0x80) // as if the segment began in the page
		start = r.Limit + uint64(random.IntN(10))<<8
	}
	return b
}

// kernelRule looks up a rule as the kernel side does, see find_rule() in walk.h:
// with one block at a time.
func kernelRule(t testing.TB, s *shelf, id uint32, offset uint64) unwind.Rule {
	t.Helper()
	m := s.memory.Segments[id]
	blockWords := uint32(1) << s.blockBits
	word := func(n uint32) uint32 { return s.memory.Words[n/blockWords*blockWords:][n%blockWords] }
	code := offset - m.FileStart
	if code >= uint64(m.Length) {
		return unwind.Rule{}
	}
	entry := word(m.Index + uint32(code>>8))
	if entry>>26 == 0 {
		entry = word(m.Index + entry + uint32(code&255>>6))
	}
	at := m.Rows + entry&(1<<26-1)
	block := s.memory.Words[at/blockWords*blockWords:][:blockWords:blockWords]
	rows := block[at%blockWords:][:entry>>26] // panics if they cross
	row := rows[0]
	for _, next := range rows[1:] {
		if uint64(next&255) <= code&255 {
			row = next
		}
	}
	if m.Rules%4 != 0 {
		t.Fatalf("rules at word %d", m.Rules)
	}
	var b []byte
	for i := range uint32(4) {
		b = binary.LittleEndian.AppendUint32(b, word(m.Rules+row>>8*4+i))
	}
	return unwind.Rule{
		Kind: unwind.Kind(b[0]), Base: unwind.Base(b[1]), RA: unwind.Place(b[2]), FP: unwind.Place(b[3]),
		BX: unwind.Place(b[4]), BXOffset: int8(b[5]), Add: int16(binary.LittleEndian.Uint16(b[6:])),
		CFA:      int32(binary.LittleEndian.Uint32(b[8:])),
		RAOffset: int16(binary.LittleEndian.Uint16(b[12:])), FPOffset: int16(binary.LittleEndian.Uint16(b[14:])),
	}
}

// checkPlaced compares what both sides find in memory with the table that was
// placed, at every step-th address of its code.
func checkPlaced(t testing.TB, s *shelf, o *sample.Object, b *built, step uint64) {
	t.Helper()
	e := s.objects[o]
	for i, r := range b.table.Regions {
		for addr := r.Start; addr < r.Limit; addr += step {
			want, offset := b.table.Lookup(addr), addr-r.Start+b.starts[i]
			if got := kernelRule(t, s, e.segment(offset, 1), offset); got != want {
				t.Fatalf("%#x: kernel side finds %v, want %v", addr, got, want)
			}
			view, linked, state := s.lookup(o, offset)
			if state != bpf.SegmentReady || linked != addr {
				t.Fatalf("%#x: state %d, linked at %#x", addr, state, linked)
			}
			if got := view.Lookup(linked); got != want {
				t.Fatalf("%#x: Go finds %v, want %v", addr, got, want)
			}
		}
	}
}

// TestPlaceRealTables places tables of real programs, in blocks so small that the
// rows of many pages cross their ends.
func TestPlaceRealTables(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{self, libc} {
		for _, blockBits := range []int{6, 18} {
			t.Run(fmt.Sprintf("%s/%d", path, blockBits), func(t *testing.T) {
				b, o := tableOf(t, path), fileObject(1)
				s, _ := newTestShelf(8<<20, blockBits, 8)
				s.get(o)
				if v := s.place(o, b.table, b.starts); v != placed {
					t.Fatalf("verdict %d", v)
				}
				checkPlaced(t, s, o, b, 67)
				if taken, exact := 4*(len(s.memory.Words)-s.free.total), b.table.Bytes(); blockBits == 18 && taken > exact+exact/1000+1000 {
					t.Errorf("takes %d bytes, the table alone is %d", taken, exact)
				}
			})
		}
	}
}

// TestPlaceCopiesRowsAcrossBlocks places a table at every distance from the end
// of a block.
func TestPlaceCopiesRowsAcrossBlocks(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	b := inventTable(random, 2, 9)
	for before := 0; before < 256; before += 4 {
		s, _ := newTestShelf(1<<14, 6+before%3, 8)
		if before > 0 {
			taken, _ := s.free.take(before)
			s.room.remove(taken)
		}
		o := fileObject(1)
		s.get(o)
		if v := s.place(o, b.table, b.starts); v != placed {
			t.Fatalf("verdict %d", v)
		}
		checkPlaced(t, s, o, b, 1)
	}
}

// TestPlaceRefusesSharedRows places a table that no builder makes: all pages have
// the same rows, so that more copies are needed than there is room for.
func TestPlaceRefusesSharedRows(t *testing.T) {
	table := &unwind.Table{Rules: make([]unwind.Rule, 1), Rows: make([]uint32, 126)}
	r := unwind.Region{Limit: 100 << 8}
	for range 100 {
		r.Index = append(r.Index, 20|63*unwind.MaxRows)
	}
	table.Regions = []unwind.Region{r}
	s, _ := newTestShelf(1<<10, 6, 8)
	o := fileObject(1)
	s.get(o)
	if v := s.place(o, table, []uint64{0}); v != misfit {
		t.Errorf("verdict %d", v)
	}
	if s.free.total != 1<<10 || s.room.total != 1<<10 {
		t.Errorf("%d and %d words are free", s.free.total, s.room.total)
	}
}

// shelfModel drives a shelf and knows what must be true of it.
type shelfModel struct {
	*shelf
	*clock
	t       testing.TB
	tables  []*built
	content map[*sample.Object]*built
	next    int
	// mapped are the objects in lists of processes, which must stay.
	mapped map[*sample.Object]bool
	// ranges and ids are those seen in use at the last check, gaveUp is when words
	// and ids were last seen in use before that; 0: never.
	ranges map[*sample.Object]wordRange
	ids    map[uint32]*sample.Object
	gaveUp struct{ words, ids []uint64 }
}

func newShelfModel(t testing.TB) *shelfModel {
	random := rand.New(rand.NewPCG(3, 4))
	s, c := newTestShelf(1<<12, 7, 40)
	m := &shelfModel{shelf: s, clock: c, t: t, content: make(map[*sample.Object]*built), mapped: make(map[*sample.Object]bool)}
	for i := range 8 {
		m.tables = append(m.tables, inventTable(random, 1+i%3, 1+i*i/6))
	}
	m.gaveUp.words, m.gaveUp.ids = make([]uint64, len(s.memory.Words)), make([]uint64, len(s.memory.Segments))
	m.check()
	return m
}

// some is one of the objects, or a new one.
func (m *shelfModel) some(n int) *sample.Object {
	objects := slices.SortedFunc(maps.Keys(m.content), func(a, b *sample.Object) int { return int(a.Inode) - int(b.Inode) })
	if n %= 40; n < len(objects) {
		return objects[len(objects)-1-n]
	}
	m.next++
	o := fileObject(m.next)
	m.content[o] = m.tables[m.next%len(m.tables)]
	return o
}

func (m *shelfModel) do(op, arg int) {
	switch o := m.some(arg); op % 8 {
	case 0, 1, 2:
		if m.get(o) == nil {
			return
		}
		b := m.content[o]
		if v := m.place(o, b.table, b.starts); v == refused {
			m.giveUp(o, true)
		} else if v == misfit {
			m.t.Fatal("misfit")
		}
	case 3:
		if e := m.get(o); e != nil {
			e.mappings = arg % 2
			m.mapped[o] = e.mappings > 0
		}
	case 4:
		m.lookup(o, m.content[o].starts[0])
	case 5:
		m.ns += uint64(arg) * grace / 100
	case 6:
		m.poll(m.epoch + uint32(arg%2))
	case 7:
		if e := m.objects[o]; e != nil && arg%4 == 0 && !m.mapped[o] {
			m.drop(e)
		}
	}
	m.check()
}

// check finds out by itself what has come into use and what has gone out of it.
func (m *shelfModel) check() {
	m.t.Helper()
	asUsed := slices.Clone(m.memory.Segments) // the check itself uses all
	defer copy(m.memory.Segments, asUsed)
	for o, mapped := range m.mapped {
		if mapped && m.objects[o] == nil {
			m.t.Fatalf("%s is mapped and was dropped", o.Path)
		}
	}
	ranges, ids := make(map[*sample.Object]wordRange), make(map[uint32]*sample.Object)
	used := make([]bool, len(m.memory.Words))
	for o, e := range m.objects {
		for _, p := range e.parts {
			if ids[p.id] != nil || p.id == 0 {
				m.t.Fatalf("segment %d has two objects", p.id)
			}
			ids[p.id] = o
			if got := m.memory.Segments[p.id].State; got != e.state {
				m.t.Fatalf("segment %d is in state %d, its object in %d", p.id, got, e.state)
			}
			if got := m.memory.Segments[p.id].Length; got > 0 && e.state != bpf.SegmentReady {
				m.t.Fatalf("segment %d has no table and %d bytes of code", p.id, got)
			}
			if when := m.gaveUp.ids[p.id]; when > 0 && m.ids[p.id] != o && m.ns < when+grace {
				m.t.Fatalf("segment %d is used again after %d ns", p.id, m.ns-when)
			}
		}
		if e.state != bpf.SegmentReady {
			continue
		}
		ranges[o] = e.words
		for w := e.words.start; w < e.words.end; w++ {
			if used[w] {
				m.t.Fatalf("word %d is in two tables", w)
			}
			used[w] = true
			if when := m.gaveUp.words[w]; when > 0 && m.ranges[o] != e.words && m.ns < when+grace {
				m.t.Fatalf("word %d is used again after %d ns", w, m.ns-when)
			}
		}
		if m.ranges[o] != e.words {
			checkPlaced(m.t, m.shelf, o, m.content[o], 13)
		}
	}
	for o, w := range m.ranges {
		for i := w.start; ranges[o] != w && i < w.end; i++ {
			m.gaveUp.words[i] = m.ns
		}
	}
	for id, o := range m.ids {
		if ids[id] != o {
			m.gaveUp.ids[id] = m.ns
		}
	}
	m.ranges, m.ids = ranges, ids
	m.checkSpace(used)
}

func (m *shelfModel) checkSpace(used []bool) {
	m.t.Helper()
	room := make([]bool, len(used))
	for i, r := range m.room.ranges {
		if i > 0 && m.room.ranges[i-1].end >= r.start {
			m.t.Fatalf("ranges %v", m.room.ranges)
		}
		for w := r.start; w < r.end; w++ {
			room[w] = true
		}
	}
	for w := range used {
		if used[w] == room[w] {
			m.t.Fatalf("word %d: used %v, room %v", w, used[w], room[w])
		}
	}
	resting := 0
	for _, r := range m.words {
		resting += r.value.size()
	}
	if m.room.total != m.free.total+resting {
		m.t.Fatalf("%d words of room, %d free, %d resting", m.room.total, m.free.total, resting)
	}
}

// finish takes everything away and sees that nothing is left.
func (m *shelfModel) finish() {
	for o, e := range m.objects {
		if e.state == bpf.SegmentReady {
			checkPlaced(m.t, m.shelf, o, m.content[o], 1)
		}
		m.drop(e)
	}
	m.ns += grace
	m.poll(m.epoch)
	if m.free.total != len(m.memory.Words) || len(m.free.ranges) != 1 || len(m.room.ranges) != 1 {
		m.t.Fatalf("free %v, room %v", m.free, m.room)
	}
	if len(m.shelf.ids) != len(m.memory.Segments)-1 {
		m.t.Fatalf("%d free segments", len(m.shelf.ids))
	}
	if n := testutil.ToFloat64(m.stats.tables); n != 0 {
		m.t.Fatalf("%v tables counted", n)
	}
}

func FuzzShelf(f *testing.F) {
	for seed := range uint64(6) {
		random, ops := rand.New(rand.NewPCG(seed, 0)), make([]byte, 600)
		for i := range ops {
			ops[i] = byte(random.Uint32())
		}
		f.Add(ops)
	}
	f.Fuzz(func(t *testing.T, ops []byte) {
		m := newShelfModel(t)
		for i := 0; i+1 < min(len(ops), 1000); i += 2 {
			m.do(int(ops[i]), int(ops[i+1]))
		}
		m.finish()
	})
}

// BenchmarkPlace places the tables of large files. What stays in the heap is the
// description of the object, whatever the size of the table.
func BenchmarkPlace(b *testing.B) {
	for _, path := range largeFiles {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		b.Run(filepath.Base(path), func(b *testing.B) {
			made, o := tableOf(b, path), fileObject(1)
			s, c := newTestShelf(32<<20, 18, 64)
			s.get(o)
			b.ReportAllocs()
			for b.Loop() {
				if v := s.place(o, made.table, made.starts); v != placed {
					b.Fatal("verdict ", v)
				}
				s.evict(s.objects[o])
				c.ns += grace
				s.poll(0)
			}
			b.SetBytes(int64(made.table.Bytes()))
		})
	}
}
