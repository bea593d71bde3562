// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"debug/elf"
	"encoding/binary"
	"maps"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/profiler/unwind"
	"github.com/fleetprof/fleetprof/sample"
)

const goldenPageSize = 4096

// goldenMemory is a process's memory by pages. What is not there cannot be read.
type goldenMemory map[uint64]*[goldenPageSize]byte

// append appends all pages as the harness takes them, in ascending order.
func (m goldenMemory) append(b []byte) []byte {
	for _, address := range slices.Sorted(maps.Keys(m)) {
		b = append(binary.LittleEndian.AppendUint64(b, address), m[address][:]...)
	}
	return b
}

// set writes 8 bytes, none of them on another page, and makes that page.
func (m goldenMemory) set(addr, value uint64) {
	start := addr &^ (goldenPageSize - 1)
	if m[start] == nil {
		m[start] = new([goldenPageSize]byte)
	}
	binary.LittleEndian.PutUint64(m[start][addr-start:], value)
}

// word reads 8 bytes, as unwind.Process needs it.
func (m goldenMemory) word(addr uint64) (uint64, bool) {
	start := addr &^ (goldenPageSize - 1)
	low, high := m[start], m[start+goldenPageSize]
	if at := addr - start; low != nil && at <= goldenPageSize-8 {
		return binary.LittleEndian.Uint64(low[at:]), true
	} else if low != nil && high != nil {
		return binary.LittleEndian.Uint64(append(low[at:len(low):len(low)], high[:8]...)), true
	}
	return 0, false
}

// without returns the memory less one page.
func (m goldenMemory) without(page uint64) goldenMemory {
	rest := maps.Clone(m)
	delete(rest, page)
	return rest
}

// goldenProcess is a process that both sides see: its tables and its list of
// mappings lie in shared memory, where the shelf and the lists have put them.
type goldenProcess struct {
	machine elf.Machine
	regions regions
	shelf   *shelf
	lists   *lists
	list    bpf.Process
	words   wordRange // of shared memory that may be in use
}

// newGoldenProcess makes a process without tables and mappings, and with so much
// shared memory: less than all of it, so that tables may lie across the end of a
// block.
func newGoldenProcess(machine elf.Machine, words wordRange) *goldenProcess {
	memory := &bpf.Memory{
		Words:    make([]uint32, words.end),
		Segments: make([]bpf.Segment, 64),
		Mappings: make([]bpf.Mapping, bpf.ListLength),
	}
	stats := newTableStats(prometheus.NewRegistry())
	now := func() uint64 { return 1 }
	p := &goldenProcess{machine: machine, words: words}
	p.shelf = newShelf(memory, now, stats)
	if words.start > 0 {
		taken, _ := p.shelf.free.take(words.start)
		p.shelf.room.remove(taken)
	}
	p.lists = newLists(memory, p, p.shelf, now, stats)
	return p
}

// SetProcess and DeleteProcess are the kernel side's table of processes.
func (p *goldenProcess) SetProcess(_ uint32, list bpf.Process) error {
	p.list = list
	return nil
}

func (p *goldenProcess) DeleteProcess(uint32) error { return nil }

// place puts a table on the shelf.
func (p *goldenProcess) place(t testing.TB, o *sample.Object, b *built) {
	t.Helper()
	p.shelf.get(o)
	if v := p.shelf.place(o, b.table, b.starts); v != placed {
		t.Fatalf("%s: verdict %d", o.Path, v)
	}
}

// show gives the mappings, and all else there is, to the kernel side.
func (p *goldenProcess) show(t testing.TB, h *goldenHarness) {
	t.Helper()
	if err := p.lists.install(1, 0, 0, p.regions); err != nil {
		t.Fatal(err)
	}
	h.load(p.shelf.memory, p.words, int(p.list.First+p.list.Count))
}

// start is where a walk of the kernel side starts.
func (p *goldenProcess) start(r unwind.Registers) goldenStart {
	return goldenStart{IP: r.IP, R: r.R, First: p.list.First, Count: p.list.Count}
}

// goWalk is what Go makes of a stack.
type goWalk struct {
	frames []uint64
	stop   sample.Stop
	// missed says that a table or a mapping was not there.
	missed bool
}

// walk walks a stack as walker does, or, if it may not be late, without the
// tables and mappings that are missing.
func (p *goldenProcess) walk(r unwind.Registers, word func(uint64) (uint64, bool), late bool) (w goWalk) {
	gone := func(stop sample.Stop) (*unwind.Table, uint64, sample.Stop) {
		w.missed = true
		if !late {
			stop = sample.StopNone
		}
		return nil, 0, stop
	}
	w.frames, w.stop = unwind.Walk(&unwind.Process{
		Machine: p.machine,
		Word:    word,
		Table: func(addr uint64) (*unwind.Table, uint64, sample.Stop) {
			r := p.regions.find(addr)
			if r == nil {
				return gone(sample.StopCode)
			}
			table, linked, state := p.shelf.lookup(r.object, addr-r.start+r.offset)
			switch state {
			case bpf.SegmentReady:
				return table, addr - linked, sample.StopNone
			case bpf.SegmentAbsent:
				return gone(sample.StopLate)
			}
			return nil, 0, sample.StopNone
		},
	}, r, bpf.MaxUserFrames)
	return w
}

// compareWalks says that both sides do the same. Where the kernel side hands a
// stack over, Go stops for want of a table (StopLate) or of a mapping: then it
// does not count the frame outside of all code, unless there is no other.
//
// It returns after how many frames they part, -1 if they do not.
func compareWalks(t testing.TB, kernel kernelWalk, golang goWalk, late bool) (at int) {
	t.Helper()
	frames := kernel.frames
	if kernel.late && golang.stop == sample.StopCode && len(frames) > 1 {
		frames = frames[:len(frames)-1]
	}
	same := kernel.stop == golang.stop
	if kernel.late {
		same = golang.stop == sample.StopLate || golang.stop == sample.StopCode
	}
	same = same && kernel.late == (late && golang.missed) && kernel.missed == (!late && golang.missed)
	if same && slices.Equal(frames, golang.frames) {
		return -1
	}
	for at < min(len(frames), len(golang.frames)) && frames[at] == golang.frames[at] {
		at++
	}
	from := max(at-2, 0)
	t.Errorf("frames differ from the %dth of %d and %d on: kernel side %#x… %v late %v missed %v, Go %#x… %v missed %v",
		at, len(frames), len(golang.frames),
		frames[from:min(at+2, len(frames))], kernel.stop, kernel.late, kernel.missed,
		golang.frames[from:min(at+2, len(golang.frames))], golang.stop, golang.missed)
	return at
}

// reason is the kernel side's reason to stop in the words of a sample.
func (w kernelWalk) reason() sample.Stop {
	if w.late || w.missed {
		return sample.StopLate
	}
	return w.stop
}
