// SPDX-License-Identifier: Apache-2.0

// Package perfmap names generated code by the file /tmp/perf-PID.map that its process writes: a line
// for each piece of code with its address and size in hexadecimal digits and its name, which may have
// spaces. Node.js, Java, .NET, Python and others can be told to write one.
// https://github.com/torvalds/linux/blob/master/tools/perf/Documentation/jit-interface.txt
//
// Code is never said to be gone, so a later line replaces those that it overlaps. A Table keeps 24
// bytes for each piece and no names: those are read from the file when they are asked for.
package perfmap

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/codemap"
)

const (
	// maxFile bounds what is read of one file, in bytes.
	maxFile = 128 << 20
	// maxLine bounds a line, in bytes. The name of a longer one is cut.
	maxLine = 4 << 10
	// tailBytes is how much is remembered of what was read last, to tell a file that grew
	// from one that was written anew.
	tailBytes = 128
)

// Table is the code that a file names. Not safe for concurrent use.
type Table struct {
	file  io.ReaderAt
	limit int64
	codes codemap.Map
	// read is how much of the file has been taken: whole lines. tail are its last bytes.
	read int64
	tail []byte
}

// Open prepares a table of at most limit bytes, which Update then fills. The file must stay
// open.
func Open(file io.ReaderAt, limit int64) *Table { return &Table{file: file, limit: limit} }

// Bytes is the memory that the table holds.
func (t *Table) Bytes() int64 { return t.codes.Bytes() }

// Update reads what a file of that size has more than at the last time, or all of it if it was written
// anew. A last line without end is left for the next time. After an error that wraps
// codemap.ErrTooLarge the table must not be used any more; another tells of lines that could not be read.
func (t *Table) Update(size int64) error {
	if !t.continues(size) {
		t.codes, t.read, t.tail = codemap.Map{}, 0, nil
	}
	if size > maxFile {
		return fmt.Errorf("read %d bytes: %w", size, codemap.ErrTooLarge)
	}
	lines := bufio.NewReaderSize(io.NewSectionReader(t.file, t.read, size-t.read), maxLine)
	bad := 0
	for {
		line, length, err := nextLine(lines)
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read line at %d: %w", t.read, err)
		}
		c, _, ok := parse(line)
		switch {
		case !ok:
			bad++
		default:
			c.Offset, c.Length = t.read, uint32(len(line))
			t.codes.Add(c)
		}
		t.read += int64(length)
		t.tail = append(t.tail[:0], line[max(0, len(line)-tailBytes):]...)
		if length > len(line)+1 { // it was cut: these are not the last bytes
			t.tail = t.tail[:0]
		}
		if t.Bytes() > t.limit {
			return fmt.Errorf("read line at %d: %w", t.read, codemap.ErrTooLarge)
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d lines have no address, size and name", bad)
	}
	return nil
}

// continues tells whether a file of that size begins with what has been read.
func (t *Table) continues(size int64) bool {
	if size < t.read {
		return false
	}
	end := make([]byte, len(t.tail)+1) // with the end of the line
	n, _ := t.file.ReadAt(end, t.read-int64(len(end)))
	return t.read == 0 || len(t.tail) == 0 || n == len(end) && bytes.Equal(end[:len(t.tail)], t.tail) && end[len(t.tail)] == '\n'
}

// nextLine reads a line without its end, cut at maxLine; length is that of all of it, with its end.
// The error is io.EOF if there is no whole line.
func nextLine(r *bufio.Reader) (line []byte, length int, err error) {
	line, err = r.ReadSlice('\n')
	length = len(line)
	if err != bufio.ErrBufferFull {
		return bytes.TrimSuffix(line, []byte{'\n'}), length, err
	}
	line = bytes.Clone(line)
	for err == bufio.ErrBufferFull {
		var more []byte
		more, err = r.ReadSlice('\n')
		length += len(more)
	}
	return line, length, err
}

// Lookup names the code at an address. The function is empty if there is none; an error means that the
// file cannot be read.
func (t *Table) Lookup(addr uint64) (f sample.Frame, err error) {
	c, ok := t.codes.Find(addr)
	if !ok {
		return f, nil
	}
	line := make([]byte, c.Length)
	n, err := t.file.ReadAt(line, c.Offset)
	if err != nil && err != io.EOF {
		return f, fmt.Errorf("read name of code at %#x: %w", c.Start, err)
	}
	now, name, ok := parse(line[:n])
	if !ok || now.Start != c.Start || now.Size != c.Size {
		return f, nil // written anew since
	}
	f.Function = string(name)
	return f, nil
}

// parse reads a line.
func parse(line []byte) (c codemap.Code, name []byte, ok bool) {
	start, rest, ok := number(line)
	if !ok {
		return c, nil, false
	}
	size, name, ok := number(rest)
	if !ok || size > math.MaxUint32 {
		return c, nil, false
	}
	name = bytes.TrimSpace(name)
	return codemap.Code{Start: start, Size: uint32(size)}, name, len(name) > 0
}

// number reads hexadecimal digits, which some writers put 0x before, and the spaces behind them.
func number(text []byte) (v uint64, rest []byte, ok bool) {
	text = bytes.TrimPrefix(text, []byte("0x"))
	i := 0
	for ; i < len(text); i++ {
		digit := text[i]
		switch {
		case '0' <= digit && digit <= '9':
			digit -= '0'
		case 'a' <= digit|0x20 && digit|0x20 <= 'f':
			digit = digit | 0x20 - 'a' + 10
		default:
			digit = 16
		}
		if digit > 15 {
			break
		}
		v = v<<4 | uint64(digit)
	}
	rest = bytes.TrimLeft(text[i:], " \t")
	return v, rest, i > 0 && i <= 16 && len(rest) < len(text)-i
}
