// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxSymbols bounds the symbols kept; kernels have 60,000 to 250,000.
	maxSymbols = 1 << 20
	// maxLine bounds a line in bytes; the kernel's KSYM_NAME_LEN is 512.
	maxLine = 2 << 10
	// maxNames bounds the memory for names, in bytes.
	maxNames = 64 << 20
	// maxReach is how far the last symbol of a module reaches, in bytes:
	// kallsyms tells no sizes, and behind a module is nothing or another one.
	maxReach = 64 << 10
)

// symbol is one named position in 16 bytes.
type symbol struct {
	addr uint64
	// name is where the name starts in table.names.
	name   uint32
	length uint16
	// module is an index in table.modules, 0 for the kernel proper.
	module uint16
}

// table is the content of kallsyms as of one moment, sorted by address. It is
// immutable. Names are parts of one string and take no memory when looked up.
type table struct {
	symbols []symbol
	names   string
	modules []module
}

type module struct {
	name string
	base uint64
}

func (t *table) bytes() int64 { return int64(cap(t.symbols))*16 + int64(len(t.names)) }

func (t *table) name(s symbol) string { return t.names[s.name : s.name+uint32(s.length)] }

func (t *table) lookup(addr uint64) (name, mod string, base uint64, ok bool) {
	i, found := slices.BinarySearchFunc(t.symbols, addr, func(s symbol, addr uint64) int {
		return cmp.Compare(s.addr, addr)
	})
	if !found {
		i--
	}
	if i < 0 {
		return "", "", 0, false
	}
	s := t.symbols[i]
	last := i+1 == len(t.symbols) || t.symbols[i+1].module != s.module
	if (last && addr-s.addr >= maxReach) || endOfText(t.name(s)) {
		return "", "", 0, false
	}
	m := t.modules[s.module]
	return t.name(s), m.name, m.base, true
}

// parser collects symbols line by line.
type parser struct {
	symbols []symbol
	names   []byte
	modules []module
	byName  map[string]uint16
	hidden  int // symbols whose address reads as 0
}

// parse reads the text of /proc/kallsyms: address, type, name, and a module
// in brackets, see proc_kallsyms(5) and kernel/kallsyms.c.
func parse(r io.Reader) (*table, error) {
	p := &parser{modules: []module{{}}, byName: map[string]uint16{"": 0}}
	lines := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		if err == bufio.ErrBufferFull || len(line) > maxLine {
			return nil, fmt.Errorf("line %d is longer than %d bytes", n, maxLine)
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
		if e := p.line(line); e != nil {
			return nil, fmt.Errorf("line %d: %w", n, e)
		}
		if err == io.EOF {
			return p.table()
		}
	}
}

func (p *parser) line(line []byte) error {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 {
		return nil
	}
	hex, rest, _ := bytes.Cut(line, []byte(" "))
	kind, rest, _ := bytes.Cut(rest, []byte(" "))
	name, mod, _ := bytes.Cut(rest, []byte("\t"))
	if len(kind) != 1 || len(name) == 0 {
		return errors.New("want address, type and name")
	}
	if bytes.IndexByte([]byte("TtWw"), kind[0]) < 0 {
		return nil // data
	}
	addr, err := strconv.ParseUint(string(hex), 16, 64)
	if err != nil {
		return fmt.Errorf("parse address: %w", err)
	}
	if addr == 0 {
		p.hidden++
		return nil
	}
	return p.add(addr, name, string(bytes.Trim(mod, "[]")))
}

func (p *parser) add(addr uint64, name []byte, mod string) error {
	if len(p.symbols) == maxSymbols || len(p.names)+len(name) > maxNames {
		return fmt.Errorf("more than %d symbols or %d bytes of names", maxSymbols, maxNames)
	}
	id, ok := p.byName[mod]
	if !ok {
		if len(p.modules) > 1<<16-1 {
			return errors.New("more than 65535 modules")
		}
		id = uint16(len(p.modules))
		p.byName[mod] = id
		p.modules = append(p.modules, module{name: mod})
	}
	p.symbols = append(p.symbols, symbol{addr, uint32(len(p.names)), uint16(len(name)), id})
	p.names = append(p.names, name...)
	return nil
}

// table sorts what was collected and keeps one name for each address.
func (p *parser) table() (*table, error) {
	if len(p.symbols) == 0 {
		if p.hidden > 0 {
			return nil, ErrRestricted
		}
		return nil, errors.New("no symbols of code")
	}
	t := &table{symbols: p.symbols, names: string(p.names), modules: p.modules}
	// The sort is stable because the kernel has its own symbols in order: of one
	// address the weak and the underscored come last, see scripts/kallsyms.c.
	slices.SortStableFunc(t.symbols, func(a, b symbol) int {
		return cmp.Or(cmp.Compare(a.addr, b.addr), cmp.Compare(t.rank(a), t.rank(b)))
	})
	t.setBases()
	t.symbols = slices.CompactFunc(t.symbols, func(a, b symbol) bool { return a.addr == b.addr })
	t.symbols = slices.Clone(t.symbols) // gives back what collecting over-allocated
	return t, nil
}

// setBases gives each module the address of its lowest symbol, and the kernel
// proper that of _stext: symbols before it depend on the configuration.
func (t *table) setBases() {
	for _, s := range t.symbols {
		m := &t.modules[s.module]
		if m.base == 0 || (s.module == 0 && t.name(s) == "_stext") {
			m.base = s.addr
		}
	}
}

// rank orders names of one address: functions before marks, which the linker
// script sets at the borders of regions.
func (t *table) rank(s symbol) int {
	name := t.name(s)
	switch {
	case endOfText(name):
		return 1
	case name == "_text", name == "_stext", name == "_sinittext",
		strings.HasSuffix(name, "_text_start"), strings.HasSuffix(name, "_text_end"):
		return 2
	}
	return 0
}

// endOfText reports a mark behind which there is no code.
func endOfText(name string) bool { return name == "_etext" || name == "_einittext" }
