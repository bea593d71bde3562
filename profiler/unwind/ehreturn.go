// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"slices"

	"golang.org/x/arch/x86/x86asm"
)

const (
	rcx = 2 // by its DWARF number
	// maxHeldRows bounds the rows that are held back; real functions have some 20.
	maxHeldRows = 1 << 10
	// maxEHReturn bounds such a function up to where it leaves, in bytes; real ones have
	// some 1,000.
	maxEHReturn = 64 << 10
)

// ehReturn corrects the rows of functions on amd64 that end in another frame than their
// caller's (GCC's __builtin_eh_return): the functions of libgcc that raise and resume
// exceptions. They overwrite the registers saved in their own frame, return address
// included, with those of the frame that has the landing pad, load them, and set SP:
//
//	call uw_install_context_1
//	…
//	call _Unwind_DebugHook
//	…
//	mov  %rsi, 8(%rbp,%rdx)     the landing pad's address, on the stack of its frame
//	lea  8(%rbp,%rcx), %rcx     where that is
//	mov  -0x38(%rbp), %rax      and other registers, %rbp last
//	mov  %rcx, %rsp             from here on the rows are right
//
// All the while their rows call what is in the frame their caller's registers. From the
// first of the two calls to the lea that cannot be mended: where the next frame is, no
// rule tells. Behind the lea, rcx does.
//
// Such functions save rax, in which a landing pad gets the exception, and no others do.
type ehReturn struct {
	*program
	// code reads the file at an address.
	code  func(b []byte, addr uint64) error
	start uint64
	emit  func(addr uint64, r Rule) error
	held  []heldRow
}

type heldRow struct {
	addr uint64
	Rule
}

// add takes a row: those since rax was saved are held back.
func (e *ehReturn) add(addr uint64, r Rule) error {
	if !e.savesResult {
		return e.emit(addr, r)
	}
	if len(e.held) == maxHeldRows {
		return errDamaged
	}
	e.held = append(e.held, heldRow{addr, r})
	return nil
}

// finish emits the rows that were held back.
func (e *ehReturn) finish() error {
	leaves := slices.IndexFunc(e.held, func(r heldRow) bool { return r.Kind == Offset && r.Base == Other+rcx })
	if leaves < 0 {
		return e.release(e.held)
	}
	end := e.held[leaves].addr
	overwritten, loading := e.places(end)
	for _, r := range e.held[:leaves] {
		if r.addr < overwritten {
			if err := e.emit(r.addr, r.Rule); err != nil {
				return err
			}
		}
	}
	if err := e.emit(overwritten, Rule{Kind: Unsupported}); err != nil {
		return err
	}
	if loading < end {
		r := Rule{Kind: Offset, Base: Other + rcx, CFA: 8, RA: AtCFA, RAOffset: -1, FP: AtFP, BX: Lost}
		if err := e.emit(loading, r); err != nil {
			return err
		}
	}
	return e.release(e.held[leaves:])
}

func (e *ehReturn) release(rows []heldRow) error {
	for _, r := range rows {
		if err := e.emit(r.addr, r.Rule); err != nil {
			return err
		}
	}
	return nil
}

// places returns where the frame begins to be overwritten and where rcx is set, in code
// that sets SP at end. If the code is not as expected, that is where rax was saved, and
// end.
func (e *ehReturn) places(end uint64) (overwritten, loading uint64) {
	overwritten, loading = e.held[0].addr, end
	if end <= e.start || end-e.start > maxEHReturn {
		return overwritten, loading
	}
	code := make([]byte, end-e.start)
	if e.code(code, e.start) != nil {
		return overwritten, loading
	}
	calls, last := lastCalls(code)
	if calls < 2 {
		return overwritten, loading
	}
	return max(overwritten, e.start+last[0]), e.start + loadsBehind(code)
}

// lastCalls finds the last two calls in code, by offset. calls is 0 if there are
// bytes that are no instruction.
func lastCalls(code []byte) (calls int, last [2]uint64) {
	for at := 0; at < len(code); {
		size, call := decodeCall(code[at:])
		if size == 0 {
			return 0, last
		}
		if call {
			calls++
			last = [2]uint64{last[1], uint64(at)}
		}
		at += size
	}
	return calls, last
}

// decodeCall tells how long an instruction is and whether it is a call. The
// decoder does not know those of shadow stacks (rdsspq, incsspq) and endbr64.
func decodeCall(code []byte) (size int, call bool) {
	switch {
	case len(code) >= 4 && code[0] == 0xf3 && code[1] == 0x0f && code[2] == 0x1e:
		return 4, false
	case len(code) >= 5 && code[0] == 0xf3 && code[1]&0xf8 == 0x48 && code[2] == 0x0f && (code[3] == 0x1e || code[3] == 0xae) && code[4] >= 0xc0:
		return 5, false
	}
	i, err := x86asm.Decode(code, 64)
	if err != nil {
		return 0, false
	}
	return i.Len, i.Op == x86asm.CALL
}

// loadsBehind returns the offset behind a lea 8(%rbp,%rcx), %rcx that only loads from
// the frame follow, or the length of the code.
func loadsBehind(code []byte) uint64 {
	const load = 4 // mov disp8(%rbp), register
	lea := []byte{0x48, 0x8d, 0x4c, 0x0d, 0x08}
	at := len(code)
	for at >= load && code[at-4]&0xfb == 0x48 && code[at-3] == 0x8b && code[at-2]&0xc7 == 0x45 {
		at -= load
	}
	if at < len(lea) || !slices.Equal(code[at-len(lea):at], lea) {
		return uint64(len(code))
	}
	return uint64(at)
}
