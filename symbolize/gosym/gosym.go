// SPDX-License-Identifier: Apache-2.0

// Package gosym names addresses of a Go program from its .gopclntab, the table
// the Go runtime itself uses. It is there in stripped programs too. Package
// gopclntab reads it.
//
// Functions are named in programs of Go 1.2 and later. Files, lines and inlined
// calls are told from Go 1.18 on, where one number says whether an address lies in
// an inlined call; a line of an inlined callee under its caller's name would be
// wrong, so where that callee cannot be named (Go 1.18 and 1.19) no line is given.
package gosym

import (
	"fmt"
	"slices"

	"github.com/fleetprof/fleetprof/internal/gopclntab"
	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/sample"
)

var (
	// ErrNoTable reports a file without a Go table: not a Go program.
	ErrNoTable = gopclntab.ErrNoTable
	// ErrUnsupported reports a table in a layout that is not read.
	ErrUnsupported = gopclntab.ErrUnsupported
)

const (
	// indexStep is how many functions share one entry of the index in memory.
	indexStep = 64
	// indexBuffer is how much is read at a time to make the index, in bytes.
	indexBuffer = 16 << 10
	// lookupBuffer is how much is read at a time for one address, in bytes: as much
	// as the entries of one step of the index have since Go 1.18.
	lookupBuffer = 2 * indexStep * 4
)

// Table names the functions of one Go program. It is immutable, and safe for
// concurrent use if the file's reader is. It keeps one address for every 64
// functions and reads the rest from the file when asked.
type Table struct {
	*gopclntab.Table
	file *objfile.File
	// index holds the address of every indexStep-th function, end the first
	// address behind the last one.
	index []uint64
	end   uint64
}

// Open reads the table's header and builds the index.
func Open(f *objfile.File) (*Table, error) {
	header, err := gopclntab.Open(f)
	if err != nil {
		return nil, err
	}
	if err := header.FindModule(); err != nil {
		return nil, err
	}
	t := &Table{Table: header, file: f}
	if err := t.buildIndex(); err != nil {
		return nil, fmt.Errorf("read function table: %w", err)
	}
	return t, nil
}

// Bytes is the memory the table holds.
func (t *Table) Bytes() int64 { return int64(cap(t.index)) * 8 }

// Contains reports whether the program's Go code spans an address.
func (t *Table) Contains(addr uint64) bool {
	return len(t.index) > 0 && addr >= t.index[0] && addr < t.end
}

// buildIndex walks the function table once.
func (t *Table) buildIndex() error {
	t.index = make([]uint64, 0, (t.Count+indexStep-1)/indexStep)
	r := t.Reader(indexBuffer)
	var last uint64
	for i := uint64(0); i < t.Count; i += indexStep {
		var entries [indexStep + 1]gopclntab.Entry
		n, err := r.Entries(entries[:], i)
		if err != nil {
			return err
		}
		for _, e := range entries[:n] {
			if e.Start < last {
				return fmt.Errorf("functions are not sorted: %w", ErrUnsupported)
			}
			last = e.Start
		}
		t.index = append(t.index, entries[0].Start)
	}
	t.end = last
	return nil
}

// Lookup names the code at an address as linked, the innermost inlined call
// first. It returns no frames for an address outside of Go code; an error
// means that the file cannot be read or is damaged.
func (t *Table) Lookup(addr uint64) ([]sample.Frame, error) {
	if !t.Contains(addr) {
		return nil, nil
	}
	q := query{Table: t, r: t.Reader(lookupBuffer), steps: maxSteps}
	entry, err := q.find(addr)
	if err != nil {
		return nil, fmt.Errorf("find function at %#x: %w", addr, err)
	}
	if err := q.function(entry); err != nil {
		return nil, fmt.Errorf("read function at %#x: %w", addr, err)
	}
	frames, err := q.frames(addr - entry.Start)
	if err != nil {
		return nil, fmt.Errorf("name function at %#x: %w", addr, err)
	}
	return frames, nil
}

// find returns the function that holds addr.
func (q *query) find(addr uint64) (found gopclntab.Entry, err error) {
	i, ok := slices.BinarySearch(q.index, addr)
	if !ok {
		i-- // Contains has excluded addresses before the first
	}
	// Several functions may start at one address only if all but the last are
	// empty, so the last entry not above addr is the one.
	for i+1 < len(q.index) && q.index[i+1] == addr {
		i++
	}
	first := uint64(i) * indexStep
	var entries [indexStep]gopclntab.Entry
	n, err := q.r.Entries(entries[:min(indexStep, q.Count-first)], first)
	if err != nil {
		return gopclntab.Entry{}, err
	}
	for _, e := range entries[:n] {
		if e.Start > addr {
			break
		}
		found = e
	}
	return found, nil
}
