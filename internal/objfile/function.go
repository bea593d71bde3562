// SPDX-License-Identifier: Apache-2.0

package objfile

import (
	"bytes"
	"debug/elf"
	"fmt"
	"iter"
)

const (
	// maxNameTable bounds how many bytes of a table of names are searched. Those of
	// the largest programs, not stripped, have some ten million.
	maxNameTable = 64 << 20
	// nameChunk is how many of them are read at once.
	nameChunk = 64 << 10
	// maxNamePlaces bounds how often the names looked for may occur: linkers write a
	// name once, and once more as the end of a longer one.
	maxNamePlaces = 256
)

// FindFunctions gives the file offset of the first byte of each of the functions that the
// file defines; those it does not define are left out.
//
// What .dynsym says goes before .symtab. The names are searched in the table of names
// first, so a file that has none of them is done with after one pass, whatever it has else.
func (f *File) FindFunctions(wanted []string) (offsets map[string]uint64, err error) {
	offsets = make(map[string]uint64)
	for _, kind := range []elf.SectionType{elf.SHT_DYNSYM, elf.SHT_SYMTAB} {
		symbols, names, ok := f.SymbolTable(kind)
		if !ok {
			continue
		}
		places, err := f.findNames(names, wanted)
		if err != nil {
			return nil, err
		}
		if len(places) == 0 {
			continue
		}
		for s, err := range f.Symbols(symbols) {
			if err != nil {
				return nil, err
			}
			name, ok := places[uint64(s.Name)]
			if !ok || s.Type() != elf.STT_FUNC || s.Section == elf.SHN_UNDEF || !f.Executable(s.Value) {
				continue
			}
			if _, known := offsets[name]; known {
				continue
			}
			offset, _ := f.Offset(s.Value)
			offsets[name] = offset
		}
	}
	return offsets, nil
}

// findNames gives the places in a table of names at which a symbol's name would be one of
// the wanted ones.
func (f *File) findNames(table Section, wanted []string) (places map[uint64]string, err error) {
	if table.Type == elf.SHT_NOBITS || table.Size > maxNameTable {
		return nil, fmt.Errorf("section %s has %d bytes, more than %d", table.Name, table.Size, maxNameTable)
	}
	longest := 0
	for _, name := range wanted {
		longest = max(longest, len(name))
	}
	places = make(map[uint64]string)
	chunk := make([]byte, nameChunk)
	// Chunks overlap, so that every name lies in one of them with its NUL.
	for at := uint64(0); at < table.Size; at += nameChunk - uint64(longest) {
		part := chunk[:min(nameChunk, table.Size-at)]
		if err := readFull(f.r, part, int64(table.Offset+at)); err != nil {
			return nil, fmt.Errorf("read names: %w", err)
		}
		for _, name := range wanted {
			for i := range occurrences(part, name+"\x00") {
				places[at+i] = name
				if len(places) > maxNamePlaces {
					return nil, fmt.Errorf("section %s has %q too often", table.Name, name)
				}
			}
		}
	}
	return places, nil
}

// occurrences yields where a string occurs.
func occurrences(b []byte, of string) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for from := 0; ; {
			i := bytes.Index(b[from:], []byte(of))
			if i < 0 || !yield(uint64(from+i)) {
				return
			}
			from += i + len(of)
		}
	}
}
