// SPDX-License-Identifier: Apache-2.0

package gosym

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/fleetprof/fleetprof/sample"
)

const (
	// maxName bounds names of functions and files, in bytes. What is longer is
	// cut.
	maxName = 4 << 10
	// maxInlined bounds how many inlined calls are followed.
	maxInlined = 128

	// Indexes of tables in a function's record, see internal/abi/symtab.go.
	pcdataInlineIndex  = 2
	funcdataInlineTree = 3
	inlinedCallSize    = 16 // runtime.inlinedCall of Go 1.20 and later

	missing = ^uint32(0)
)

// function is what is used of a runtime._func record. The tables are offsets;
// 0 means that there is none, in inlineTree missing does.
type function struct {
	name                     uint32
	pcfile, pcline, pcinline uint32
	unit                     uint32
	inlineTree               uint32
}

// function reads the record of the function that starts at entry.
func (t *Table) function(entry, off uint64) (function, error) {
	// The largest fixed part has 44 bytes; 21 tables may follow.
	var b [128]byte
	n, err := t.section.ReadAt(b[:], int64(min(off, uint64(t.section.Size()))))
	if n < 48 {
		return function{}, io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		return function{}, err
	}
	if t.version < go118 {
		if got := binary.LittleEndian.Uint64(b[:]); got != entry {
			return function{}, fmt.Errorf("record is that of %#x", got)
		}
		return function{name: binary.LittleEndian.Uint32(b[8:])}, nil
	}
	field := func(i uint32) uint32 { // the i-th 4 bytes, or missing
		if uint64(i)*4+4 > uint64(n) {
			return missing
		}
		return binary.LittleEndian.Uint32(b[i*4:])
	}
	if got := t.text + uint64(field(0)); got != entry {
		return function{}, fmt.Errorf("record is that of %#x", got)
	}
	fixed := uint32(10) // in fields
	if t.version >= go120 {
		fixed = 11 // with the line the function starts at
	}
	fn := function{name: field(1), pcfile: field(5), pcline: field(6), unit: field(8), inlineTree: missing}
	tables, trees := field(7), field(fixed-1)>>24
	if tables > pcdataInlineIndex {
		fn.pcinline = field(fixed + pcdataInlineIndex)
	}
	if tables < uint32(n) && trees > funcdataInlineTree {
		fn.inlineTree = field(fixed + tables + funcdataInlineTree)
	}
	return fn, nil
}

// frames names one position, pc bytes into the function, with the inlined calls
// around it.
func (q *query) frames(pc uint64) ([]sample.Frame, error) {
	name, err := q.string(q.names, q.name)
	if err != nil {
		return nil, err
	}
	if q.version < go118 {
		return []sample.Frame{{Function: name}}, nil
	}
	var frames []sample.Frame
	for range maxInlined {
		call, err := q.value(q.pcinline, pc)
		if err != nil {
			return nil, err
		}
		if call < 0 {
			return append(frames, q.frame(name, pc)), nil
		}
		inlined, parent, ok := q.inlinedCall(uint32(call))
		if !ok {
			break // no line: it would be that of the callee
		}
		frames = append(frames, q.frame(inlined, pc))
		pc = parent
	}
	return append(frames, sample.Frame{Function: name}), nil
}

// frame gives a name its file and line. Both stay empty where the tables are
// damaged: the name is worth showing without them.
func (q *query) frame(name string, pc uint64) sample.Frame {
	f := sample.Frame{Function: name}
	line, err := q.value(q.pcline, pc)
	if err != nil || line <= 0 {
		return f
	}
	file, err := q.fileName(pc)
	if err != nil || file == "" {
		return f
	}
	f.File, f.Line = file, int64(line)
	return f
}

func (q *query) fileName(pc uint64) (string, error) {
	i, err := q.value(q.pcfile, pc)
	if err != nil || i < 0 || q.unit == missing {
		return "", err
	}
	var b [4]byte
	if err := q.read(b[:], q.units+(uint64(q.unit)+uint64(i))*4); err != nil {
		return "", err
	}
	off := binary.LittleEndian.Uint32(b[:])
	if off == missing {
		return "", nil
	}
	return q.string(q.files, off)
}

// inlinedCall reads the i-th entry of the function's inline tree: who was called
// and from which position.
func (q *query) inlinedCall(i uint32) (name string, parent uint64, ok bool) {
	if q.version < go120 || q.inlineTrees == 0 || q.inlineTree == missing {
		return "", 0, false
	}
	var b [inlinedCallSize]byte
	addr := q.inlineTrees + uint64(q.inlineTree) + uint64(i)*inlinedCallSize
	if err := q.file.ReadAddress(b[:], addr); err != nil {
		return "", 0, false
	}
	name, err := q.string(q.names, binary.LittleEndian.Uint32(b[4:]))
	return name, uint64(binary.LittleEndian.Uint32(b[8:])), err == nil && name != ""
}

// string reads a NUL-terminated string.
func (t *Table) string(table uint64, off uint32) (string, error) {
	at := table + uint64(off)
	if at >= uint64(t.section.Size()) {
		return "", io.ErrUnexpectedEOF
	}
	for size := 128; ; size = min(size*8, maxName) {
		b := make([]byte, size)
		n, err := t.section.ReadAt(b, int64(at))
		if err != nil && err != io.EOF {
			return "", err
		}
		if i := bytes.IndexByte(b[:n], 0); i >= 0 {
			return string(b[:i]), nil
		}
		if n < size || size == maxName {
			return string(b[:n]), nil
		}
	}
}
