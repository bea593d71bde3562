// SPDX-License-Identifier: Apache-2.0

package strip

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fleetprof/fleetprof/internal/gopclntab"
)

const (
	relaSize = 24 // Elf64_Rela
	// maxRelocations bounds those that are kept, each of which takes relaSize of memory while the file
	// is sent. A browser has 30,000.
	maxRelocations = 1 << 17
)

// keepGo keeps what the tables of a Go program refer to: the runtime's moduledata, and inline trees where
// they are not in .gopclntab (before Go 1.26).
func (p *plan) keepGo() error {
	table, err := gopclntab.Open(p.object)
	if err == nil {
		err = table.FindModule()
	}
	switch {
	case errors.Is(err, gopclntab.ErrNoTable), errors.Is(err, gopclntab.ErrUnsupported), errors.Is(err, gopclntab.ErrDamaged):
		return nil // nobody names by it
	case err != nil:
		return err
	}
	if table.Module == 0 {
		return nil
	}
	p.keepRange(table.Module, gopclntab.ModuleBytes)
	if table.InlineTrees != 0 {
		p.keepRange(table.InlineTrees, 1<<63)
	}
	if p.object.Type != elf.ET_DYN {
		return nil
	}
	var kept []byte
	for r, err := range p.object.Relatives() {
		if err != nil {
			return err
		}
		if r.Address-table.Module < gopclntab.ModuleBytes && len(kept) < gopclntab.ModuleBytes*relaSize {
			kept = appendRela(kept, r.Address, p.relocation(elf.R_X86_64_RELATIVE, elf.R_AARCH64_RELATIVE), 0, r.Target)
		}
	}
	p.keepRelocations(kept)
	return nil
}

// keepRange keeps at most n bytes from an address on, as far as one section of the object has them and is not kept
// anyway. The section shrinks to them.
func (p *plan) keepRange(addr, n uint64) {
	for i := range p.object.Sections {
		of := &p.object.Sections[i]
		if of.Flags&elf.SHF_ALLOC == 0 || of.Type != elf.SHT_PROGBITS || !of.Contains(addr) {
			continue
		}
		s := p.at(of)
		if s == nil || s.content != nil {
			return
		}
		before := addr - of.Address
		n = min(n, of.Size-before)
		s.setType(elf.SHT_PROGBITS)
		s.setWord(sectionAddr, addr)
		s.setWord(sectionSize, n)
		s.keep(io.NewSectionReader(p.object.Reader(*of), int64(before), int64(n)), int64(n))
		return
	}
}

// keepImports keeps the relocations of slots, which entries of procedure linkage tables jump through. All
// others, most of them addresses of data, are left out.
func (p *plan) keepImports() error {
	has := false
	for i := range p.object.Sections {
		has = has || isPLT(&p.object.Sections[i])
	}
	if !has {
		return nil
	}
	var kept []byte
	for r, err := range p.object.Imports() {
		if err != nil {
			return err
		}
		if len(kept) >= maxRelocations*relaSize {
			return fmt.Errorf("more than %d imported functions: %w", maxRelocations, ErrTooLarge)
		}
		kept = appendRela(kept, r.Address, p.relocation(elf.R_X86_64_JMP_SLOT, elf.R_AARCH64_JUMP_SLOT), r.Symbol, 0)
	}
	p.keepRelocations(kept)
	return nil
}

func (p *plan) relocation(amd64 elf.R_X86_64, arm64 elf.R_AARCH64) uint32 {
	if p.object.Machine == elf.EM_AARCH64 {
		return uint32(arm64)
	}
	return uint32(amd64)
}

// appendRela appends an Elf64_Rela.
func appendRela(to []byte, offset uint64, kind, symbol uint32, addend uint64) []byte {
	to = binary.LittleEndian.AppendUint64(to, offset)
	to = binary.LittleEndian.AppendUint64(to, uint64(symbol)<<32|uint64(kind))
	return binary.LittleEndian.AppendUint64(to, addend)
}

// keepRelocations puts relocations into the first section of them that has no content yet.
func (p *plan) keepRelocations(kept []byte) {
	if len(kept) == 0 {
		return
	}
	for i := range p.object.Sections {
		of := &p.object.Sections[i]
		if of.Type != elf.SHT_RELA || of.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		s := p.at(of)
		if s == nil {
			continue
		}
		if s.content != nil { // of both kinds
			before := make([]byte, s.size)
			if _, err := s.content.ReadAt(before, 0); err == nil {
				kept = append(before, kept...)
			}
		}
		s.setType(elf.SHT_RELA)
		s.setWord(sectionSize, uint64(len(kept)))
		s.keep(inMemory(kept))
		return
	}
}
