// SPDX-License-Identifier: Apache-2.0

package objfile

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"iter"
)

const (
	symbolSize = 24 // Elf64_Sym
	relaSize   = 24 // Elf64_Rela

	// maxTable bounds how many bytes of a symbol table, or of all relocation tables, are
	// walked: 4 Mi entries. The largest browsers stay below half of that.
	maxTable = 4 << 20 * symbolSize

	// chunkEntries is how many entries are read at once (48 KiB).
	chunkEntries = 2 << 10
)

// Symbol is one entry of a symbol table.
type Symbol struct {
	// Name is an offset in the linked table of names.
	Name        uint32
	Info        uint8
	Section     elf.SectionIndex
	Value, Size uint64
}

// Bind is the symbol's binding: local, global or weak.
func (s *Symbol) Bind() elf.SymBind { return elf.ST_BIND(s.Info) }

// Type is the symbol's type, such as STT_FUNC.
func (s *Symbol) Type() elf.SymType { return elf.ST_TYPE(s.Info) }

// SymbolTable finds the symbol table of a type (SHT_SYMTAB or SHT_DYNSYM) and
// the table of its names.
func (f *File) SymbolTable(t elf.SectionType) (symbols, names Section, ok bool) {
	for _, s := range f.Sections {
		if s.Type != t || s.Flags&elf.SHF_COMPRESSED != 0 || int(s.Link) >= len(f.Sections) {
			continue
		}
		if n := f.Sections[s.Link]; n.Type == elf.SHT_STRTAB && n.Flags&elf.SHF_COMPRESSED == 0 {
			return s, n, true
		}
	}
	return Section{}, Section{}, false
}

// Symbols walks a symbol table without its first, empty entry. An error is the
// last thing it yields.
func (f *File) Symbols(table Section) iter.Seq2[Symbol, error] {
	return func(yield func(Symbol, error) bool) {
		first := true
		for b, err := range f.entries(table, symbolSize) {
			if err != nil {
				yield(Symbol{}, fmt.Errorf("read symbol table: %w", err))
				return
			}
			if first {
				first = false
				continue
			}
			s := Symbol{
				Name:    binary.LittleEndian.Uint32(b),
				Info:    b[4],
				Section: elf.SectionIndex(binary.LittleEndian.Uint16(b[6:])),
				Value:   binary.LittleEndian.Uint64(b[8:]),
				Size:    binary.LittleEndian.Uint64(b[16:]),
			}
			if !yield(s, nil) {
				return
			}
		}
	}
}

// Relative is a relocation of a position-independent file: the 8 bytes at
// Address hold Target plus wherever the file gets loaded.
type Relative struct{ Address, Target uint64 }

// Relatives walks the relative relocations of all loaded relocation tables
// (R_X86_64_RELATIVE, R_AARCH64_RELATIVE). An error is the last thing it
// yields. Packed ones (SHT_RELR) are left out: their targets stand in place.
func (f *File) Relatives() iter.Seq2[Relative, error] {
	return relocations(f, f.relative, func(b []byte) Relative {
		return Relative{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[16:])}
	})
}

func (f *File) relative(kind uint32) bool {
	switch f.Machine {
	case elf.EM_X86_64:
		return elf.R_X86_64(kind) == elf.R_X86_64_RELATIVE
	case elf.EM_AARCH64:
		return elf.R_AARCH64(kind) == elf.R_AARCH64_RELATIVE
	}
	return false
}

// Import is a relocation by which the dynamic linker puts the address of a symbol at Address.
type Import struct {
	Address uint64
	// Symbol is an index in the table of type SHT_DYNSYM.
	Symbol uint32
}

// Imports walks those of all loaded relocation tables. An error is the last thing it yields.
func (f *File) Imports() iter.Seq2[Import, error] {
	return relocations(f, f.imports, func(b []byte) Import {
		return Import{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[12:])}
	})
}

func (f *File) imports(kind uint32) bool {
	switch f.Machine {
	case elf.EM_X86_64:
		return elf.R_X86_64(kind) == elf.R_X86_64_JMP_SLOT || elf.R_X86_64(kind) == elf.R_X86_64_GLOB_DAT
	case elf.EM_AARCH64:
		return elf.R_AARCH64(kind) == elf.R_AARCH64_JUMP_SLOT || elf.R_AARCH64(kind) == elf.R_AARCH64_GLOB_DAT
	}
	return false
}

// relocations walks the entries of some kinds in all loaded relocation tables.
func relocations[T any](f *File, wanted func(kind uint32) bool, read func(entry []byte) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		total := uint64(0)
		for _, s := range f.Sections {
			if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_ALLOC == 0 {
				continue
			}
			if total += min(s.Size, maxTable+1); total > maxTable {
				var none T
				yield(none, fmt.Errorf("read relocations: more than %d bytes", maxTable))
				return
			}
			for b, err := range f.entries(s, relaSize) {
				if err != nil {
					var none T
					yield(none, fmt.Errorf("read relocations: %w", err))
					return
				}
				if wanted(binary.LittleEndian.Uint32(b[8:])) && !yield(read(b), nil) {
					return
				}
			}
		}
	}
}

// entries walks a table of fixed-size entries. The bytes are valid until the
// next step.
func (f *File) entries(s Section, size int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if s.Size > maxTable {
			yield(nil, fmt.Errorf("section %s has %d bytes, more than %d", s.Name, s.Size, maxTable))
			return
		}
		chunk := make([]byte, min(int(s.Size)/size, chunkEntries)*size)
		for left, off := int(s.Size)/size, int64(s.Offset); left > 0; {
			chunk = chunk[:min(len(chunk), left*size)]
			if err := readFull(f.r, chunk, off); err != nil {
				yield(nil, err)
				return
			}
			for b := chunk; len(b) > 0; b = b[size:] {
				if !yield(b[:size], nil) {
					return
				}
			}
			left -= len(chunk) / size
			off += int64(len(chunk))
		}
	}
}
