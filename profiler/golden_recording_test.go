// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"cmp"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/profiler/unwind"
	"github.com/fleetprof/fleetprof/sample"
)

// goldenCase is one recorded stack: a directory of testdata/golden and an
// architecture.
type goldenCase struct {
	dir     string // with program, recording and frames
	machine elf.Machine
	// bias is what to add to addresses as linked.
	bias uint64
	// anonymous are the pages of code without a file.
	anonymous []uint64
	registers unwind.Registers
	memory    goldenMemory
	// truth is the stack that the program knows of, up to the limit, and stop why
	// the walk of it ends.
	truth   []uint64
	stop    string
	program *elf.File
	symbols []elf.Symbol
}

// goldenMachines are the architectures by the names of their directories.
var goldenMachines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// goldenRegisters are the names of registers by DWARF numbers.
func goldenRegisters(machine elf.Machine) (names []string) {
	if machine == elf.EM_X86_64 {
		names = strings.Fields("rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15")
		return names
	}
	for i := range 31 {
		names = append(names, fmt.Sprint("x", i))
	}
	return append(names, "sp")
}

// readRecording reads testdata/golden/name/arch.
func readRecording(t testing.TB, name, arch string) *goldenCase {
	t.Helper()
	c := &goldenCase{
		dir: filepath.Join("testdata/golden", name, arch), machine: goldenMachines[arch],
		memory: make(goldenMemory),
	}
	for line := range strings.Lines(string(c.file(t, "recording"))) {
		if err := c.line(strings.TrimSpace(line)); err != nil {
			t.Fatalf("%s: %s: %v", c.dir, line, err)
		}
	}
	c.truth = c.truth[:min(len(c.truth), bpf.MaxUserFrames)]
	var err error
	if c.program, err = elf.NewFile(bytes.NewReader(c.file(t, "program"))); err != nil {
		t.Fatal(err)
	}
	if c.symbols, err = c.program.Symbols(); err != nil {
		t.Fatal(err)
	}
	return c
}

// file reads a file of the case.
func (c *goldenCase) file(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// line takes one line of a recording: a name and numbers, see testdata/golden/README.md.
func (c *goldenCase) line(line string) error {
	name, rest, _ := strings.Cut(line, " ")
	if name == "stop" {
		c.stop = rest
		return nil
	}
	var values []uint64
	for _, field := range strings.Fields(rest) {
		value, err := strconv.ParseUint(field, 0, 64)
		if err != nil {
			return err
		}
		values = append(values, value)
	}
	if len(values) == 0 {
		return strconv.ErrSyntax
	}
	switch name {
	case "bias":
		c.bias = values[0]
	case "anonymous":
		c.anonymous = append(c.anonymous, values[0])
	case "frame":
		c.truth = append(c.truth, values[0])
	case "memory":
		for i, value := range values[1:] {
			c.memory.set(values[0]+uint64(8*i), value)
		}
	case "rip", "pc":
		c.registers.IP = values[0]
	default:
		number := slices.Index(goldenRegisters(c.machine), name)
		if number < 0 {
			return strconv.ErrSyntax
		}
		c.registers.R[number] = values[0]
	}
	return nil
}

// frames is the text of a stack: a line for each frame, and one for why there
// are no more. Frames that repeat share a line.
func (c *goldenCase) frames(addrs []uint64, stop string) string {
	var b strings.Builder
	for i := 0; i < len(addrs); {
		n := 1
		for i+n < len(addrs) && addrs[i+n] == addrs[i] {
			n++
		}
		b.WriteString(c.frame(addrs[i], i > 0))
		if n > 1 {
			fmt.Fprintf(&b, " × %d", n)
		}
		b.WriteString("\n")
		i += n
	}
	return b.String() + stop + "\n"
}

// frame names the function of an address. A return address belongs to the call
// in front of it, unless nothing there calls: what returns from a signal handler
// is returned to but has not called.
func (c *goldenCase) frame(addr uint64, returns bool) string {
	for _, page := range c.anonymous {
		if addr-page < goldenPageSize {
			return fmt.Sprintf("%#x", addr)
		}
	}
	linked := addr - c.bias
	at := linked
	if returns {
		at--
	}
	for _, at := range []uint64{at, linked} {
		for _, s := range c.symbols {
			if elf.ST_TYPE(s.Info) == elf.STT_FUNC && at-s.Value < s.Size {
				return fmt.Sprintf("%s+%#x (program)", s.Name, linked-s.Value)
			}
		}
	}
	return fmt.Sprintf("%#x (program)", linked)
}

// process makes the process of the case, in which no table is there yet.
func (c *goldenCase) process() (p *goldenProcess, program *sample.Object) {
	const mask = goldenPageSize - 1
	p = newGoldenProcess(c.machine, wordRange{0, 1 << 14})
	program = &sample.Object{Path: filepath.Join(c.dir, "program"), Inode: 1}
	for _, s := range c.program.Progs {
		if s.Type == elf.PT_LOAD && s.Flags&elf.PF_X != 0 {
			start, limit := c.bias+s.Vaddr&^mask, c.bias+(s.Vaddr+s.Filesz+mask)&^mask
			p.regions = append(p.regions, region{start, limit, s.Off &^ mask, program})
		}
	}
	for _, page := range c.anonymous {
		p.regions = append(p.regions, region{page, page + goldenPageSize, 0, &sample.Object{Kind: sample.Anonymous}})
	}
	slices.SortFunc(p.regions, func(a, b region) int { return cmp.Compare(a.start, b.start) })
	return p, program
}
