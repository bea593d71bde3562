// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"debug/elf"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// maxEntry bounds the code at a program's entry, in bytes: it calls a function of
// C as soon as it can.
const maxEntry = 64

// entryPoint is the source of a file whose entry point no other source describes: the
// dynamic linker's, and those of some C libraries. Nothing called it.
type entryPoint uint64

func openEntry(f *objfile.File) source {
	text, _ := f.Section(".text")
	if f.Entry == 0 || f.Type == elf.ET_DYN && f.Entry == text.Address {
		return nil // the linker's choice for libraries
	}
	return entryPoint(f.Entry)
}

func (e entryPoint) spans(add func(start, size, ref uint64) error) (damaged int, err error) {
	return 0, add(uint64(e), maxEntry, 0)
}

func (e entryPoint) rows(_ uint64, emit func(addr uint64, r Rule) error) error {
	return emit(uint64(e), Rule{Kind: End})
}
