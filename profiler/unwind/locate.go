// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"debug/elf"
	"encoding/binary"
	"fmt"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

const (
	elfHeaderSize     = 64
	programHeaderSize = 56
	maxProgramHeaders = 1 << 10
)

// openFrames finds .eh_frame by its section or, where the section table has been
// stripped away, through PT_GNU_EH_FRAME. It returns nil if there is none.
func openFrames(f *objfile.File, a *arch) (source, error) {
	s, exact := f.Section(".eh_frame")
	if !exact {
		var ok bool
		var err error
		if s, ok, err = frameSegment(f); err != nil || !ok {
			return nil, err
		}
	}
	return newFrames(f, s, &frames{arch: a, exact: exact})
}

// openDebugFrames finds .debug_frame. It returns nil if there is none.
func openDebugFrames(f *objfile.File, a *arch) (source, error) {
	s, ok := f.Section(".debug_frame")
	if !ok {
		return nil, nil
	}
	return newFrames(f, s, &frames{arch: a, exact: true, debug: true})
}

func newFrames(f *objfile.File, s objfile.Section, to *frames) (source, error) {
	w, err := newWindow(f, s)
	if err != nil {
		return nil, err
	}
	to.window, to.addr, to.cies = w, s.Address, make(map[uint64]*cie)
	return to, nil
}

// frameSegment follows PT_GNU_EH_FRAME to .eh_frame. What it returns reaches up
// to the end of the loaded segment; a terminator ends the frames before.
func frameSegment(f *objfile.File) (objfile.Section, bool, error) {
	header, ok, err := frameHeader(f)
	if err != nil || !ok {
		return objfile.Section{}, false, err
	}
	// Version 1, then the encodings of three fields; the first field is the
	// address of .eh_frame (LSB Core 10.6.2).
	var b [4 + 8]byte
	if f.ReadAddress(b[:], header) != nil || b[0] != 1 {
		return objfile.Section{}, false, nil
	}
	c := cursor{b: b[:], pos: 4}
	addr := c.pointer(b[1], header, header)
	offset, ok := f.Offset(addr)
	if !ok || c.bad {
		return objfile.Section{}, false, nil
	}
	_, segment, ok := f.Locate(offset)
	if !ok || addr-segment.Address >= segment.FileSize {
		return objfile.Section{}, false, nil
	}
	size := segment.FileSize - (addr - segment.Address)
	return objfile.Section{Address: addr, Offset: offset, Size: min(size, maxSection)}, true, nil
}

// frameHeader returns the address of .eh_frame_hdr from the program headers.
func frameHeader(f *objfile.File) (addr uint64, ok bool, err error) {
	var h [elfHeaderSize]byte
	if _, err := f.Reader(objfile.Section{Size: elfHeaderSize}).ReadAt(h[:], 0); err != nil {
		return 0, false, fmt.Errorf("read ELF header: %w", err)
	}
	count := min(int(binary.LittleEndian.Uint16(h[56:])), maxProgramHeaders)
	table := make([]byte, count*programHeaderSize)
	s := objfile.Section{Offset: binary.LittleEndian.Uint64(h[32:]), Size: uint64(len(table))}
	if n, err := f.Reader(s).ReadAt(table, 0); n < len(table) {
		return 0, false, fmt.Errorf("read program headers: %w", shortRead(err))
	}
	for ; len(table) > 0; table = table[programHeaderSize:] {
		if elf.ProgType(binary.LittleEndian.Uint32(table)) == elf.PT_GNU_EH_FRAME {
			return binary.LittleEndian.Uint64(table[16:]), true, nil
		}
	}
	return 0, false, nil
}
