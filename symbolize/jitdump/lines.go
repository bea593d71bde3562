// SPDX-License-Identifier: Apache-2.0

package jitdump

import (
	"bytes"
	"fmt"
	"io"
)

const (
	// maxLines bounds what is read of the lines of one piece of code, in bytes.
	maxLines = 256 << 10
	// entryBytes is an entry without its file's name: address, line, discriminator.
	entryBytes = 16
)

// sameFile stands for the name of the entry before.
var sameFile = []byte{0xff}

// line finds the entry for an address in a record of lines: the last of those nearest below it.
func (t *Table) line(offset int64, addr uint64) (file string, line int64, err error) {
	record := make([]byte, debugBytes)
	if _, err := t.file.ReadAt(record, offset); err != nil {
		return "", 0, fmt.Errorf("read lines at %d: %w", offset, err)
	}
	length := int64(t.order.Uint32(record[4:]))
	if t.order.Uint32(record) != debugInfo || length < debugBytes {
		return "", 0, nil
	}
	entries := make([]byte, min(length-debugBytes, maxLines))
	n, err := t.file.ReadAt(entries, offset+debugBytes)
	if err != nil && err != io.EOF {
		return "", 0, fmt.Errorf("read lines at %d: %w", offset, err)
	}
	var name, found []byte
	var nearest uint64
	for rest := entries[:n]; len(rest) > entryBytes; {
		at, number := t.order.Uint64(rest), t.order.Uint32(rest[8:])
		this, after, whole := bytes.Cut(rest[entryBytes:], []byte{0})
		if !whole {
			break
		}
		if !bytes.Equal(this, sameFile) {
			name = this
		}
		if at <= addr && at >= nearest && number > 0 && number <= 1<<31-1 {
			nearest, found, line = at, name, int64(number)
		}
		rest = after
	}
	if len(found) == 0 || len(found) > maxName {
		return "", 0, nil
	}
	return string(found), line, nil
}
