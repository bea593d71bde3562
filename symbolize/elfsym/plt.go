// SPDX-License-Identifier: Apache-2.0

package elfsym

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

const (
	// pltRank is that of an entry of a procedure linkage table: real symbols come before it.
	pltRank = 1 << 7

	// maxPLT bounds the tables of one file, in bytes. A browser has 100 KiB.
	maxPLT = 4 << 20
)

// stub is an entry of a procedure linkage table: code that jumps to where a slot says, which the
// dynamic linker fills with the address of a function.
type stub struct {
	addr uint64
	size uint32
	slot uint64
	// symbol is the function's index in .dynsym, and name the offset of its name; 0 if there is none.
	symbol, name uint32
}

// stubs finds the entries of procedure linkage tables by their code, as the formats of linkers
// differ in all but the jump through the slot.
func (l *loader) stubs() ([]stub, error) {
	format, ok := stubFormats[l.file.Machine]
	if !ok {
		return nil, nil
	}
	var all []stub
	left := uint64(maxPLT)
	for _, s := range l.code {
		if !strings.HasPrefix(s.Name, ".plt") || s.Type == elf.SHT_NOBITS || s.Size > left {
			continue
		}
		left -= s.Size
		code := make([]byte, s.Size)
		if _, err := l.file.Reader(s).ReadAt(code, 0); err != nil {
			return nil, fmt.Errorf("read section %s: %w", s.Name, err)
		}
		all = append(all, format.jumps(code, s.Address)...)
	}
	if len(all) == 0 {
		return nil, nil
	}
	if err := l.nameStubs(all); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(s stub) bool {
		return s.name == 0 || s.name >= dynamicName || s.addr>>addressBits != 0 || l.skip(s.addr)
	}), nil
}

// nameStubs gives stubs the names of the symbols that their slots are filled with.
func (l *loader) nameStubs(all []stub) error {
	slices.SortFunc(all, func(a, b stub) int { return cmp.Compare(a.slot, b.slot) })
	for r, err := range l.file.Imports() {
		if err != nil {
			return err
		}
		i, _ := slices.BinarySearchFunc(all, r.Address, func(s stub, slot uint64) int { return cmp.Compare(s.slot, slot) })
		for ; i < len(all) && all[i].slot == r.Address; i++ {
			all[i].symbol = r.Symbol
		}
	}
	symbols, _, ok := l.file.SymbolTable(elf.SHT_DYNSYM)
	if !ok {
		return nil
	}
	slices.SortFunc(all, func(a, b stub) int { return cmp.Compare(a.symbol, b.symbol) })
	i, index := 0, uint32(0)
	for s, err := range l.file.Symbols(symbols) {
		if err != nil {
			return err
		}
		index++ // the first one, which is empty, is left out
		for i < len(all) && all[i].symbol < index {
			i++
		}
		for ; i < len(all) && all[i].symbol == index; i++ {
			all[i].name = s.Name
		}
		if i == len(all) {
			break
		}
	}
	return nil
}

// stubFormat is how entries look on a machine.
type stubFormat struct {
	// step is what entries are aligned to, and most their size, in bytes.
	step, most int
	// find reads an entry at the beginning of code, up to its jump; size is 0 if there is none.
	find func(code []byte, addr uint64) (size int, slot uint64)
}

var stubFormats = map[elf.Machine]stubFormat{
	elf.EM_X86_64:  {8, 16, jumpAMD64},
	elf.EM_AARCH64: {4, 24, jumpARM64}, // with a landing pad
}

// jumps finds jumps through slots in code at an address.
func (f stubFormat) jumps(code []byte, addr uint64) (all []stub) {
	for at := 0; at < len(code); {
		size, slot := f.find(code[at:], addr+uint64(at))
		if size > 0 {
			if last := len(all) - 1; last >= 0 {
				all[last].size = min(all[last].size, uint32(addr+uint64(at)-all[last].addr))
			}
			all = append(all, stub{addr: addr + uint64(at), size: uint32(min(f.most, len(code)-at)), slot: slot})
		}
		at += max(f.step, (size+f.step-1)/f.step*f.step)
	}
	return all
}

var (
	endbr64      = []byte{0xf3, 0x0f, 0x1e, 0xfa}
	movR11       = []byte{0x41, 0xbb}                // and 4 bytes: mold tells the slot's number so
	bnd          = []byte{0xf2}                      // of MPX
	jumpIndirect = []byte{0xff, 0x25}                // and 4 bytes relative to what follows
	bti          = uint32(0xd503245f)                // BTI c
	adrpX16      = [2]uint32{0x9f00001f, 0x90000010} // ADRP x16, page
	ldrX17       = [2]uint32{0xffc003ff, 0xf9400211} // LDR x17, [x16, offset]
)

// jumpAMD64 is that of amd64: of GNU's linkers, LLVM's and mold.
func jumpAMD64(code []byte, addr uint64) (size int, slot uint64) {
	rest := bytes.TrimPrefix(code, endbr64)
	if bytes.HasPrefix(rest, movR11) && len(rest) >= 6 {
		rest = rest[6:]
	}
	rest, ok := bytes.CutPrefix(bytes.TrimPrefix(rest, bnd), jumpIndirect)
	if !ok || len(rest) < 4 {
		return 0, 0
	}
	size = len(code) - len(rest) + 4
	return size, addr + uint64(size) + uint64(int64(int32(binary.LittleEndian.Uint32(rest))))
}

// jumpARM64 is that of arm64. See "ELF for the Arm 64-bit Architecture", and "Arm Architecture Reference
// Manual", ADRP and LDR (immediate).
func jumpARM64(code []byte, addr uint64) (size int, slot uint64) {
	word := func(i int) uint32 {
		if len(code) < 4*i+4 {
			return 0
		}
		return binary.LittleEndian.Uint32(code[4*i:])
	}
	i := 0
	if word(0) == bti {
		i = 1
	}
	adrp, ldr := word(i), word(i+1)
	if adrp&adrpX16[0] != adrpX16[1] || ldr&ldrX17[0] != ldrX17[1] {
		return 0, 0
	}
	pages := int64(int32(adrp<<8)>>13<<2 | int32(adrp>>29&3)) // 19 bits high, 2 bits low
	page := (addr+uint64(4*i))&^0xfff + uint64(pages<<12)
	return 4*i + 8, page + uint64(ldr>>10&0xfff)*8
}

// symbol is the table's form of a stub.
func (s stub) asSymbol() symbol {
	return symbol{key: s.addr<<8 | pltRank, size: s.size, name: s.name | dynamicName}
}
