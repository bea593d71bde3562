// SPDX-License-Identifier: Apache-2.0

package elfsym

import (
	"cmp"
	"debug/elf"
	"io"
	"math"
	"slices"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// loader collects the symbols of a file that name code.
type loader struct {
	file  *objfile.File
	skip  func(addr uint64) bool
	names [2]*io.SectionReader
	// code holds the sections with code, sorted by address.
	code []objfile.Section
}

func newLoader(f *objfile.File, skip func(addr uint64) bool) *loader {
	l := &loader{file: f, skip: skip}
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_EXECINSTR != 0 && s.Flags&elf.SHF_ALLOC != 0 {
			l.code = append(l.code, s)
		}
	}
	slices.SortFunc(l.code, func(a, b objfile.Section) int { return cmp.Compare(a.Address, b.Address) })
	return l
}

// each calls f for every symbol of both tables that names code. It is called
// twice, to count and to fill, so that a table is allocated once and exactly.
func (l *loader) each(f func(symbol)) error {
	for i, kind := range [...]elf.SectionType{elf.SHT_SYMTAB, elf.SHT_DYNSYM} {
		symbols, names, ok := l.file.SymbolTable(kind)
		if !ok {
			continue
		}
		l.names[i] = l.file.Reader(names)
		labels := newWindow(l.names[i])
		for s, err := range l.file.Symbols(symbols) {
			if err != nil {
				return err
			}
			if !l.isCode(&s) || (isLabel(&s) && labels.private(s.Name)) {
				continue
			}
			f(symbol{
				key:  s.Value<<8 | rank(&s),
				size: uint32(min(s.Size, math.MaxUint32)),
				name: s.Name | uint32(i)*dynamicName,
			})
		}
	}
	return nil
}

// isCode reports whether a symbol is defined here and names code. An IFUNC's
// address is that of its resolver, which is code too.
func (l *loader) isCode(s *objfile.Symbol) bool {
	switch s.Type() {
	case elf.STT_FUNC, elf.STT_GNU_IFUNC, elf.STT_NOTYPE:
	default:
		return false
	}
	if s.Section == elf.SHN_UNDEF || s.Section == elf.SHN_ABS ||
		s.Name == 0 || s.Name >= dynamicName || s.Value>>addressBits != 0 {
		return false
	}
	return l.section(s.Value) != nil && !l.skip(s.Value)
}

// section finds the section with code that holds an address.
func (l *loader) section(addr uint64) *objfile.Section {
	i, found := slices.BinarySearchFunc(l.code, addr, func(s objfile.Section, addr uint64) int {
		return cmp.Compare(s.Address, addr)
	})
	if !found {
		i--
	}
	if i < 0 || !l.code[i].Contains(addr) {
		return nil
	}
	return &l.code[i]
}

// arrange sorts symbols, keeps the best for each address (of equals that whose name comes first in
// its table, so that it is the same whatever else there is), and gives a size to
// those that have none, as labels in assembly: they reach to the next symbol
// or the end of their section. A label inside of a sized function would only
// hide that function's name, so it is dropped.
func (l *loader) arrange(symbols []symbol) []symbol {
	slices.SortFunc(symbols, func(a, b symbol) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(b.size, a.size), cmp.Compare(a.name, b.name))
	})
	kept := symbols[:0]
	var covered uint64 // end of the sized symbols so far
	for _, s := range symbols {
		if s.size == 0 && s.address() < covered {
			continue
		}
		if n := len(kept); n > 0 && kept[n-1].address() == s.address() {
			if kept[n-1].size == 0 {
				kept[n-1].size = s.size // an alias knows the extent
				covered = max(covered, s.address()+uint64(s.size))
			}
			continue
		}
		covered = max(covered, s.address()+uint64(s.size))
		kept = append(kept, s)
	}
	for i := range kept {
		if kept[i].size == 0 {
			section := l.section(kept[i].address())
			end := section.Address + section.Size
			if i+1 < len(kept) {
				end = min(end, kept[i+1].address())
			}
			kept[i].size = uint32(min(end-kept[i].address(), math.MaxUint32))
		}
	}
	return slices.Clip(kept)
}

// isLabel reports whether a symbol may be an assembler's private label.
func isLabel(s *objfile.Symbol) bool {
	return s.Type() == elf.STT_NOTYPE && s.Bind() == elf.STB_LOCAL
}

// maxRefills bounds how often a window is filled for one table of names. Names
// are mostly in the order of their symbols; a file made to jump to and fro
// shall not cost more than some 100 ms.
const maxRefills = 1 << 16

// window reads the first bytes of many names through one buffer.
type window struct {
	r       io.ReaderAt
	buf     []byte
	start   int64
	refills int
}

func newWindow(r io.ReaderAt) *window { return &window{r: r, buf: make([]byte, 0, 4<<10)} }

// private reports whether the name at off is one that no programmer gave: a
// mapping symbol of arm64 ($x, $d; ELF for the Arm 64-bit Architecture, 5.5.5)
// or an assembler's label (.L). Once the window may not be filled any more, all
// names are taken for such.
func (w *window) private(off uint32) bool {
	const need = 2
	at := int64(off) - w.start
	if at < 0 || at+need > int64(len(w.buf)) {
		if w.refills++; w.refills > maxRefills {
			return true
		}
		w.start, at = int64(off), 0
		n, _ := w.r.ReadAt(w.buf[:cap(w.buf)], w.start) // short at the table's end
		w.buf = w.buf[:n]
	}
	b := w.buf[min(at, int64(len(w.buf))):]
	return len(b) > 0 && b[0] == '$' || len(b) > 1 && b[0] == '.' && b[1] == 'L'
}
