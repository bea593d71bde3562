// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"encoding/binary"
	"strings"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// maxGoFunctions bounds a Go table; the largest programs have some 300,000.
const maxGoFunctions = 4 << 20

// goTable reads .gopclntab for its tables of stack depths. Layouts of Go 1.16
// to 1.26 are read; programs of older ones are left to frame pointers.
type goTable struct {
	*arch
	*window
	file   *objfile.File
	layout goLayout
	// text is what function addresses count from, 0 before Go 1.18.
	text uint64
	// quantum is the unit of code addresses in depth tables.
	quantum uint64
	count   uint64
	// Offsets in the section.
	names, depths, functions uint64
}

// goLayout is what differs between the layouts of a table.
type goLayout struct {
	// width is the size of the fields in the function table and of the start in a
	// function's record: absolute addresses of 8 bytes up to Go 1.17.
	width uint64
	// startLine says that a record holds the line it starts at (Go 1.20).
	startLine bool
	// words are the header's words that hold names, depths and functions.
	words [3]int
}

func goLayoutOf(magic uint32) (goLayout, bool) {
	switch magic {
	case 0xfffffffa: // Go 1.16 and 1.17
		return goLayout{width: 8, words: [3]int{2, 5, 6}}, true
	case 0xfffffff0: // 1.18 and 1.19
		return goLayout{width: 4, words: [3]int{3, 6, 7}}, true
	case 0xfffffff1: // 1.20 to 1.26
		return goLayout{width: 4, startLine: true, words: [3]int{3, 6, 7}}, true
	}
	return goLayout{}, false
}

// openGo returns nil if the file has no Go table, or none that is understood.
func openGo(f *objfile.File, a *arch) (source, error) {
	s, ok := f.GoTable()
	if !ok {
		return nil, nil
	}
	w, err := newWindow(f, s)
	if err != nil {
		return nil, err
	}
	g := &goTable{arch: a, window: w, file: f}
	text, known, err := g.readHeader()
	if err != nil || !known {
		return nil, err
	}
	if g.layout.width == 8 {
		return g, nil
	}
	first, err := g.functionAt(0)
	if err != nil {
		return nil, err
	}
	last, err := g.functionAt(g.count)
	if err != nil {
		return nil, err
	}
	if g.text = text; text == 0 || !f.Executable(text+first.start) {
		var m objfile.GoModule
		m, err = f.FindGoModule(s.Address, first.start, last.start)
		g.text = m.Text
	}
	if err != nil || g.text == 0 {
		return nil, err
	}
	return g, nil
}

// readHeader reports the start of the text, 0 if it does not stand there, and
// whether the layout is known.
func (g *goTable) readHeader() (text uint64, known bool, err error) {
	const words = 8
	h, err := g.bytes(0, 8+8*words)
	if err != nil {
		return 0, false, err
	}
	layout, known := goLayoutOf(binary.LittleEndian.Uint32(h))
	if !known {
		return 0, false, nil
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(h[8+8*i:]) }
	g.layout, g.quantum, g.count = layout, uint64(h[6]), word(0)
	g.names, g.depths, g.functions = word(layout.words[0]), word(layout.words[1]), word(layout.words[2])
	if h[7] != 8 || g.quantum == 0 || g.count == 0 || g.count > maxGoFunctions ||
		max(g.names, g.depths, g.functions) > g.size {
		return 0, false, errDamaged
	}
	return word(2), true, nil
}

// goEntry is an entry of the function table.
type goEntry struct {
	start uint64
	// record is the offset of the function's record.
	record uint64
}

// functionAt reads the i-th entry. The last one, behind all functions, is the
// end of the text.
func (g *goTable) functionAt(i uint64) (goEntry, error) {
	width, n := g.layout.width, 2*g.layout.width
	if i == g.count {
		n = width
	}
	b, err := g.bytes(g.functions+i*2*width, n)
	if err != nil {
		return goEntry{}, err
	}
	c := cursor{b: b}
	e := goEntry{start: g.text + c.fixed(width)}
	if i < g.count {
		e.record = g.functions + c.fixed(width)
	}
	return e, nil
}

// spans lists the functions by their numbers.
func (g *goTable) spans(add func(start, size, ref uint64) error) (damaged int, err error) {
	e, err := g.functionAt(0)
	for i := uint64(0); i < g.count && err == nil; i++ {
		var next goEntry
		if next, err = g.functionAt(i + 1); err != nil {
			break
		}
		if next.start < e.start {
			return damaged + 1, nil // not sorted: nothing behind can be believed
		}
		if next.start > e.start {
			if err := add(e.start, next.start-e.start, i); err != nil {
				return damaged, err
			}
		}
		e = next
	}
	if isDamage(err) {
		return damaged + 1, nil
	}
	return damaged, err
}

// goRecord is what is used of a runtime._func record.
type goRecord struct {
	name, depths uint32
	// id is not 0 for the functions that the runtime treats specially, flags say
	// more about it (since Go 1.17).
	id, flags byte
}

const goWritesSP = 2 // flag of functions that write SP, internal/abi/symtab.go

func (g *goTable) record(off uint64) (goRecord, error) {
	const longest = 48
	b, err := g.bytes(off, min(longest, g.size-min(off, g.size)))
	if err != nil {
		return goRecord{}, err
	}
	c := cursor{b: b}
	c.take(g.layout.width) // start
	r := goRecord{name: uint32(c.fixed(4))}
	c.take(8) // args, deferreturn
	r.depths = uint32(c.fixed(4))
	c.take(16) // pcfile, pcln, npcdata, cuOffset
	if g.layout.startLine {
		c.take(4)
	}
	r.id, r.flags = c.byte(), c.byte()
	return r, damagedIf(c.bad)
}

// name reads the name of a function, as far as it is short enough to matter.
func (g *goTable) name(off uint32) (string, error) {
	at := g.names + uint64(off)
	b, err := g.bytes(at, min(64, g.size-min(at, g.size)))
	if err != nil {
		return "", err
	}
	name, _, _ := strings.Cut(string(b), "\x00")
	return strings.TrimSuffix(name, ".abi0"), nil
}
