// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"encoding/binary"
)

// goSaves is what the code of a function of Go's runtime tells of what it saves for
// calls to C and from C. No table has that, and it differs by Go version.
type goSaves struct {
	known bool
	// from is where all is saved, depth the stack depth up to there.
	from  uint64
	depth int64
	// fp and ra are where a function that savesForC saves those registers, in bytes
	// from SP before it does. ra is for arm64.
	fp, ra int64
	// goroutine is where a function that callsC leaves the goroutine and the depth of
	// SP on its stack, side by side, in bytes from SP.
	goroutine int64
}

// maxGoSaves bounds how much of a function's code is read, in bytes.
const maxGoSaves = 256

// savesOf reads the code of a function.
func (g *goTable) savesOf(s special, in extent) goSaves {
	code := make([]byte, min(in.end-in.start, maxGoSaves))
	if g.file.ReadAddress(code, in.start) != nil {
		return goSaves{}
	}
	var saves goSaves
	switch {
	case s == callsC && g.link:
		saves = goroutineSavedARM64(code)
	case s == callsC:
		saves = goroutineSavedAMD64(code)
	case g.link:
		saves = registersSavedARM64(code)
	default:
		saves = registersSavedAMD64(code)
	}
	saves.from += in.start
	return saves
}

// goroutineSavedAMD64 looks for what saves the goroutine in runtime.asmcgocall. The
// depth lies below it.
func goroutineSavedAMD64(code []byte) goSaves {
	_, offset, ok := findStore(code, 0x7c) // MOVQ DI, offset(SP)
	return goSaves{known: ok && offset >= 8 && offset%8 == 0, goroutine: offset - 8}
}

// registersSavedAMD64 looks for what saves the frame pointer in crosscall2. Since Go
// 1.21 the assembler has it pushed first, as everywhere.
func registersSavedAMD64(code []byte) goSaves {
	const push = 0x55 // PUSHQ BP
	if len(code) > 0 && code[0] == push {
		return goSaves{known: true, from: 1, fp: -8}
	}
	end, offset, ok := findStore(code, 0x6c) // MOVQ BP, offset(SP)
	return goSaves{known: ok && offset%8 == 0, from: uint64(end), fp: offset}
}

// findStore finds the first instruction that stores a register in the 128 bytes above
// SP, and its end.
func findStore(code []byte, modRM byte) (end int, offset int64, ok bool) {
	instruction := []byte{0x48, 0x89, modRM, 0x24} // with an offset of 8 bits
	i := bytes.Index(code, instruction)
	if i < 0 || i+5 > len(code) || code[i+4] >= 0x80 {
		return 0, 0, false
	}
	return i + 5, int64(code[i+4]), true
}

// Instructions of arm64 with offsets from SP cut out, and where those are. Offsets
// are in units of 8 bytes.
const (
	storePair     = 0xa9007bfd // STP (R29, R30), offset(RSP)
	storePairMask = 0xffe07fff
	storeFP       = 0xf90003fd // MOVD R29, offset(RSP)
	storeRA       = 0xf90003fe // MOVD R30, offset(RSP)
	storeMask     = 0xffc003ff
	storeR4       = 0xf90003e4 // MOVD R4, 0(RSP)
)

// goroutineSavedARM64 makes sure of the only layout there has been.
func goroutineSavedARM64(code []byte) goSaves {
	for i := 0; i+4 <= len(code); i += 4 {
		if binary.LittleEndian.Uint32(code[i:]) == storeR4 {
			return goSaves{known: true}
		}
	}
	return goSaves{}
}

// registersSavedARM64 looks for what saves the frame pointer and the link register
// in crosscall2: one instruction, or two before Go 1.20.
func registersSavedARM64(code []byte) (s goSaves) {
	for i := 0; i+4 <= len(code) && !s.known; i += 4 {
		word := binary.LittleEndian.Uint32(code[i:])
		switch {
		case word&storePairMask == storePair:
			s.fp = 8 * int64(word>>15&0x3f)
			s.ra = s.fp + 8
			s.known = true
		case word&storeMask == storeFP:
			s.fp = 8 * int64(word>>10&0xfff)
		case word&storeMask == storeRA:
			s.ra = 8 * int64(word>>10&0xfff)
			s.known = s.fp == s.ra-8
		}
		s.from = uint64(i) + 4
	}
	return s
}
