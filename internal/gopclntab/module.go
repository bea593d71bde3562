// SPDX-License-Identifier: Apache-2.0

package gopclntab

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// Offsets in runtime.moduledata, in bytes. The front part has been the same
// since Go 1.16; the place of gofunc since Go 1.20.
const (
	moduleMinPC  = 160
	moduleMaxPC  = 168
	moduleText   = 176
	moduleGofunc = 320
)

// ModuleBytes is how much of a runtime.moduledata is read.
const ModuleBytes = 328

const (
	// maxModuleScan bounds how much data is searched for a moduledata, in
	// bytes, and maxCandidates how many finds are looked at.
	maxModuleScan = 64 << 20
	maxCandidates = 4
)

// module is what is used of runtime.moduledata, as addresses as linked.
type module struct {
	address uint64
	// text is where function addresses count from (runtime.text).
	text uint64
	// inlineTrees is where inline trees count from (go:func.*), or 0. Before Go
	// 1.20 it means nothing.
	inlineTrees uint64
}

// findModule finds the moduledata that begins with the address of .gopclntab:
// in its own section since Go 1.26, in .noptrdata before. It must agree with
// the first and last address of the table, which count from the text start.
// The zero module means that there is none.
func findModule(f *objfile.File, table, first, last uint64) (module, error) {
	candidates, err := moduleCandidates(f, table)
	if err != nil {
		return module{}, fmt.Errorf("find moduledata: %w", err)
	}
	for _, addr := range candidates {
		b, err := readModule(f, addr)
		if err != nil {
			return module{}, fmt.Errorf("read moduledata: %w", err)
		}
		if b == nil {
			continue
		}
		word := func(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
		m := module{address: addr, text: word(moduleText), inlineTrees: word(moduleGofunc)}
		if word(0) == table && m.text+first == word(moduleMinPC) && m.text+last == word(moduleMaxPC) &&
			f.HasCode(m.text+first) {
			return m, nil
		}
	}
	return module{}, nil
}

// moduleCandidates lists the places that hold the address of the table, as
// bytes in the file or as the target of a relocation.
func moduleCandidates(f *objfile.File, table uint64) ([]uint64, error) {
	var found []uint64
	for _, name := range [...]string{".go.module", ".noptrdata"} {
		s, ok := f.Section(name)
		if !ok || s.Size > maxModuleScan {
			continue
		}
		at, err := scanPointers(f.Reader(s), table)
		if err != nil {
			return nil, fmt.Errorf("read section %s: %w", name, err)
		}
		for _, off := range at {
			found = append(found, s.Address+off)
		}
	}
	if f.Type == elf.ET_DYN {
		for r, err := range f.Relatives() {
			if err != nil {
				return nil, err
			}
			if r.Target == table && len(found) < 2*maxCandidates {
				found = append(found, r.Address)
			}
		}
	}
	return found[:min(len(found), maxCandidates)], nil
}

// scanPointers returns the 8-byte aligned offsets at which a pointer stands.
func scanPointers(r io.Reader, pointer uint64) (offsets []uint64, err error) {
	want := binary.LittleEndian.AppendUint64(nil, pointer)
	chunk := make([]byte, 32<<10)
	for base := uint64(0); ; {
		n, err := io.ReadFull(r, chunk)
		for i := 0; i+8 <= n; i += 8 {
			if bytes.Equal(chunk[i:i+8], want) && len(offsets) < maxCandidates {
				offsets = append(offsets, base+uint64(i))
			}
		}
		base += uint64(n)
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return offsets, nil
		default:
			return nil, err
		}
	}
}

// readModule reads a moduledata and applies relocations to it. It returns
// nil if the file has nothing at that address.
func readModule(f *objfile.File, addr uint64) ([]byte, error) {
	b := make([]byte, ModuleBytes)
	if f.ReadAddress(b, addr) != nil {
		return nil, nil
	}
	if f.Type != elf.ET_DYN {
		return b, nil
	}
	for r, err := range f.Relatives() {
		if err != nil {
			return nil, err
		}
		if off := r.Address - addr; off <= ModuleBytes-8 {
			binary.LittleEndian.PutUint64(b[off:], r.Target)
		}
	}
	return b, nil
}
