// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// Offsets in runtime.moduledata in bytes, the same since Go 1.16. It starts with
// the address of the table.
const (
	moduleMinPC = 160
	moduleMaxPC = 168
	moduleText  = 176
	moduleBytes = 184
)

const (
	// maxModuleScan bounds how much data is searched, in bytes.
	maxModuleScan = 64 << 20
	// maxModules bounds how many finds are looked at.
	maxModules = 4
)

// goText finds the address that functions count from, which the table's header
// does not hold in position-independent programs and since Go 1.26: in the
// moduledata that begins with the table's address and agrees with its first and
// last function. It returns 0 if there is none.
func goText(f *objfile.File, table, first, last uint64) (uint64, error) {
	found, err := findModules(f, table)
	if err != nil {
		return 0, fmt.Errorf("find moduledata: %w", err)
	}
	for _, addr := range found {
		var b [moduleBytes]byte
		if f.ReadAddress(b[:], addr) != nil {
			continue
		}
		if err := relocate(f, b[:], addr); err != nil {
			return 0, fmt.Errorf("relocate moduledata: %w", err)
		}
		word := func(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
		text := word(moduleText)
		if text+first == word(moduleMinPC) && text+last == word(moduleMaxPC) && f.Executable(text+first) {
			return text, nil
		}
	}
	return 0, nil
}

// findModules returns the addresses that hold the table's address: where a
// relocation will put it, or in the sections that moduledata is in.
func findModules(f *objfile.File, table uint64) (found []uint64, err error) {
	if f.Type == elf.ET_DYN {
		for r, err := range f.Relatives() {
			if err != nil {
				return nil, err
			}
			if r.Target == table && len(found) < maxModules {
				found = append(found, r.Address)
			}
		}
	}
	for _, name := range [...]string{".go.module", ".noptrdata"} {
		if s, ok := f.Section(name); ok && s.Size <= maxModuleScan {
			if found, err = scanWords(f.Reader(s), s.Address, table, found); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// scanWords appends the addresses of words that equal want.
func scanWords(r io.Reader, addr, want uint64, found []uint64) ([]uint64, error) {
	word := binary.LittleEndian.AppendUint64(nil, want)
	chunk := make([]byte, 32<<10)
	for {
		n, err := io.ReadFull(r, chunk)
		for i := 0; i+8 <= n && len(found) < 2*maxModules; i += 8 {
			if bytes.Equal(chunk[i:i+8], word) {
				found = append(found, addr+uint64(i))
			}
		}
		addr += uint64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// relocate applies the relative relocations of the words in b, read at addr.
func relocate(f *objfile.File, b []byte, addr uint64) error {
	if f.Type != elf.ET_DYN {
		return nil
	}
	for r, err := range f.Relatives() {
		if err != nil {
			return err
		}
		if off := r.Address - addr; off <= uint64(len(b)-8) {
			binary.LittleEndian.PutUint64(b[off:], r.Target)
		}
	}
	return nil
}
