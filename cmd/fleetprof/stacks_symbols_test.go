// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"debug/elf"
	"fmt"
	"os"
	"slices"
	"sort"
)

// symbols names addresses by the symbol tables of files and of their separate
// debug information. It is not the product's, whose names are judged too, and it
// knows more: the C library's internal functions.
type symbols struct {
	files map[string]*symbolFile
}

// symbolFile is an ELF file; one without anything if it is none.
type symbolFile struct {
	functions []elf.Symbol
	segments  []*elf.Prog
	// entry is where the kernel starts the file: that much is known of a
	// stripped one as well.
	entry uint64
}

func newSymbols() *symbols { return &symbols{files: make(map[string]*symbolFile)} }

// at names the last function at or before an address as linked, by the shortest
// of its names; it is empty if the file has none.
func (s *symbols) at(file string, addr uint64) string {
	table := s.open(file).functions
	next := sort.Search(len(table), func(i int) bool { return table[i].Value > addr })
	if next == 0 {
		return ""
	}
	return table[next-1].Name
}

// isEntry reports whether an address lies in what the kernel starts first, the
// function _start; it is at most that long in bytes, in any C library.
func (s *symbols) isEntry(file string, addr uint64) bool {
	const longest = 48
	entry := s.open(file).entry
	return entry != 0 && addr-entry < longest
}

// atOffset is at for an offset in the file.
func (s *symbols) atOffset(file string, offset uint64) string {
	for _, p := range s.open(file).segments {
		if p.Type == elf.PT_LOAD && offset-p.Off < p.Filesz {
			return s.at(file, offset-p.Off+p.Vaddr)
		}
	}
	return ""
}

func (s *symbols) open(path string) *symbolFile {
	if s.files[path] == nil {
		s.files[path] = readSymbols(path)
	}
	return s.files[path]
}

func readSymbols(path string) *symbolFile {
	out := new(symbolFile)
	f, err := openELF(path)
	if err != nil {
		return out
	}
	defer f.Close()
	out.segments, out.entry = f.Progs, f.Entry
	out.functions = functions(f)
	if note := f.Section(".note.gnu.build-id"); note != nil {
		id, err := note.Data()
		if err == nil && len(id) > 17 {
			debug, err := openELF(fmt.Sprintf("/usr/lib/debug/.build-id/%x/%x.debug", id[16:17], id[17:]))
			if err == nil {
				defer debug.Close()
				out.functions = append(out.functions, functions(debug)...)
			}
		}
	}
	slices.SortFunc(out.functions, func(a, b elf.Symbol) int {
		return cmp.Or(cmp.Compare(a.Value, b.Value), cmp.Compare(len(b.Name), len(a.Name)), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// openELF opens no devices or pipes: samples lie in mappings of those as well.
func openELF(path string) (*elf.File, error) {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: not a file", path)
	}
	return elf.Open(path)
}

// functions are those of a file's symbol tables, either of which may be missing.
func functions(f *elf.File) (all []elf.Symbol) {
	static, _ := f.Symbols()
	dynamic, _ := f.DynamicSymbols()
	for _, symbol := range append(static, dynamic...) {
		kind := elf.ST_TYPE(symbol.Info)
		if (kind == elf.STT_FUNC || kind == elf.STT_NOTYPE) && symbol.Section != elf.SHN_UNDEF {
			all = append(all, symbol)
		}
	}
	return all
}
