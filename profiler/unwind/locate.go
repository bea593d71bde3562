// SPDX-License-Identifier: Apache-2.0

package unwind

import "github.com/fleetprof/fleetprof/internal/objfile"

// openFrames finds .eh_frame by its section or, where the section table has been
// stripped away, through PT_GNU_EH_FRAME. It returns nil if there is none.
func openFrames(f *objfile.File, a *arch) (source, error) {
	s, exact := f.Section(".eh_frame")
	if !exact {
		var ok bool
		if s, ok = frameSegment(f); !ok {
			return nil, nil
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
func frameSegment(f *objfile.File) (objfile.Section, bool) {
	header := f.EHFrameHeader
	if header == 0 {
		return objfile.Section{}, false
	}
	// Version 1, then the encodings of three fields; the first field is the
	// address of .eh_frame (LSB Core 10.6.2).
	var b [4 + 8]byte
	if f.ReadAddress(b[:], header) != nil || b[0] != 1 {
		return objfile.Section{}, false
	}
	c := cursor{b: b[:], pos: 4}
	addr := c.pointer(b[1], header, header)
	offset, ok := f.Offset(addr)
	if !ok || c.bad {
		return objfile.Section{}, false
	}
	_, segment, ok := f.Locate(offset)
	if !ok || addr-segment.Address >= segment.FileSize {
		return objfile.Section{}, false
	}
	size := segment.FileSize - (addr - segment.Address)
	return objfile.Section{Address: addr, Offset: offset, Size: min(size, maxSection)}, true
}
