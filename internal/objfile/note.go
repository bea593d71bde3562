// SPDX-License-Identifier: Apache-2.0

package objfile

import (
	"encoding/binary"
	"encoding/hex"
)

const (
	noteGNUBuildID = 3 // NT_GNU_BUILD_ID, elf.h
	noteGoBuildID  = 4 // of cmd/internal/buildid
	// maxNotes bounds what is read of one note segment, in bytes.
	maxNotes = 64 << 10
	// maxBuildID is in bytes; linkers write 8, 16 or 20.
	maxBuildID = 64
	// maxGoBuildID is in bytes; the Go linker writes 83.
	maxGoBuildID = 96
)

// noteRange is where notes lie in the file.
type noteRange struct{ offset, size, align uint64 }

// BuildID returns the GNU build ID in lower-case hex, or "" if the file has
// none (or none that can be read).
func (f *File) BuildID() string {
	return hex.EncodeToString(f.note("GNU\x00", noteGNUBuildID, maxBuildID))
}

// GoBuildID returns the text of the build ID that the Go linker writes, in lower-case hex, or "" if
// the file has none. Before Go 1.24 programs have no other.
func (f *File) GoBuildID() string {
	return hex.EncodeToString(f.note("Go\x00\x00", noteGoBuildID, maxGoBuildID))
}

// note is findNote for the notes of the file.
func (f *File) note(owner string, kind uint32, most uint64) []byte {
	for _, n := range f.notes {
		b, err := f.bytes(n.offset, min(n.size, maxNotes))
		if err != nil {
			continue
		}
		if desc := findNote(b, n.align, owner, kind, most); desc != nil {
			return desc
		}
	}
	return nil
}

// NoteBuildID finds the GNU build ID in a sequence of notes, such as the
// content of /sys/kernel/notes. The parts of a note are aligned to 8 bytes if
// align is 8 and to 4 otherwise.
func NoteBuildID(notes []byte, align uint64) string {
	return hex.EncodeToString(findNote(notes, align, "GNU\x00", noteGNUBuildID, maxBuildID))
}

// findNote returns what the first note of an owner and kind says, nil if there is none of 1 to most bytes.
func findNote(notes []byte, align uint64, owner string, want uint32, most uint64) []byte {
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
			return nil
		}
		if kind == want && string(notes[12:12+nameSize]) == owner && descSize > 0 && descSize <= most {
			return notes[desc : desc+descSize]
		}
		notes = notes[min(pad(desc+descSize), uint64(len(notes))):]
	}
	return nil
}
