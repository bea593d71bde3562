// SPDX-License-Identifier: Apache-2.0

package objfile

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// maxDebugLink bounds the section .gnu_debuglink, in bytes: NAME_MAX, a NUL, padding and a sum.
const maxDebugLink = 264

// DebugLink gives the name of the file that has the debug information of f, without directory, and
// the CRC-32 of its content (IEEE 802.3), from the section .gnu_debuglink.
// https://sourceware.org/gdb/current/onlinedocs/gdb.html/Separate-Debug-Files.html
func (f *File) DebugLink() (name string, crc uint32, ok bool) {
	s, ok := f.Section(".gnu_debuglink")
	if !ok || s.Size > maxDebugLink {
		return "", 0, false
	}
	b, err := f.bytes(s.Offset, s.Size)
	if err != nil {
		return "", 0, false
	}
	end := bytes.IndexByte(b, 0)
	at := (end + 4) &^ 3
	if end <= 0 || len(b) < at+4 {
		return "", 0, false
	}
	name = string(b[:end])
	if strings.Contains(name, "/") || name == "." || name == ".." {
		return "", 0, false
	}
	return name, binary.LittleEndian.Uint32(b[at:]), true
}
