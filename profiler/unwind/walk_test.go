// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"debug/elf"
	"slices"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// world is a process made by hand: a rule for each 256 bytes of code from
// 0x1000 on, and a stack of words from stackBase on.
type world struct {
	machine elf.Machine
	rules   []Rule
	stack   []uint64
}

const stackBase = 0x7000

func (w *world) walk(t *testing.T, start Registers, limit int) ([]uint64, sample.Stop) {
	t.Helper()
	end := 0x1000 + uint64(len(w.rules))*pageSize
	table := newTable(extent{0x1000, end})
	p := newPages(table)
	for i, r := range w.rules {
		if err := p.add(0x1000+uint64(i)*pageSize, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.finish(); err != nil {
		t.Fatal(err)
	}
	var stack []byte
	for _, word := range w.stack {
		stack = append(stack, u64(word)...)
	}
	const bias = 0x100000
	return Walk(&Process{
		Machine: w.machine,
		Table: func(addr uint64) (*Table, uint64, sample.Stop) {
			if addr < bias+0x1000 || addr >= bias+end {
				return nil, 0, sample.StopNone
			}
			return table, bias, sample.StopNone
		},
		Word: Memory{stackBase, stack}.Word,
	}, start, limit)
}

// place is an address in the i-th piece of code.
func place(i int) uint64 { return 0x101010 + uint64(i)*pageSize }

// TestWalkAMD64 walks hand-made stacks. What frames look like is tested on real
// programs; here it is why a walk ends.
func TestWalkAMD64(t *testing.T) {
	sp := func(cfa int32) Rule { return Rule{Kind: Offset, CFA: cfa, RA: AtCFA, RAOffset: -1} }
	byFP := Rule{Kind: Offset, Base: FP, CFA: 16, RA: AtCFA, RAOffset: -1, FP: AtCFA, FPOffset: -2}
	lost := sp(16)
	lost.FP = Lost
	const s = stackBase
	for name, c := range map[string]struct {
		rules []Rule
		stack []uint64
		fp    uint64
		limit int
		want  []uint64
		stop  sample.Stop
	}{
		"end":                   {[]Rule{sp(8), {Kind: End}}, []uint64{place(1)}, 0, 9, []uint64{place(1)}, sample.StopEnd},
		"no caller":             {[]Rule{sp(8)}, []uint64{0}, 0, 9, nil, sample.StopCode},
		"frame pointers":        {[]Rule{{}, {}, {}}, []uint64{9, s + 24, place(1), 0, place(2)}, s + 8, 9, []uint64{place(1), place(2)}, sample.StopFramePointer},
		"end of what is copied": {[]Rule{sp(8), sp(64)}, []uint64{place(1)}, 0, 9, []uint64{place(1)}, sample.StopFault},
		"depth":                 {[]Rule{sp(8)}, slices.Repeat([]uint64{place(0)}, 20), 0, 4, []uint64{place(0), place(0), place(0)}, sample.StopDepth},
		"unsupported":           {[]Rule{sp(8), {Kind: Unsupported}}, []uint64{place(1)}, 0, 9, []uint64{place(1)}, sample.StopUnsupported},
		"unknown kind":          {[]Rule{{Kind: 99}}, nil, 0, 9, nil, sample.StopUnsupported},
		"frame pointer too low": {[]Rule{sp(24), {}}, []uint64{1, 2, place(1)}, s, 9, []uint64{place(1)}, sample.StopFramePointer},
		"unaligned":             {[]Rule{{}}, []uint64{1, 2, 3}, s + 4, 9, nil, sample.StopFramePointer},
		"no frame pointer":      {[]Rule{{}}, []uint64{1, 2, 3}, 0, 9, nil, sample.StopFramePointer},
		"frame pointer lost":    {[]Rule{lost, byFP}, []uint64{s + 24, place(1), 1, 2, 3, 4}, s + 24, 9, []uint64{place(1)}, sample.StopRegister},
		"lost where none is":    {[]Rule{lost, {}}, []uint64{s + 24, place(1), 1, 2, 3, 4}, s + 24, 9, []uint64{place(1)}, sample.StopFramePointer},
		"chain ends in itself":  {[]Rule{{}, {}}, []uint64{s, place(1)}, s, 9, []uint64{place(1)}, sample.StopFramePointer},
		"does not lead up":      {[]Rule{sp(0)}, []uint64{place(0)}, 0, 9, nil, sample.StopStuck},
		"leads down":            {[]Rule{sp(16), byFP}, []uint64{0, place(1), 0}, s, 9, []uint64{place(1)}, sample.StopStuck},
		"other register": {[]Rule{{Kind: Offset, Base: Other + 10, CFA: 8, RA: AtCFA, RAOffset: -1}, {Kind: End}},
			[]uint64{0, 0, place(1)}, 0, 9, []uint64{place(1)}, sample.StopEnd},
		"other register further out": {[]Rule{sp(8), {Kind: Offset, Base: Other + 10, CFA: 8, RA: AtCFA, RAOffset: -1}},
			[]uint64{place(1), 0, place(1)}, 0, 9, []uint64{place(1)}, sample.StopRegister},
		"wild pointer": {[]Rule{{Kind: Deref, CFA: 8, RA: AtCFA, RAOffset: -1}}, []uint64{0, ^uint64(0)}, 0, 9, nil, sample.StopFault},
		"other stack": {[]Rule{{Kind: Switch, Base: FP, CFA: 16, RA: AtCFA, RAOffset: -1, FP: AtCFA, FPOffset: -2}, {Kind: End}},
			[]uint64{0, place(1)}, s, 9, []uint64{place(1)}, sample.StopEnd},
	} {
		start := Registers{IP: place(0)}
		start.R[7], start.R[6], start.R[10] = s, c.fp, s+16
		if name == "other stack" {
			start.R[7] = s + 0x10000
		}
		w := world{elf.EM_X86_64, c.rules, c.stack}
		got, stop := w.walk(t, start, c.limit)
		if want := append([]uint64{place(0)}, c.want...); !slices.Equal(got, want) || stop != c.stop {
			t.Errorf("%s: %x, %v; want %x, %v", name, got, stop, want, c.stop)
		}
	}
}

// TestWalkARM64 has leaf functions, signed return addresses and a signal.
func TestWalkARM64(t *testing.T) {
	leaf := Rule{Kind: Offset}
	frame := Rule{Kind: Offset, CFA: 32, RA: AtCFA, RAOffset: -3, FP: AtCFA, FPOffset: -4}
	signed := frame
	signed.RA |= Signed
	const s, pac = stackBase, 0x00a5 << 48
	signalFrame := make([]uint64, 80)
	signalFrame[544/8], signalFrame[552/8] = s+0x300, place(1) // x29, x30
	signalFrame[560/8], signalFrame[568/8] = s+0x280, place(0) // sp, pc
	interrupted := make([]uint64, 100)
	copy(interrupted, signalFrame)
	interrupted[0x280/8+1] = place(2)
	for name, c := range map[string]struct {
		rules  []Rule
		stack  []uint64
		fp, lr uint64
		want   []uint64
		stop   sample.Stop
	}{
		"leaf":           {[]Rule{leaf, frame, {Kind: End}}, []uint64{0, place(2), 0, 0}, 0, place(1), []uint64{place(1), place(2)}, sample.StopEnd},
		"signed":         {[]Rule{signed, {Kind: End}}, []uint64{0, pac | place(1), 0, 0}, 0, 0, []uint64{place(1)}, sample.StopEnd},
		"leaf elsewhere": {[]Rule{frame, leaf}, []uint64{0, place(1), 0, 0}, 0, place(1), []uint64{place(1)}, sample.StopRegister},
		// The frame pointer does not tell SP: the second frame goes by it as well.
		"frame pointers": {[]Rule{{}, frame, {Kind: End}}, []uint64{0, s + 32, place(1), 0, 0, pac | place(2)}, s + 8, 0, []uint64{place(1), place(2)}, sample.StopEnd},
		"signal": {[]Rule{leaf, frame, {Kind: End}, {Kind: Signal}}, interrupted, 0, place(3),
			[]uint64{place(3), place(0) + 1, place(1), place(2)}, sample.StopEnd},
	} {
		start := Registers{IP: place(0)}
		start.R[31], start.R[29], start.R[30] = s, c.fp, c.lr
		w := world{elf.EM_AARCH64, c.rules, c.stack}
		got, stop := w.walk(t, start, 9)
		if want := append([]uint64{place(0)}, c.want...); !slices.Equal(got, want) || stop != c.stop {
			t.Errorf("%s: %x, %v; want %x, %v", name, got, stop, want, c.stop)
		}
	}
}

func TestWalkOtherMachine(t *testing.T) {
	if got, stop := Walk(&Process{Machine: elf.EM_RISCV}, Registers{}, 9); got != nil || stop != sample.StopUnsupported {
		t.Errorf("%x, %v", got, stop)
	}
}

func TestMemory(t *testing.T) {
	m := Memory{0x1000, []byte{1, 0, 0, 0, 0, 0, 0, 0, 2}}
	for addr, want := range map[uint64]bool{0x1000: true, 0x1001: true, 0x1002: false, 0xfff: false, 0: false, ^uint64(0): false} {
		if _, ok := m.Word(addr); ok != want {
			t.Errorf("word at %#x: %v", addr, ok)
		}
	}
	if v, _ := m.Word(0x1001); v != 2<<56 {
		t.Errorf("word is %#x", v)
	}
}
