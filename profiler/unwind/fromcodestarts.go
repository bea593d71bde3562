// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// maxData bounds how much data is searched for addresses of functions, in bytes.
const maxData = 64 << 20

// starts finds where functions begin, as far as the file tells: where it is entered
// and by its symbols, which is certain, and where its data point to, which may be
// the middle of a function.
func (c *fromCode) starts(f *objfile.File) error {
	if f.Entry != 0 {
		c.outer(c.found(f.Entry, true))
	}
	for _, kind := range []elf.SectionType{elf.SHT_SYMTAB, elf.SHT_DYNSYM} {
		if err := c.symbols(f, kind); err != nil {
			return fmt.Errorf("find functions: %w", err)
		}
	}
	for r, err := range f.Relatives() {
		if err != nil {
			return fmt.Errorf("find functions: %w", err)
		}
		c.found(r.Target, false)
	}
	return c.scanData(f)
}

// symbols takes the functions of a symbol table. Compilers split rarely used parts
// off functions and give them names with ".cold"; those are jumped to.
func (c *fromCode) symbols(f *objfile.File, kind elf.SectionType) error {
	table, names, ok := f.SymbolTable(kind)
	if !ok {
		return nil
	}
	for s, err := range f.Symbols(table) {
		if err != nil {
			return err
		}
		if t := s.Type(); t != elf.STT_FUNC && t != elf.STT_GNU_IFUNC || c.gap(s.Value) == nil {
			continue
		}
		name, err := symbolName(f, names, s.Name)
		if err != nil {
			return err
		}
		if !strings.Contains(name, ".cold") {
			if f := c.found(s.Value, true); f != nil {
				f.never = slices.Contains(neverReturning, name)
				if c.link && name == startMain {
					c.main = f
				}
			}
		}
	}
	return nil
}

// scanData looks for addresses in data: where the code's place is fixed, or
// relocations are packed.
func (c *fromCode) scanData(f *objfile.File) error {
	chunk := make([]byte, 32<<10)
	left := uint64(maxData)
	for _, s := range f.Segments {
		if s.Flags&elf.PF_X != 0 || s.FileSize > left {
			continue
		}
		left -= s.FileSize
		skip := -s.Address & 7
		for off := skip; off < s.FileSize; off += uint64(len(chunk)) {
			b := chunk[:min(uint64(len(chunk)), s.FileSize-off)]
			if err := f.ReadAddress(b, s.Address+off); err != nil {
				if err == io.ErrUnexpectedEOF {
					return err
				}
				break
			}
			for ; len(b) >= 8; b = b[8:] {
				c.found(binary.LittleEndian.Uint64(b), false)
			}
		}
	}
	return nil
}

// startMain is where musl's _start goes in the C library. On arm64 it jumps there, and
// leaves a return address of 0 (musl 1.2.3, arch/aarch64/crt_arch.h, crt/crt1.c).
const startMain = "__libc_start_main"

// neverReturning are functions that do not return.
var neverReturning = []string{
	"_Exit", "_Unwind_Resume", "_ZSt9terminatev", "__assert", "__assert_fail", "__chk_fail", "__cxa_bad_cast",
	"__cxa_rethrow", "__cxa_throw", "__cxa_throw_bad_array_new_length", "__fortify_fail", "__longjmp_chk",
	"__stack_chk_fail", "_exit", "_longjmp", "abort", "err", "errx", "exit", "longjmp", "pthread_exit",
	"quick_exit", "siglongjmp", "thrd_exit", "verr", "verrx",
}

func symbolName(f *objfile.File, names objfile.Section, at uint32) (string, error) {
	var b [256]byte
	n, err := f.Reader(names).ReadAt(b[:], int64(at))
	name, _, _ := bytes.Cut(b[:n], []byte{0})
	return string(name), ignoreEOF(err)
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// importsFunctions tells whether a file calls functions of others. Which of those never
// return is not to be known, and what stands behind a call of one may have any stack.
func importsFunctions(f *objfile.File) bool {
	table, _, ok := f.SymbolTable(elf.SHT_DYNSYM)
	if !ok {
		return false
	}
	for s, err := range f.Symbols(table) {
		if err != nil {
			return true
		}
		if s.Section == elf.SHN_UNDEF && elf.ST_BIND(s.Info) != elf.STB_WEAK {
			return true
		}
	}
	return false
}
