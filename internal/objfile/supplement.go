// SPDX-License-Identifier: Apache-2.0

package objfile

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
)

const (
	// maxSupplement bounds the sections that tell of a supplementary file, in bytes: PATH_MAX, and an
	// identification with what is around it.
	maxSupplement = 4096 + maxBuildID + 16
	// supVersion is the version of the section .debug_sup.
	supVersion = 5
)

// Supplement gives the path of the supplementary file, with debug information that f shares with others, and what
// SupplementID says of it. The path may be relative to the directory of f. Source: the section .gnu_debugaltlink as dwz(1)
// writes it, a path and a build ID; or .debug_sup, DWARF 5 section 7.3.6.
func (f *File) Supplement() (path, id string, ok bool) {
	if b := f.small(".gnu_debugaltlink"); b != nil {
		end := bytes.IndexByte(b, 0)
		if end <= 0 || len(b) == end+1 || len(b) > end+1+maxBuildID {
			return "", "", false
		}
		return string(b[:end]), hex.EncodeToString(b[end+1:]), true
	}
	path, id, itself := f.sup()
	return path, id, path != "" && id != "" && !itself
}

// SupplementID is what identifies a supplementary file, in lower-case hex: its checksum, or its build ID. It is
// empty if there is neither.
func (f *File) SupplementID() string {
	if _, id, itself := f.sup(); itself {
		return id
	}
	return f.BuildID()
}

// sup reads the section .debug_sup. itself is set in a supplementary file.
func (f *File) sup() (path, id string, itself bool) {
	b := f.small(".debug_sup")
	if len(b) < 3 || binary.LittleEndian.Uint16(b) != supVersion || b[2] > 1 {
		return "", "", false
	}
	itself, b = b[2] == 1, b[3:]
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return "", "", false
	}
	path, b = string(b[:end]), b[end+1:]
	size, n := binary.Uvarint(b)
	if n <= 0 || size > maxBuildID || size > uint64(len(b)-n) {
		return "", "", false
	}
	return path, hex.EncodeToString(b[n:][:size]), itself
}

// small reads a section of at most maxSupplement bytes; nil if there is none.
func (f *File) small(name string) []byte {
	s, ok := f.Section(name)
	if !ok || s.Size > maxSupplement {
		return nil
	}
	b, err := f.bytes(s.Offset, s.Size)
	if err != nil {
		return nil
	}
	return b
}
