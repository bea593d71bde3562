// SPDX-License-Identifier: Apache-2.0

// Package unwind turns the unwind information of one ELF file into a compact
// table, and walks stacks with it. It is pure: it reads the file it is handed
// and the memory a caller shows it, nothing else.
//
// # Words
//
// The canonical frame address (CFA) of a frame is the value of the stack
// pointer in its caller, right after the call returned. A Rule says how to get
// from a frame to its caller: the CFA, the return address, and the registers
// that outer frames are found with. A row is an address and the Rule that holds
// from there up to the next row. A span is the code of one function as one
// source describes it.
//
// # Sources
//
// Four, by rank; where two describe the same code the first one is believed:
//
//  1. .gopclntab, for everything that Go's compiler and assembler made. Go
//     keeps frame pointers, but they are not enough: a sample in a prologue, in
//     a frameless leaf or in assembly would lose its caller, and those are
//     common. The table of stack depths (pcsp) that the runtime itself unwinds
//     with is exact at every instruction, so all Go code is covered with it.
//     Frame pointers are used only where code leaves that scheme (functions that
//     write SP) and where it changes stacks (systemstack). Between Go and C
//     (asmcgocall, cgocallback) it is what the runtime writes down that counts.
//  2. .eh_frame, found by its section or through PT_GNU_EH_FRAME.
//  3. .debug_frame, for functions that have nothing else.
//  4. The instructions themselves, for what is left if that is more than 1 KiB:
//     C libraries without unwind information, such as musl, and hand-written
//     assembly. See fromcode.go. Of other files the entry point only: what
//     starts there was called by nobody.
//
// Code that no source describes has rows as well, of kind None: a walk goes on
// there by the frame pointer.
//
// # What bites
//
// What this package cannot express is a row of kind Unsupported, at which a
// walk stops and says so. It is never approximated.
//
// The files belong to programs being profiled and may have been made to hurt
// their reader. Sizes and counts are checked before memory is allocated or a
// loop is entered; rows never take more memory than the code they describe, rules
// never more than 1 MiB, and work is linear in the size of the file.
//
// Sources: DWARF 5 section 6.4; Linux Standard Base Core 5.0, chapter 10.6
// (.eh_frame); System V psABI for AMD64, figure 3.36 (register numbers); DWARF
// for the Arm 64-bit Architecture; cmd/link/internal/ld/pcln.go and
// runtime/traceback.go of Go 1.26.
package unwind
