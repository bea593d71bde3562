// SPDX-License-Identifier: Apache-2.0

package dwarfsym

import (
	"cmp"
	"fmt"
	"path"
	"slices"
)

// row says that code from an address up to that of the next row is of a line.
type row struct {
	addr       uint64
	file, line uint32
}

// sequence is rows first to last, of code that lies together; the last is its end.
type sequence struct {
	low, high   uint64
	first, last int32
}

const (
	rowBytes      = 16
	sequenceBytes = 24
	// maxRows bounds the rows of one unit, maxFiles its files and its directories, and maxPaths
	// their names, in bytes.
	maxRows  = 1 << 19
	maxFiles = 1 << 16
	maxPaths = 4 << 20
)

// Opcodes, DWARF 5 sections 7.22.
const (
	lnsCopy = iota + 1
	lnsAdvancePC
	lnsAdvanceLine
	lnsSetFile
	lnsSetColumn
	lnsNegateStmt
	lnsSetBasicBlock
	lnsConstAddPC
	lnsFixedAdvancePC

	lneEndSequence = 1
	lneSetAddress  = 2
)

// Content of file names, section 7.22.
const (
	lnctPath      = 1
	lnctDirectory = 2
)

// program is the header of a line number program, DWARF 5 section 6.2.4.
type program struct {
	unit       unit // as far as values are read by it
	end        uint64
	first      uint64 // where the opcodes begin
	minLength  uint64
	lineBase   int8
	lineRange  uint8
	opcodeBase uint8
	lengths    []uint8
	dirs       []string
	files      []string
	paths      int // bytes of both
}

// add adds a path to a list, unless there are too many.
func (h *program) add(c *cursor, list []string, path string) []string {
	h.paths += len(path)
	if len(list) == maxFiles || h.paths > maxPaths {
		c.bad = true
		return list
	}
	return append(list, path)
}

// readLines runs the line number program of a unit.
func (t *Table) readLines(u *unit, p *parsed) error {
	if !u.hasLines {
		return nil
	}
	directory, err := t.text(u, u.directory)
	if err != nil {
		return err
	}
	var h program
	if err := t.own.line.parse(u.lines, func(c *cursor) { h = program{}; t.header(c, &h, directory) }); err != nil {
		return err
	}
	if h.end < h.first || h.lineRange == 0 {
		return errShort
	}
	content, err := t.own.line.upTo(h.first, h.end-h.first)
	if err != nil {
		return err
	}
	if uint64(len(content)) < h.end-h.first {
		return errShort
	}
	p.files = h.files
	m := machine{table: t, parsed: p, program: &h}
	if err := m.run(&cursor{b: content, base: h.first}); err != nil {
		return err
	}
	slices.SortFunc(p.sequences, func(a, b sequence) int { return cmp.Compare(a.low, b.low) })
	p.rows, p.sequences = slices.Clip(p.rows), slices.Clip(p.sequences)
	return nil
}

func (t *Table) header(c *cursor, h *program, directory string) {
	n, is64 := c.length()
	h.end = c.place() + n
	h.unit = unit{in: t.own, is64: is64, addressSize: 8, version: c.u16()}
	if h.unit.version < 2 || h.unit.version > 5 || h.end < n || h.end > t.own.line.size {
		c.bad = true
		return
	}
	if h.unit.version >= 5 {
		c.take(2) // sizes of addresses and of segment selectors
	}
	length := c.offset(is64)
	h.first = c.place() + length
	h.minLength = uint64(c.u8())
	if h.unit.version >= 4 {
		c.u8() // operations of one instruction, of VLIW machines
	}
	c.u8() // whether lines are statements at first
	h.lineBase, h.lineRange, h.opcodeBase = int8(c.u8()), c.u8(), c.u8()
	h.lengths = slices.Clone(c.take(uint64(max(h.opcodeBase, 1) - 1)))
	if h.unit.version >= 5 {
		h.dirs = t.entries5(c, h, nil)
		for i := 1; i < len(h.dirs); i++ { // the first is the unit's directory
			if h.dirs[i] = join(directory, h.dirs[i]); len(h.dirs)*len(directory) > maxPaths {
				c.bad = true
				return
			}
		}
		h.files = t.entries5(c, h, h.dirs)
		return
	}
	h.dirs = []string{directory}
	for name := c.text(); name != "" && !c.bad; name = c.text() {
		h.dirs = h.add(c, h.dirs, join(directory, name))
	}
	h.files = []string{""}
	for name := c.text(); name != "" && !c.bad; name = c.text() {
		dir := c.uleb()
		c.uleb() // time
		c.uleb() // size
		h.files = h.add(c, h.files, inDirectory(h.dirs, dir, name))
	}
}

// entries5 reads directories, or files in directories.
func (t *Table) entries5(c *cursor, h *program, dirs []string) (all []string) {
	type field struct{ content, form uint64 }
	format := make([]field, c.u8())
	for i := range format {
		format[i] = field{c.uleb(), c.uleb()}
	}
	for left := c.uleb(); left > 0 && !c.bad; left-- {
		var name string
		var dir uint64
		for _, f := range format {
			v := c.value(f.form, &h.unit)
			switch f.content {
			case lnctPath:
				name = t.fileName(c, v)
			case lnctDirectory:
				dir = v.n
			}
		}
		if len(format) == 0 {
			c.bad = true
			break
		}
		all = h.add(c, all, inDirectory(dirs, dir, name))
	}
	return all
}

// fileName resolves a name, which may stand in the section itself.
func (t *Table) fileName(c *cursor, v value) string {
	if v.class == classInline {
		inner := cursor{b: c.b, at: int(v.n - c.base)}
		return inner.text()
	}
	name, err := t.text(&unit{in: t.own}, v)
	if err != nil {
		return ""
	}
	return name
}

// inDirectory gives the path of a name in a directory by its index.
func inDirectory(dirs []string, index uint64, name string) string {
	if index >= uint64(len(dirs)) {
		return name
	}
	return join(dirs[index], name)
}

// join puts a directory in front of a name that is not absolute, and leaves both as they are.
func join(dir, name string) string {
	if dir == "" || path.IsAbs(name) {
		return name
	}
	if name == "" {
		return dir
	}
	return dir + "/" + name
}

// machine runs a line number program, DWARF 5 section 6.2.
type machine struct {
	*program
	table  *Table
	parsed *parsed

	addr       uint64
	file, line uint64
	first      int // the row at which the sequence began
	unordered  bool
}

func (m *machine) reset() {
	m.addr, m.file, m.line, m.first, m.unordered = 0, 1, 1, len(m.parsed.rows), false
}

func (m *machine) run(c *cursor) error {
	m.reset()
	for c.at < len(c.b) {
		op := c.u8()
		switch {
		case op >= m.opcodeBase:
			op -= m.opcodeBase
			m.addr += uint64(op/m.lineRange) * m.minLength
			m.line = uint64(int64(m.line) + int64(m.lineBase) + int64(op%m.lineRange))
			m.emit()
		case op == 0:
			m.extended(c)
		default:
			m.standard(c, op)
		}
		if c.bad {
			return errShort
		}
		if len(m.parsed.rows) > maxRows {
			return fmt.Errorf("lines: %w", errTooLarge)
		}
	}
	m.parsed.rows = m.parsed.rows[:m.first] // of a sequence without end
	return nil
}

func (m *machine) standard(c *cursor, op uint8) {
	switch op {
	case lnsCopy:
		m.emit()
	case lnsAdvancePC:
		m.addr += c.uleb() * m.minLength
	case lnsAdvanceLine:
		m.line = uint64(int64(m.line) + c.sleb())
	case lnsSetFile:
		m.file = c.uleb()
	case lnsSetColumn:
		c.uleb()
	case lnsConstAddPC:
		m.addr += uint64((255-m.opcodeBase)/m.lineRange) * m.minLength
	case lnsFixedAdvancePC:
		m.addr += uint64(c.u16())
	default: // of this version without arguments, or of a later one
		for range m.lengths[op-1] {
			c.uleb()
		}
	}
}

func (m *machine) extended(c *cursor) {
	n := c.uleb()
	arguments := cursor{b: c.take(n)}
	if n == 0 || c.bad {
		return
	}
	switch arguments.u8() {
	case lneEndSequence:
		m.end()
	case lneSetAddress:
		m.addr = arguments.number(min(int(n-1), 8))
	}
}

// emit adds a row, unless it says what the one before does.
func (m *machine) emit() {
	rows := m.parsed.rows
	r := row{m.addr, uint32(m.file), uint32(m.line)}
	if n := len(rows); n > m.first {
		last := &rows[n-1]
		switch {
		case r.addr < last.addr:
			m.unordered = true
			return
		case r.addr == last.addr: // the last of several counts
			*last = r
			return
		case r.file == last.file && r.line == last.line:
			return
		}
	}
	m.parsed.rows = append(rows, r)
}

// end ends a sequence. It is dropped if its code was.
func (m *machine) end() {
	rows := m.parsed.rows
	if len(rows) > m.first && !m.unordered && m.addr > rows[m.first].addr && m.table.file.HasCode(rows[m.first].addr) {
		m.parsed.sequences = append(m.parsed.sequences, sequence{rows[m.first].addr, m.addr, int32(m.first), int32(len(rows))})
	} else {
		m.parsed.rows = rows[:m.first]
	}
	m.reset()
}

// position finds the file and the line of an address.
func (p *parsed) position(addr uint64) (file string, line uint32, ok bool) {
	i := after(p.sequences, addr, func(s sequence) uint64 { return s.low }) - 1
	if i < 0 || addr >= p.sequences[i].high {
		return "", 0, false
	}
	rows := p.rows[p.sequences[i].first:p.sequences[i].last]
	at := after(rows, addr, func(r row) uint64 { return r.addr }) - 1
	if at < 0 {
		return "", 0, false
	}
	return p.file(rows[at].file), rows[at].line, true
}

// file is the path of a file; "" if there is none.
func (p *parsed) file(index uint32) string {
	if int64(index) >= int64(len(p.files)) {
		return ""
	}
	return p.files[index]
}
