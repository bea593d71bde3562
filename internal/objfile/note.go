// SPDX-License-Identifier: Apache-2.0

package objfile

import (
	"encoding/binary"
	"encoding/hex"
)

const (
	noteGNUBuildID = 3 // NT_GNU_BUILD_ID, elf.h
	// maxNotes bounds what is read of one note segment, in bytes.
	maxNotes = 64 << 10
	// maxBuildID is in bytes; linkers write 8, 16 or 20.
	maxBuildID = 64
)

// noteRange is where notes lie in the file.
type noteRange struct{ offset, size, align uint64 }

// BuildID returns the GNU build ID in lower-case hex, or "" if the file has
// none (or none that can be read).
func (f *File) BuildID() string {
	for _, n := range f.notes {
		b, err := f.bytes(n.offset, min(n.size, maxNotes))
		if err != nil {
			continue
		}
		if id := NoteBuildID(b, n.align); id != "" {
			return id
		}
	}
	return ""
}

// NoteBuildID finds the GNU build ID in a sequence of notes, such as the
// content of /sys/kernel/notes. The parts of a note are aligned to 8 bytes if
// align is 8 and to 4 otherwise.
func NoteBuildID(notes []byte, align uint64) string {
	if align != 8 {
		align = 4
	}
	pad := func(n uint64) uint64 { return (n + align - 1) &^ (align - 1) }
	for len(notes) >= 12 {
		nameSize := uint64(binary.LittleEndian.Uint32(notes))
		descSize := uint64(binary.LittleEndian.Uint32(notes[4:]))
		kind := binary.LittleEndian.Uint32(notes[8:])
		desc := pad(12 + nameSize)
		if desc+descSize > uint64(len(notes)) {
			return ""
		}
		if kind == noteGNUBuildID && string(notes[12:12+nameSize]) == "GNU\x00" &&
			descSize > 0 && descSize <= maxBuildID {
			return hex.EncodeToString(notes[desc : desc+descSize])
		}
		notes = notes[min(pad(desc+descSize), uint64(len(notes))):]
	}
	return ""
}
