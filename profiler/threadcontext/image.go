// SPDX-License-Identifier: Apache-2.0

package threadcontext

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
)

// Sizes and bounds. Sources of this file: elf(5); System V gABI, chapters 4 and 5; the
// GNU hash table as binutils writes it (DT_GNU_HASH).
const (
	headerBytes        = 64 // Elf64_Ehdr
	programHeaderBytes = 56 // Elf64_Phdr
	dynamicBytes       = 16 // Elf64_Dyn
	symbolBytes        = 24 // Elf64_Sym
	relocationBytes    = 24 // Elf64_Rela

	maxProgramHeaders = 128
	maxDynamic        = 4096 // entries
	maxInterpreter    = 256
	maxChain          = 4096 // symbols in one bucket of a hash table
	// maxRelocations bounds each table: the largest libraries have some 100,000.
	maxRelocations   = 1 << 20
	relocationsAtOne = 2048 // read at a time
)

// image is an ELF file as the dynamic loader mapped it.
type image struct {
	memory
	machine elf.Machine
	// bias is from addresses as linked to addresses in the process.
	bias uint64
	// Of thread-local memory, PT_TLS: the address as linked, bytes, alignment.
	tlsAddress, tlsBytes, tlsAlign uint64
	// interpreter is PT_INTERP, the path of the dynamic loader, as far as it is short.
	interpreter string
	// dynamic is PT_DYNAMIC by tag; of a tag that comes twice the last one counts.
	dynamic map[elf.DynTag]uint64
}

// openImage reads the headers of the image whose first byte is at an address.
func openImage(m memory, at uint64) (*image, error) {
	h, err := m.bytes(at, headerBytes)
	if err != nil { // a mapping of a file that has shrunk, or of a device
		return nil, fmt.Errorf("read ELF header: %w: %w", ErrNone, err)
	}
	if string(h[:4]) != elf.ELFMAG || elf.Class(h[elf.EI_CLASS]) != elf.ELFCLASS64 ||
		elf.Data(h[elf.EI_DATA]) != elf.ELFDATA2LSB || binary.LittleEndian.Uint16(h[54:]) != programHeaderBytes {
		return nil, fmt.Errorf("read ELF header: %w", ErrNone)
	}
	i := &image{memory: m, machine: elf.Machine(binary.LittleEndian.Uint16(h[18:]))}
	count := min(int(binary.LittleEndian.Uint16(h[56:])), maxProgramHeaders)
	table, err := m.bytes(at+binary.LittleEndian.Uint64(h[32:]), count*programHeaderBytes)
	if err != nil {
		return nil, fmt.Errorf("read program headers: %w", err)
	}
	var dynamic, dynamicSize, interpreter, interpreterSize uint64
	for ; len(table) > 0; table = table[programHeaderBytes:] {
		offset, address := binary.LittleEndian.Uint64(table[8:]), binary.LittleEndian.Uint64(table[16:])
		size := binary.LittleEndian.Uint64(table[40:]) // in memory
		switch elf.ProgType(binary.LittleEndian.Uint32(table)) {
		case elf.PT_LOAD:
			if offset == 0 {
				i.bias = at - address
			}
		case elf.PT_TLS:
			i.tlsAddress, i.tlsBytes, i.tlsAlign = address, size, max(binary.LittleEndian.Uint64(table[48:]), 1)
		case elf.PT_DYNAMIC:
			dynamic, dynamicSize = address, size
		case elf.PT_INTERP:
			interpreter, interpreterSize = address, size
		}
	}
	path, err := i.bytes(i.bias+interpreter, int(min(interpreterSize, maxInterpreter)))
	if err != nil {
		return nil, fmt.Errorf("read path of dynamic loader: %w", err)
	}
	i.interpreter = string(path)
	return i, i.readDynamic(i.bias+dynamic, int(min(dynamicSize/dynamicBytes, maxDynamic)))
}

func (i *image) readDynamic(at uint64, count int) error {
	table, err := i.bytes(at, count*dynamicBytes)
	if err != nil {
		return fmt.Errorf("read dynamic section: %w", err)
	}
	i.dynamic = make(map[elf.DynTag]uint64)
	for ; len(table) > 0; table = table[dynamicBytes:] {
		tag := elf.DynTag(binary.LittleEndian.Uint64(table))
		if tag == elf.DT_NULL {
			break
		}
		i.dynamic[tag] = binary.LittleEndian.Uint64(table[8:])
	}
	return nil
}

// pointer is an address of the dynamic section, 0 if it is absent. Some loaders (glibc)
// replace those in memory by addresses in the process, others (musl) do not.
func (i *image) pointer(tag elf.DynTag) uint64 {
	p := i.dynamic[tag]
	if p != 0 && p < i.bias {
		p += i.bias
	}
	return p
}

// symbol is an entry of the dynamic symbol table.
type symbol struct {
	index uint32
	value uint64
}

// variable finds the symbol of a thread-local pointer that the image defines.
func (i *image) variable(name string) (symbol, error) {
	find, at := i.findGNU, i.pointer(elf.DT_GNU_HASH)
	if at == 0 {
		find, at = i.findSysV, i.pointer(elf.DT_HASH)
	}
	if at == 0 || i.tlsBytes == 0 || i.pointer(elf.DT_SYMTAB) == 0 || i.pointer(elf.DT_STRTAB) == 0 {
		return symbol{}, ErrNone
	}
	return find(at, name)
}

// match reads a symbol and reports whether it is the one that is sought.
func (i *image) match(index uint32, name string) (symbol, bool, error) {
	b, err := i.bytes(i.pointer(elf.DT_SYMTAB)+uint64(index)*symbolBytes, symbolBytes)
	if err != nil {
		return symbol{}, false, err
	}
	text, err := i.bytes(i.pointer(elf.DT_STRTAB)+uint64(binary.LittleEndian.Uint32(b)), len(name)+1)
	if err != nil {
		return symbol{}, false, err
	}
	const pointerBytes = 8
	ok := string(text) == name+"\x00" && elf.ST_TYPE(b[4]) == elf.STT_TLS &&
		elf.SectionIndex(binary.LittleEndian.Uint16(b[6:])) != elf.SHN_UNDEF &&
		binary.LittleEndian.Uint64(b[16:]) == pointerBytes
	return symbol{index, binary.LittleEndian.Uint64(b[8:])}, ok, nil
}

// findGNU looks a name up: number of buckets, index of the first symbol, number of
// words of a filter, shift; filter, buckets, and the hash of each symbol, whose lowest
// bit ends a bucket.
func (i *image) findGNU(at uint64, name string) (symbol, error) {
	h, err := i.bytes(at, 16)
	if err != nil {
		return symbol{}, fmt.Errorf("read hash table: %w", err)
	}
	buckets, first, filter := binary.LittleEndian.Uint32(h), binary.LittleEndian.Uint32(h[4:]), binary.LittleEndian.Uint32(h[8:])
	if buckets == 0 {
		return symbol{}, ErrNone
	}
	hash := uint32(5381)
	for _, c := range []byte(name) {
		hash = hash*33 + uint32(c)
	}
	bucketsAt := at + 16 + uint64(filter)*8
	index, err := i.half(bucketsAt + uint64(hash%buckets)*4)
	if err != nil {
		return symbol{}, fmt.Errorf("read hash table: %w", err)
	}
	for n := 0; index >= first && n < maxChain; n, index = n+1, index+1 {
		other, err := i.half(bucketsAt + uint64(buckets)*4 + uint64(index-first)*4)
		if err != nil {
			return symbol{}, fmt.Errorf("read hash table: %w", err)
		}
		if other|1 == hash|1 {
			if s, ok, err := i.match(index, name); err != nil || ok {
				return s, err
			}
		}
		if other&1 != 0 {
			break
		}
	}
	return symbol{}, ErrNone
}

// findSysV looks a name up: number of buckets and of symbols, buckets, and the next
// symbol of each in its bucket.
func (i *image) findSysV(at uint64, name string) (symbol, error) {
	buckets, err := i.half(at)
	if err != nil || buckets == 0 {
		return symbol{}, ErrNone
	}
	var hash uint32
	for _, c := range []byte(name) {
		hash = hash<<4 + uint32(c)
		hash ^= hash >> 24 & 0xf0
		hash &= 0x0fffffff
	}
	index, err := i.half(at + 8 + uint64(hash%buckets)*4)
	for n := 0; err == nil && index != 0 && n < maxChain; n++ {
		s, ok, failed := i.match(index, name)
		if failed != nil || ok {
			return s, failed
		}
		index, err = i.half(at + 8 + uint64(buckets)*4 + uint64(index)*4)
	}
	if err != nil {
		return symbol{}, fmt.Errorf("read hash table: %w", err)
	}
	return symbol{}, ErrNone
}

// relocation is an entry of a relocation table.
type relocation struct {
	kind    uint32
	address uint64 // in the process
}

// relocation finds one about a symbol, of one of some kinds. Where the symbol cannot
// be preempted, the linker may have left its value in the symbol's stead; that is told
// apart from other variables for the kinds in local only.
func (i *image) relocation(s symbol, kinds, local []uint32) (relocation, error) {
	for _, t := range [...][2]elf.DynTag{{elf.DT_RELA, elf.DT_RELASZ}, {elf.DT_JMPREL, elf.DT_PLTRELSZ}} {
		at, left := i.pointer(t[0]), int(min(i.dynamic[t[1]]/relocationBytes, maxRelocations))
		for at != 0 && left > 0 {
			n := min(left, relocationsAtOne)
			table, err := i.bytes(at, n*relocationBytes)
			if err != nil {
				return relocation{}, fmt.Errorf("read relocations: %w", err)
			}
			for b := table; len(b) > 0; b = b[relocationBytes:] {
				kind, index := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
				if index == s.index && slices.Contains(kinds, kind) ||
					index == 0 && slices.Contains(local, kind) && binary.LittleEndian.Uint64(b[16:]) == s.value {
					return relocation{kind, i.bias + binary.LittleEndian.Uint64(b)}, nil
				}
			}
			at, left = at+uint64(n)*relocationBytes, left-n
		}
	}
	return relocation{}, fmt.Errorf("find relocation of %s: %w", Variable, ErrUnsupported)
}
