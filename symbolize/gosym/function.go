// SPDX-License-Identifier: Apache-2.0

package gosym

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fleetprof/fleetprof/internal/gopclntab"
	"github.com/fleetprof/fleetprof/sample"
)

const (
	// maxName bounds names of functions and files, in bytes. What is longer is
	// cut.
	maxName = 4 << 10
	// maxInlined bounds how many inlined calls are followed.
	maxInlined = 128
	// maxSteps bounds all walks of pc-value tables for one address, which takes
	// some milliseconds. A function of a megabyte of code has 100,000 steps.
	maxSteps = 1 << 20

	// Indexes of tables in a function's record, see internal/abi/symtab.go.
	pcdataInlineIndex  = 2
	funcdataInlineTree = 3
	inlinedCallSize    = 16 // runtime.inlinedCall of Go 1.20 and later
)

var errSteps = errors.New("pc-value tables are too long")

// query is a lookup under way.
type query struct {
	*Table
	r      *gopclntab.Reader
	record gopclntab.Record
	// inlineIndex is a pc-value table, the calls in inlineTree.
	inlineIndex, inlineTree uint32
	// steps is how many more steps in pc-value tables may be made.
	steps int
}

// function reads the record of a function.
func (q *query) function(e gopclntab.Entry) (err error) {
	if q.record, err = q.r.Record(e); err != nil {
		return err
	}
	if q.record.Start != e.Start {
		return fmt.Errorf("record is that of %#x", q.record.Start)
	}
	if q.Version < gopclntab.Go118 {
		return nil
	}
	if q.inlineIndex, err = q.r.PCData(&q.record, pcdataInlineIndex); err != nil {
		return err
	}
	q.inlineTree, err = q.r.FuncData(&q.record, funcdataInlineTree)
	return err
}

// frames names one position, pc bytes into the function, with the inlined calls
// around it.
func (q *query) frames(pc uint64) ([]sample.Frame, error) {
	name, err := q.r.Name(q.record.Name, maxName)
	if err != nil {
		return nil, err
	}
	if q.Version < gopclntab.Go118 {
		return []sample.Frame{{Function: name}}, nil
	}
	var frames []sample.Frame
	for range maxInlined {
		call, err := q.value(q.inlineIndex, pc)
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
	number, err := q.value(q.record.Files, pc)
	if err != nil {
		return f
	}
	line, err := q.value(q.record.Lines, pc) // often right behind the files
	if err != nil || line <= 0 {
		return f
	}
	file, err := q.r.File(&q.record, number, maxName)
	if err != nil || file == "" {
		return f
	}
	f.File, f.Line = file, int64(line)
	return f
}

// value looks up a position, pc bytes into its function, in a pc-value table. Where
// there is no table, or it ends before pc, the value is -1.
func (q *query) value(table uint32, pc uint64) (int32, error) {
	if table == 0 || table == gopclntab.Missing {
		return -1, nil
	}
	for v := q.r.Values(table); q.steps > 0; q.steps-- {
		more, err := v.Next()
		if err != nil || !more {
			return -1, err
		}
		if pc < v.End {
			return v.Value, nil
		}
	}
	return -1, errSteps
}

// inlinedCall reads the i-th entry of the function's inline tree: who was called
// and from which position.
func (q *query) inlinedCall(i uint32) (name string, parent uint64, ok bool) {
	if q.InlineTrees == 0 || q.inlineTree == gopclntab.Missing {
		return "", 0, false
	}
	var b [inlinedCallSize]byte
	addr := q.InlineTrees + uint64(q.inlineTree) + uint64(i)*inlinedCallSize
	if err := q.file.ReadAddress(b[:], addr); err != nil {
		return "", 0, false
	}
	name, err := q.r.Name(binary.LittleEndian.Uint32(b[4:]), maxName)
	return name, uint64(binary.LittleEndian.Uint32(b[8:])), err == nil && name != ""
}
