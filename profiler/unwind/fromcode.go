// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"cmp"
	"debug/elf"
	"slices"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

const (
	// minBare is how much code without any unwind information a file must have for its
	// instructions to be read, in bytes: libraries of C that come without. The few lines
	// of assembly that every program is linked with are some 250.
	minBare = 1 << 10
	// maxBare bounds how much is read: it takes three times its size in memory, and ticks
	// wait for it, some 150 ms for a library of 400 KiB.
	maxBare = 1 << 20
	// minGap is the least code between two functions that is looked at, in bytes, and
	// minSizedGap what counts towards minBare. Linkers align functions to 16 and, if
	// speed matters, to 64.
	minGap, minSizedGap = 16, 64
	// maxTargets bounds a table that a jump goes by.
	maxTargets = 1 << 10
	// maxInstructions bounds a function; generated ones have some 10,000.
	maxInstructions = 1 << 16

	// Bounds by how much code there is, in bytes: one function, one entry of tables of
	// jumps, for so much code; and steps for each byte. Libraries of C have one function
	// for 200 bytes and take less than one step for each.
	bytesPerFunction, bytesPerTarget, stepsPerByte = 32, 8, 2
)

// fromCode is the source for code that no other source describes. It follows the
// instructions of each function from its start, where it is known what is on the
// stack, along all ways through it. What it has to believe is that functions return
// the stack and the frame pointer as they were; a function that does not look so is
// left without rows, as is what comes behind anything that is not understood.
type fromCode struct {
	file   *objfile.File
	decode func(code []byte, addr uint64) (instruction, bool)
	// link says that calls leave the return address in a register (arm64).
	link bool
	// gaps are sorted and disjoint.
	gaps []gap

	functions map[uint64]*bareFunction
	// certain and perhaps are functions that have not been scanned. strict is how they
	// are.
	certain, perhaps []*bareFunction
	scanning         []suspended
	// outermost are functions that nobody calls and that have not been followed.
	outermost []*bareFunction
	// main is the function of the name startMain, or nil.
	main   *bareFunction
	strict bool
	// tables holds where indirect jumps lead, by their address.
	tables map[uint64][]uint64

	states []codeState
	ids    map[codeState]uint16
	// What may still be found and done, see bytesPerFunction.
	functionsLeft, targetsLeft, stepsLeft int
	following
}

// gap is code that no other source describes.
type gap struct {
	extent
	text []byte
	// at holds for each byte the number of the state before the instruction that starts
	// there, 0 for those that were not reached, or inside.
	at []uint16
}

// inside marks bytes of instructions but the first.
const inside = 1 << 15

// bareFunction is a function found in a gap.
type bareFunction struct {
	start uint64
	// number tells functions apart, as far as that is important.
	number uint16
	// certain says that it is a function: something calls it.
	certain bool
	// called says that there is a call of it, outermost that nobody calls it.
	called, outermost bool
	scanned           bool
	// returns says that there is a way through it that ends, surely that this is so even
	// if no function that is not known ever returns.
	returns, surely bool
	// never says that it does not return, by its name.
	never bool
	// addresses holds what registers are set to in the whole function, by their numbers.
	addresses map[uint8]uint64
	// waiting is what goes on once this returns.
	waiting []suspended
}

// suspended is a place in a function behind a call; with address 0 the function itself
// returns.
type suspended struct {
	f    *bareFunction
	addr uint64
	// guard is the trail's there.
	guard uint32
}

// openCode reads the code that is not covered by spans. It returns nil if there is not
// enough of it, or more than limit bytes.
func openCode(f *objfile.File, code []extent, spans []span, limit uint64) (*fromCode, error) {
	c := &fromCode{
		file: f, decode: decodeX86,
		functions: make(map[uint64]*bareFunction), tables: make(map[uint64][]uint64),
		ids: make(map[codeState]uint16),
	}
	if f.Machine == elf.EM_AARCH64 {
		c.decode, c.link = decodeARM64, true
	}
	c.state(codeState{sp: unknown, fp: unknown}) // number 0 is for none
	bare, all := uint64(0), uint64(0)
	for _, e := range uncovered(executable(f, code), spans) {
		size := e.end - e.start
		if size >= minSizedGap {
			bare += size
		}
		all += size
		c.gaps = append(c.gaps, gap{extent: e})
	}
	if bare < minBare || all > limit {
		return nil, nil
	}
	c.functionsLeft, c.targetsLeft = int(all/bytesPerFunction)+64, int(all/bytesPerTarget)
	c.stepsLeft = int(all) * stepsPerByte
	for i := range c.gaps {
		g := &c.gaps[i]
		g.text, g.at = make([]byte, g.end-g.start), make([]uint16, g.end-g.start)
		if err := f.ReadAddress(g.text, g.start); err != nil {
			return nil, err
		}
	}
	if err := c.starts(f); err != nil {
		return nil, err
	}
	c.scan(true)
	c.scan(false)
	returns := c.signalReturns()
	c.followAll()
	c.signalFronts(returns)
	return c, nil
}

// executable narrows code to the sections that hold instructions, if there are
// sections: segments may hold data too.
func executable(f *objfile.File, code []extent) []extent {
	var sections []extent
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_EXECINSTR == 0 || s.Type != elf.SHT_PROGBITS {
			continue
		}
		for _, c := range code {
			if e := (extent{max(c.start, s.Address), min(c.end, s.Address+s.Size)}); e.start < e.end {
				sections = append(sections, e)
			}
		}
	}
	if sections == nil {
		return code
	}
	slices.SortFunc(sections, func(a, b extent) int { return cmp.Compare(a.start, b.start) })
	end := uint64(0)
	for i := range sections {
		sections[i].start = max(sections[i].start, end)
		end = max(end, sections[i].end)
	}
	return sections
}

// uncovered returns what of code lies outside of spans. Both are sorted.
func uncovered(code []extent, spans []span) (gaps []extent) {
	for _, c := range code {
		at := c.start
		add := func(end uint64) {
			if end >= at+minGap {
				gaps = append(gaps, extent{at, end})
			}
		}
		for _, s := range spans {
			if s.start >= c.end {
				break
			}
			add(s.start)
			at = max(at, s.end())
		}
		add(c.end)
	}
	return gaps
}

// gap finds the gap that an address lies in, or nil.
func (c *fromCode) gap(addr uint64) *gap {
	i, _ := slices.BinarySearchFunc(c.gaps, addr, func(g gap, addr uint64) int {
		if addr >= g.end {
			return -1
		}
		return 1
	})
	if i == len(c.gaps) || addr < c.gaps[i].start {
		return nil
	}
	return &c.gaps[i]
}

// state numbers a state. There are some hundred in a library of C.
func (c *fromCode) state(s codeState) uint16 {
	if id, ok := c.ids[s]; ok {
		return id
	}
	if len(c.states) == inside {
		return c.state(codeState{sp: unknown, fp: unknown})
	}
	id := uint16(len(c.states))
	c.states = append(c.states, s)
	c.ids[s] = id
	return id
}

func (c *fromCode) spans(add func(start, size, ref uint64) error) (damaged int, err error) {
	for i, g := range c.gaps {
		from := slices.IndexFunc(g.at, func(id uint16) bool { return id != 0 })
		if from < 0 {
			continue
		}
		if err := add(g.start+uint64(from), uint64(len(g.at)-from), uint64(i)); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// rows gives the rules of a gap. Where return addresses come in a register, code that keeps
// no frames leaves the frame pointer as it is: to go on by it would look whole, and lack a
// caller. So what is not understood is cut there.
func (c *fromCode) rows(ref uint64, emit func(addr uint64, r Rule) error) error {
	g := c.gaps[ref]
	var last Rule
	for i, id := range g.at {
		if id == inside {
			continue
		}
		r := c.states[id].rule()
		if c.link && r.Kind == None {
			r.Kind = Unsupported
		}
		if r != last {
			if last = r; emit(g.start+uint64(i), r) != nil {
				return ErrTooLarge
			}
		}
	}
	return nil
}
