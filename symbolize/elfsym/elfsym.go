// SPDX-License-Identifier: Apache-2.0

// Package elfsym names addresses of one ELF file from its symbol tables,
// .symtab and .dynsym, and entries of its procedure linkage tables from the
// relocations of the slots that they jump through.
//
// A Table keeps 16 bytes for each symbol and no names: those are read from the
// file when they are asked for. Names are the linker's, still mangled.
package elfsym

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// ErrTooLarge reports that a file has more symbols than the caller allows.
var ErrTooLarge = errors.New("too many symbols")

// PLTSuffix ends the name of an entry of a procedure linkage table, as debuggers show it: the
// rest is that of the function that it jumps to.
const PLTSuffix = "@plt"

const (
	symbolBytes = 16

	// maxName bounds a symbol's name, in bytes. What is longer (deeply nested
	// C++ templates) is cut.
	maxName = 16 << 10

	// addressBits is what a symbol's address must fit in. User space ends
	// below 2^56 on all 64-bit machines, 5-level page tables included.
	addressBits = 56

	// maxNesting bounds how many symbols before an address are tried when the
	// nearest ends before it: functions inside of functions, as in assembly.
	maxNesting = 8
)

// symbol is one named range of code.
type symbol struct {
	// key is the address in the upper 56 bits and the rank in the lower 8, so
	// that of several symbols at one address the most telling comes first.
	key uint64
	// size is in bytes; larger ones are cut to what fits.
	size uint32
	// name is an offset in the table of names, see Table.names; the top bit
	// says which table.
	name uint32
}

const dynamicName = 1 << 31

func (s symbol) address() uint64 { return s.key >> 8 }

func (s symbol) covers(addr uint64) bool { return addr-s.address() < uint64(s.size) }

// Table is the named code of one file, sorted. It is immutable, and safe for
// concurrent use if the file's reader is.
type Table struct {
	symbols []symbol
	// names holds the names of .symtab and of .dynsym.
	names [2]*io.SectionReader
}

// Bytes is the memory the table holds.
func (t *Table) Bytes() int64 { return int64(cap(t.symbols)) * symbolBytes }

// Load reads the symbols for code of both tables, which may be missing.
// Addresses for which skip reports true are left out. It allocates at most
// limit bytes, and gives ErrTooLarge where that does not suffice.
func Load(f *objfile.File, limit int64, skip func(addr uint64) bool) (*Table, error) {
	l := newLoader(f, skip)
	count := 0
	if err := l.each(func(symbol) { count++ }); err != nil {
		return nil, err
	}
	stubs, err := l.stubs()
	if err != nil {
		return nil, err
	}
	count += len(stubs)
	if int64(count) > limit/symbolBytes {
		return nil, fmt.Errorf("load %d symbols in %d bytes: %w", count, limit, ErrTooLarge)
	}
	symbols := make([]symbol, 0, count)
	add := func(s symbol) {
		if len(symbols) < cap(symbols) { // the file may have changed
			symbols = append(symbols, s)
		}
	}
	for _, s := range stubs {
		add(s.asSymbol())
	}
	err = l.each(add)
	if err != nil {
		return nil, err
	}
	return &Table{symbols: l.arrange(symbols), names: l.names}, nil
}

// Lookup names the code at an address as linked. The name is empty if no
// symbol covers the address; an error means that the file cannot be read.
func (t *Table) Lookup(addr uint64) (string, error) {
	i, found := slices.BinarySearchFunc(t.symbols, addr, func(s symbol, addr uint64) int {
		return cmp.Compare(s.address(), addr)
	})
	if !found {
		i--
	}
	for end := i - maxNesting; i >= 0 && i > end; i-- {
		if t.symbols[i].covers(addr) {
			return t.name(t.symbols[i])
		}
	}
	return "", nil
}

// Next gives the first address after addr at which Lookup may find another name.
func (t *Table) Next(addr uint64) uint64 {
	next := ^uint64(0)
	i, found := slices.BinarySearchFunc(t.symbols, addr, func(s symbol, addr uint64) int { return cmp.Compare(s.address(), addr) })
	if found {
		i++
	}
	if i < len(t.symbols) {
		next = t.symbols[i].address()
	}
	for _, s := range t.symbols[max(0, i-maxNesting):i] {
		if s.covers(addr) {
			next = min(next, s.address()+uint64(s.size))
		}
	}
	return next
}

func (t *Table) name(s symbol) (string, error) {
	name, err := readName(t.names[s.name/dynamicName], s.name%dynamicName, maxName)
	if err != nil {
		return "", fmt.Errorf("read name of symbol at %#x: %w", s.address(), err)
	}
	// A versioned symbol reads memcpy@@GLIBC_2.14 in .symtab.
	if i := strings.IndexByte(name, '@'); i > 0 {
		name = name[:i]
	}
	if s.key&pltRank != 0 {
		name += PLTSuffix
	}
	return name, nil
}

// readName reads a NUL-terminated name and cuts it at limit bytes. Most names
// are short, so a small read is tried first.
func readName(r *io.SectionReader, off uint32, limit int) (string, error) {
	for size := min(limit, 128); ; size = min(limit, size*8) {
		b := make([]byte, size)
		n, err := r.ReadAt(b, int64(off))
		if err != nil && err != io.EOF {
			return "", err
		}
		for i, c := range b[:n] {
			if c == 0 {
				return string(b[:i]), nil
			}
		}
		if n < size || size == limit {
			return string(b[:n]), nil
		}
	}
}

// rank orders symbols at one address, the best first: global before weak
// before local, typed functions before untyped labels.
func rank(s *objfile.Symbol) uint64 {
	var r uint64
	switch s.Bind() {
	case elf.STB_GLOBAL:
		r = 0
	case elf.STB_WEAK:
		r = 2
	default:
		r = 4
	}
	if s.Type() == elf.STT_NOTYPE {
		r++
	}
	return r
}
