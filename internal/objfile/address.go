// SPDX-License-Identifier: Apache-2.0

package objfile

import (
	"debug/elf"
	"fmt"
)

// Locate gives the address as linked of the byte at a file offset, and the
// segment it lies in. Where segments overlap in the file an executable one is
// preferred, for offsets that code was executed from.
//
// A mapping starts at the page that holds a segment's first byte, but code
// never lies in front of that byte: the segment's own range is what counts.
func (f *File) Locate(offset uint64) (addr uint64, seg Segment, ok bool) {
	for _, s := range f.Segments {
		if offset < s.Offset || offset-s.Offset >= s.FileSize {
			continue
		}
		if s.Flags&elf.PF_X != 0 {
			return offset - s.Offset + s.Address, s, true
		}
		if !ok {
			addr, seg, ok = offset-s.Offset+s.Address, s, true
		}
	}
	return addr, seg, ok
}

// Offset is the inverse of Locate: the file offset of the byte linked at addr.
func (f *File) Offset(addr uint64) (offset uint64, ok bool) {
	for _, s := range f.Segments {
		if addr >= s.Address && addr-s.Address < s.FileSize {
			return addr - s.Address + s.Offset, true
		}
	}
	return 0, false
}

// ReadAddress fills b with what the file holds for the addresses from addr on.
// Relocations are not applied, see Relatives. Of a file without code, such as a debug file, it reads
// what is left in sections.
func (f *File) ReadAddress(b []byte, addr uint64) error {
	off, ok := f.Offset(addr)
	if f.codeless {
		off, ok = f.left(addr, uint64(len(b)))
	}
	if !ok || !f.holds(off, uint64(len(b))) {
		return fmt.Errorf("read %d bytes at address %#x: not in the file", len(b), addr)
	}
	if err := readFull(f.r, b, int64(off)); err != nil {
		return fmt.Errorf("read %d bytes at address %#x: %w", len(b), addr, err)
	}
	return nil
}

// left is the file offset of n bytes that are left of what is loaded, from an address on.
func (f *File) left(addr, n uint64) (offset uint64, ok bool) {
	for _, s := range f.loaded {
		if s.Contains(addr) && n <= s.Size-(addr-s.Address) {
			return addr - s.Address + s.Offset, true
		}
	}
	return 0, false
}

// Executable tells whether addr lies in a segment that is mapped executable.
func (f *File) Executable(addr uint64) bool {
	for _, s := range f.Segments {
		if s.Flags&elf.PF_X != 0 && addr >= s.Address && addr-s.Address < s.FileSize {
			return true
		}
	}
	return false
}

// HasCode tells whether addr, as linked, lies in a segment that is mapped executable, be its bytes in
// this file or, if this is a debug file, in the one that it belongs to.
func (f *File) HasCode(addr uint64) bool {
	for _, s := range f.Segments {
		if s.Flags&elf.PF_X != 0 && addr >= s.Address && addr-s.Address < max(s.FileSize, s.MemorySize) {
			return true
		}
	}
	return false
}
