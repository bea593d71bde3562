// SPDX-License-Identifier: Apache-2.0

// Package jitdump names generated code by the file that its process writes in perf's jitdump format:
// records of code that was put somewhere, moved, and which lines it was made from.
// https://github.com/torvalds/linux/blob/master/tools/perf/Documentation/jitdump-specification.txt
//
// No record says that code is gone; later records replace what they overlap. Records have times, which
// are not used: code is named as it lies when Update was called last. A Table keeps 24 bytes for
// each piece of code; names and lines are read from the file when they are asked for.
package jitdump

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/codemap"
)

// The layout of headers and of the records that are read, in bytes.
const (
	headerBytes = 40
	recordBytes = 16 // id, size, time
	loadBytes   = recordBytes + 40
	moveBytes   = recordBytes + 48
	debugBytes  = recordBytes + 16
)

// The records that matter.
const (
	codeLoad  = 0
	codeMove  = 1
	debugInfo = 2
)

const (
	magic = 0x4A695444
	// maxName bounds a name, in bytes. What is longer is cut.
	maxName = 4 << 10
	// maxRecords bounds what is read of one file.
	maxRecords = 2 << 20
)

// ErrFormat reports a file that is no jitdump, or no more from some place on. What came before
// has names.
var ErrFormat = errors.New("not a jitdump")

// Is tells whether a file that begins so, with at least 4 bytes, is a jitdump.
func Is(head []byte) bool { return orderOf(head) != nil }

func orderOf(head []byte) binary.ByteOrder {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if order.Uint32(head) == magic {
			return order
		}
	}
	return nil
}

// Table is the code that a file names. Not safe for concurrent use.
type Table struct {
	file  io.ReaderAt
	limit int64
	codes codemap.Map
	order binary.ByteOrder // nil before the header was read
	head  [headerBytes]byte
	// read is how much of the file has been taken, in whole records, of which there were so many.
	read    int64
	records int
	broken  bool
	// debug is the record of lines last read, for the code that follows.
	debug struct {
		addr   uint64
		offset int64
	}
}

// Open prepares a table of at most limit bytes, which Update then fills. The file must stay
// open.
func Open(file io.ReaderAt, limit int64) *Table { return &Table{file: file, limit: limit} }

// Bytes is the memory that the table holds.
func (t *Table) Bytes() int64 { return t.codes.Bytes() }

// Update reads what a file of that size has more than at the last time, or all of it if it was written
// anew. A last record that is not there as a whole is left for the next time. After an
// error that wraps codemap.ErrTooLarge the table must not be used any more.
func (t *Table) Update(size int64) error {
	r := reader{file: t.file, size: size}
	head, err := r.at(0, headerBytes)
	if err != nil || head == nil {
		return err
	}
	if size < t.read || t.order == nil || !bytes.Equal(head, t.head[:]) {
		*t = Table{file: t.file, limit: t.limit}
		if err := t.begin(head); err != nil {
			return err
		}
	}
	for !t.broken {
		record, err := r.at(t.read, recordBytes)
		if err != nil || record == nil {
			return err
		}
		id, length := t.order.Uint32(record), int64(t.order.Uint32(record[4:]))
		switch {
		case id == 0 && length == 0: // room for the next one
			return nil
		case length < recordBytes:
			t.broken = true
			return fmt.Errorf("record at %d has %d bytes: %w", t.read, length, ErrFormat)
		case t.read+length > size:
			return nil
		}
		if err := t.take(&r, id, length); err != nil {
			return err
		}
		t.read += length
		if t.records++; t.records > maxRecords || t.Bytes() > t.limit {
			return fmt.Errorf("%d records: %w", t.records, codemap.ErrTooLarge)
		}
	}
	return nil
}

// begin reads the header.
func (t *Table) begin(head []byte) error {
	t.order = orderOf(head)
	if t.order == nil {
		return fmt.Errorf("read header: %w", ErrFormat)
	}
	t.head = [headerBytes]byte(head)
	t.read = int64(t.order.Uint32(head[8:]))
	if version := t.order.Uint32(head[4:]); version != 1 || t.read < headerBytes {
		t.broken = true
		return fmt.Errorf("version %d with a header of %d bytes: %w", version, t.read, ErrFormat)
	}
	return nil
}

// take takes the record at t.read. One too short for what it is says nothing.
func (t *Table) take(r *reader, id uint32, length int64) error {
	need := map[uint32]int{codeLoad: loadBytes, codeMove: moveBytes, debugInfo: debugBytes}[id]
	if need == 0 || length < int64(need) {
		return nil
	}
	record, err := r.at(t.read, need)
	if err != nil || record == nil {
		return err
	}
	number := func(at int) uint64 { return t.order.Uint64(record[at:]) }
	switch id {
	case debugInfo:
		t.debug.addr, t.debug.offset = number(16), t.read
	case codeLoad:
		addr, size := number(32), number(40)
		c := codemap.Code{Start: addr, Size: uint32(min(size, math.MaxUint32)), Offset: t.read}
		if back := t.read - t.debug.offset; t.debug.addr == addr && back <= math.MaxUint32 && t.debug.offset > 0 {
			c.Length = uint32(back)
		}
		t.debug.offset = 0
		t.codes.Add(c)
	case codeMove:
		from, to := number(32), number(40)
		if c, ok := t.codes.Find(from); ok && c.Start == from {
			t.codes.Remove(from, from+1)
			c.Start = to
			t.codes.Add(c)
		}
	}
	return nil
}

// Lookup names the code at an address, with file and line if they are known. The function is empty if
// there is none; an error means that the file cannot be read.
func (t *Table) Lookup(addr uint64) (f sample.Frame, err error) {
	c, ok := t.codes.Find(addr)
	if !ok {
		return f, nil
	}
	record := make([]byte, loadBytes+maxName)
	n, err := t.file.ReadAt(record, c.Offset)
	if err != nil && err != io.EOF {
		return f, fmt.Errorf("read name of code at %#x: %w", c.Start, err)
	}
	record = record[:n]
	if n < loadBytes || t.order.Uint32(record) != codeLoad || min(t.order.Uint64(record[40:]), math.MaxUint32) != uint64(c.Size) {
		return f, nil // written anew since
	}
	record = record[:min(int64(n), max(loadBytes, int64(t.order.Uint32(record[4:]))))]
	name, _, _ := bytes.Cut(record[loadBytes:], []byte{0})
	f.Function = string(name)
	if c.Length == 0 || f.Function == "" {
		return f, nil
	}
	first := t.order.Uint64(record[32:]) // where it was before it was moved
	f.File, f.Line, err = t.line(c.Offset-int64(c.Length), addr-c.Start+first)
	return f, err
}
