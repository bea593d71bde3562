// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/fleetprof/fleetprof/internal/gopclntab"
	"github.com/fleetprof/fleetprof/internal/objfile"
)

const (
	// maxNamed bounds how many functions are kept by name; net/http and gRPC
	// have some 150 of those that are wanted.
	maxNamed = 1 << 10
	// longestName is how much of a name is looked at, in bytes.
	longestName = 256
	// maxSteps bounds the walk of one function's table of stack depths.
	maxSteps = 1 << 16
	// wholeBuffer is how much is read at a time of what is read as a whole,
	// valuesBuffer of one function's table, in bytes.
	wholeBuffer  = 64 << 10
	valuesBuffer = 256
)

// functions reads .gopclntab by name: where functions are and how deep their
// stack is at a position.
type functions struct {
	*gopclntab.Table
	file *objfile.File
}

// function is one function of a program.
type function struct {
	name string
	// start and end are addresses as linked.
	start, end uint64
	// depths is its table of stack depths.
	depths uint32
}

func openFunctions(f *objfile.File) (*functions, error) {
	t, err := gopclntab.Open(f)
	if errors.Is(err, gopclntab.ErrNoTable) || errors.Is(err, gopclntab.ErrUnsupported) {
		return nil, ErrNotGo
	}
	if err != nil {
		return nil, damaged(err)
	}
	if t.Version != gopclntab.Go120 {
		return nil, ErrNotGo
	}
	if err := t.FindModule(); err != nil {
		return nil, damaged(err)
	}
	return &functions{t, f}, nil
}

// damaged makes what says that the table is wrong an ErrDamaged.
func damaged(err error) error {
	for _, kind := range [...]error{gopclntab.ErrDamaged, gopclntab.ErrUnsupported, io.ErrUnexpectedEOF} {
		if errors.Is(err, kind) {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return err
}

// named lists the functions whose names are wanted, ordered by address.
func (t *functions) named(wanted func(name []byte) bool) ([]function, error) {
	names, err := t.wantedNames(wanted)
	if err != nil || len(names) == 0 {
		return nil, damaged(err)
	}
	table, records := t.Reader(wholeBuffer), t.Reader(wholeBuffer)
	const atOnce = 64
	var found []function
	for i := uint64(0); i < t.Count; i += atOnce {
		var entries [atOnce + 1]gopclntab.Entry
		n, err := table.Entries(entries[:], i)
		if err != nil {
			return nil, damaged(err)
		}
		for j, e := range entries[:n-1] {
			r, err := records.Record(e)
			if err != nil {
				return nil, damaged(err)
			}
			name, ok := names[r.Name]
			if !ok {
				continue
			}
			end := entries[j+1].Start
			if end < e.Start || len(found) == maxNamed {
				return nil, ErrDamaged
			}
			found = append(found, function{name: name, start: e.Start, end: end, depths: r.Depths})
		}
	}
	return found, nil
}

// wantedNames finds the wanted names in the table of names.
func (t *functions) wantedNames(wanted func(name []byte) bool) (map[uint32]string, error) {
	found := map[uint32]string{}
	err := t.Reader(wholeBuffer).EachName(longestName, func(name uint32, text []byte) error {
		if !wanted(text) {
			return nil
		}
		if len(found) == maxNamed {
			return ErrDamaged
		}
		found[name] = strings.TrimSuffix(string(text), ".abi0")
		return nil
	})
	return found, err
}

// depth is how far SP is below where it was at the entry of a function, in bytes.
func (t *functions) depth(f *function, pc uint64) (int64, error) {
	v := t.Reader(valuesBuffer).Values(f.depths)
	for range maxSteps {
		more, err := v.Next()
		if err != nil {
			return 0, damaged(err)
		}
		if !more {
			break
		}
		if pc < f.start+v.End {
			if v.Value < 0 || v.Value > 1<<20 || v.Value%8 != 0 {
				return 0, ErrDamaged
			}
			return int64(v.Value), nil
		}
	}
	return 0, ErrDamaged
}

// code reads the first n bytes of a function, or all of it.
func (t *functions) code(f *function, n uint64) ([]byte, error) {
	b := make([]byte, min(n, f.end-f.start))
	if err := t.file.ReadAddress(b, f.start); err != nil {
		return nil, fmt.Errorf("read code of %s: %w", f.name, err)
	}
	return b, nil
}
