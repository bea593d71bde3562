// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
	"github.com/fleetprof/fleetprof/sample"
)

// tracee is a process under ptrace. It may only be used by the locked thread
// that started it.
type tracee struct {
	t      *testing.T
	pid    int
	memory *os.File
	maps   []mapped
	tables map[string]*Table
	files  map[string]*objfile.File
}

// mapped is an executable mapping.
type mapped struct {
	start, limit, offset uint64
	path                 string
}

// trace starts a program, stopped at its first instruction.
func trace(t *testing.T, command *exec.Cmd) *tracee {
	t.Helper()
	stayOnOneCPU(t)
	command.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := command.Start(); err != nil {
		t.Skipf("this machine does not let us trace: %v", err)
	}
	p := &tracee{t: t, pid: command.Process.Pid, tables: make(map[string]*Table), files: make(map[string]*objfile.File)}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
	if status := p.wait(); !status.Stopped() {
		t.Fatalf("program is not stopped: %v", status)
	}
	p.openMemory()
	return p
}

// stayOnOneCPU keeps the rest of the test, and what it starts, on one thread, as ptrace(2)
// demands, and that on one CPU: to wake another one at each step takes three times as long.
func stayOnOneCPU(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	cpu := 0
	for !before.IsSet(cpu) {
		cpu++
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			t.Error(err)
		}
	})
}

func (p *tracee) openMemory() {
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", p.pid))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { memory.Close() })
	p.memory = memory
}

func (p *tracee) wait() syscall.WaitStatus {
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(p.pid, &status, 0, nil); err != nil {
		p.t.Fatalf("wait: %v", err)
	}
	return status
}

// step executes one instruction, or delivers a signal. It reports false when the
// program has ended.
func (p *tracee) step(signal syscall.Signal) (next syscall.Signal, ok bool) {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, syscall.PTRACE_SINGLESTEP, uintptr(p.pid), 0, uintptr(signal), 0, 0)
	if errno != 0 {
		p.t.Fatalf("single-step: %v", errno)
	}
	status := p.wait()
	if status.Exited() || status.Signaled() {
		return 0, false
	}
	if s := status.StopSignal(); s != syscall.SIGTRAP {
		return s, true
	}
	return 0, true
}

func (p *tracee) registers() Registers {
	var r syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(p.pid, &r); err != nil {
		p.t.Fatalf("read registers: %v", err)
	}
	return Registers{IP: r.Rip, R: [32]uint64{
		r.Rax, r.Rdx, r.Rcx, r.Rbx, r.Rsi, r.Rdi, r.Rbp, r.Rsp, r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15,
	}}
}

func (p *tracee) word(addr uint64) (uint64, bool) {
	var b [8]byte
	if _, err := p.memory.ReadAt(b[:], int64(addr)); err != nil {
		return 0, false
	}
	return Memory{Start: addr, Bytes: b[:]}.Word(addr)
}

func (p *tracee) find(addr uint64) *mapped {
	for i := range p.maps {
		if m := &p.maps[i]; addr >= m.start && addr < m.limit {
			return m
		}
	}
	return nil
}

// mapping finds the executable mapping of an address; the list is read anew when
// it is not there.
func (p *tracee) mapping(addr uint64) *mapped {
	if m := p.find(addr); m != nil {
		return m
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.pid))
	if err != nil {
		p.t.Fatal(err)
	}
	p.maps = nil
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[1][2] != 'x' {
			continue
		}
		start, limit, _ := strings.Cut(f[0], "-")
		p.maps = append(p.maps, mapped{parseHex(p.t, start), parseHex(p.t, limit), parseHex(p.t, f[2]), f[5]})
	}
	return p.find(addr)
}

// table is Process.Table.
func (p *tracee) table(addr uint64) (*Table, uint64, sample.Stop) {
	m := p.mapping(addr)
	if m == nil || m.path == "[vsyscall]" {
		return nil, 0, sample.StopCode
	}
	f := p.files[m.path]
	if f == nil {
		if m.path == "[vdso]" {
			image := make([]byte, m.limit-m.start)
			if _, err := p.memory.ReadAt(image, int64(m.start)); err != nil {
				p.t.Fatal(err)
			}
			var err error
			if f, err = objfile.Open(bytes.NewReader(image), int64(len(image))); err != nil {
				p.t.Fatal(err)
			}
		} else {
			f = objfiletest.Open(p.t, m.path)
		}
		table, err := Build(f)
		if err != nil {
			p.t.Fatal(err)
		}
		p.files[m.path], p.tables[m.path] = f, table
	}
	linked, _, ok := f.Locate(addr - m.start + m.offset)
	if !ok {
		return nil, 0, sample.StopCode
	}
	return p.tables[m.path], addr - linked, sample.StopNone
}

// where shows an address as object and address as linked.
func (p *tracee) where(addr uint64) string {
	m := p.mapping(addr)
	if m == nil {
		return "0x" + strconv.FormatUint(addr, 16)
	}
	_, bias, _ := p.table(addr)
	return fmt.Sprintf("%s+%#x", m.path[strings.LastIndexByte(m.path, '/')+1:], addr-bias)
}

func (p *tracee) walk(limit int) ([]uint64, sample.Stop) {
	return Walk(&Process{Machine: elf.EM_X86_64, Table: p.table, Word: p.word}, p.registers(), limit)
}

// shadow is the stack as the calls that a program made tell: an entry for each
// call, of the return address and where on the stack it lies.
type shadow []struct{ ra, at uint64 }

// follow takes note of one step: of a call if it pushed the address behind the
// instruction and went elsewhere, of a return if the stack pointer is above an
// entry's place.
func (s *shadow) follow(p *tracee, before, after Registers) {
	sp := after.R[7]
	for n := len(*s); n > 0 && sp > (*s)[n-1].at; n-- {
		*s = (*s)[:n-1]
	}
	if sp != before.R[7]-8 {
		return
	}
	ra, _ := p.word(sp)
	if length := ra - before.IP; length >= 2 && length <= 15 && after.IP != ra {
		s.push(ra, sp)
	}
}

// followSignal takes note of a signal that was delivered: the handler returns to
// what stands on its stack, and that to the interrupted instruction.
func (s *shadow) followSignal(p *tracee, before, after Registers) {
	s.push(before.IP+1, before.R[7]-1)
	ra, _ := p.word(after.R[7])
	s.push(ra, after.R[7])
}

func (s *shadow) push(ra, at uint64) { *s = append(*s, struct{ ra, at uint64 }{ra, at}) }

// addresses is what a walk should return behind the innermost frame.
func (s shadow) addresses() []uint64 {
	var a []uint64
	for _, e := range slices.Backward(s) {
		a = append(a, e.ra)
	}
	return a
}

// TestEveryInstruction executes programs instruction by instruction and walks
// the stack at each. One binds its functions when they are first called: the
// others are static because most of what a small program does is to be linked.
func TestEveryInstruction(t *testing.T) {
	for name, flags := range map[string][]string{
		"gcc lazy":        {"gcc", "-O2", "-fomit-frame-pointer", "-Wl,-z,lazy"},
		"gcc static":      {"gcc", "-O2", "-fomit-frame-pointer", "-static"},
		"gcc unoptimized": {"gcc", "-O0", "-static"},
		"gcc realigned":   {"gcc", "-O2", "-mstackrealign", "-static"},
		"clang":           {"clang-16", "-O2", "-fomit-frame-pointer", "-static"},
	} {
		t.Run(name, func(t *testing.T) {
			source, err := os.ReadFile("testdata/frames.c")
			if err != nil {
				t.Fatal(err)
			}
			path := compile(t, flags[0], string(source), flags[1:]...)
			walkEveryInstruction(t, exec.Command(path))
		})
	}
}

// walkEveryInstruction fails for walks that go wrong without saying so. Walks that
// start in code without information may, if they are few.
func walkEveryInstruction(t *testing.T, command *exec.Cmd) {
	t.Helper()
	p := trace(t, command)
	var calls shadow
	var signal syscall.Signal
	var walks, wrong, said, signals int
	reported := make(map[uint64]bool)
	for before, ok := p.registers(), true; ok; walks++ {
		addrs, stop := p.walk(200)
		want := calls.addresses()
		if !slices.Equal(addrs[1:], want) || stop != sample.StopEnd && len(want) > 0 {
			if p.silent(addrs[0]) {
				wrong++
			} else {
				said++
			}
			if !reported[addrs[0]] && len(reported) < 30 {
				reported[addrs[0]] = true
				t.Logf("at %s: %v, %d frames, want %d: %v", p.where(addrs[0]), stop, len(addrs)-1, len(want), p.rule(addrs[0]))
			}
		}
		delivered := signal
		if signal, ok = p.step(signal); !ok {
			break
		}
		after := p.registers()
		if delivered != 0 {
			signals++
			calls.followSignal(p, before, after)
		} else {
			calls.follow(p, before, after)
		}
		before = after
	}
	t.Logf("%d walks, %d wrong, %d in code without information", walks, wrong, said)
	if wrong > 0 || said*200 > walks || walks < 10000 || signals != 2 {
		t.Errorf("%d of %d walks are wrong, %d do without information", wrong, walks, said)
	}
}

func (p *tracee) rule(addr uint64) Rule {
	table, bias, stop := p.table(addr)
	if stop != sample.StopNone {
		return Rule{}
	}
	return table.Lookup(addr - bias)
}

// silent says that a walk from addr has no excuse for going wrong. One is GCC's,
// for an instruction in the epilogue of a realigned frame: see frameIsGone.
func (p *tracee) silent(addr uint64) bool {
	r := p.rule(addr)
	return r.Kind != None && r.Kind != Unsupported && (r.Base < Other || r.FP != AtFP)
}

// TestVfork walks from within vfork, which keeps its return address in a register:
// parent and child share the stack.
func TestVfork(t *testing.T) {
	const source = `
#include <unistd.h>
__attribute__((noipa)) int child(void) { return vfork() ? 1 : (_exit(0), 0); }
int main(void) { return child() - 1; }
`
	path := compile(t, "gcc", source, "-O2", "-fomit-frame-pointer", "-static")
	p := trace(t, exec.Command(path))
	vfork := symbol(t, path, "__vfork")
	var calls shadow
	var want []uint64 // as it was at the first instruction: the second one pops a frame
	walks := 0
	for before, ok := p.registers(), true; ok; {
		if before.IP == vfork.start {
			want = calls.addresses()
		}
		if vfork.contains(before.IP) {
			walks++
			addrs, stop := p.walk(200)
			if len(want) < 3 || !slices.Equal(addrs[1:], want) || stop != sample.StopEnd {
				t.Errorf("at %s: %v, %x, want %x", p.where(addrs[0]), stop, addrs[1:], want)
			}
		}
		if _, ok = p.step(0); ok {
			after := p.registers()
			calls.follow(p, before, after)
			before = after
		}
	}
	if walks < 6 {
		t.Errorf("%d walks", walks)
	}
}
