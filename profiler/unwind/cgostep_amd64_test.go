// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"debug/elf"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// eachGoVersion runs a test with the program as every compiler makes it.
func eachGoVersion(t *testing.T, test func(t *testing.T, path string)) {
	for _, version := range goVersions {
		t.Run("go"+version, func(t *testing.T) { test(t, buildCgo(t, version)) })
	}
}

// TestEveryCallback executes Go that calls C that calls Go instruction by
// instruction, and walks the stack at each.
func TestEveryCallback(t *testing.T) {
	eachGoVersion(t, func(t *testing.T, path string) {
		p, base := startGo(t, true, path, "chain")
		callback := p.function(path, "runtime.cgocallback")
		v := stepGo(p, path, 20000, base, func(_ uint64, want []uint64) []string {
			depth := 0
			for _, addr := range want {
				if callback.contains(addr) {
					depth++
				}
			}
			return []string{fmt.Sprintf("in %d callbacks", depth)}
		})
		if v.kinds["in 2 callbacks"] == 0 || v.cut*20 > v.walks {
			t.Errorf("%+v", v)
		}
	})
}

// TestCallbackMovesStack walks from C that has called Go code, which has moved the
// goroutine's stack. Nothing may be read where it was.
func TestCallbackMovesStack(t *testing.T) {
	eachGoVersion(t, func(t *testing.T, path string) {
		p, _ := startGo(t, false, path, "moved")
		p.runTo(p.function(path, "grow_c").start)
		fp := p.registers().R[6]
		old := code{fp - 16<<10, fp + 16<<10}
		p.runTo(p.function(path, "forever_c").start)
		addrs, stop := Walk(&Process{Machine: elf.EM_X86_64, Table: p.table, Word: func(addr uint64) (uint64, bool) {
			if old.contains(addr) {
				return 0, false
			}
			return p.word(addr)
		}}, p.registers(), 200)
		p.check(addrs, stop, "forever_c grow_c runtime.cgocall main._Cfunc_grow_c main.spin main.deep main.main.func1 runtime.goexit")
	})
}

// TestCallbackFromThread walks from C that Go code called, in a thread that C made.
func TestCallbackFromThread(t *testing.T) {
	eachGoVersion(t, func(t *testing.T, path string) {
		p, _ := startGo(t, false, path, "thread")
		p.runTo(p.function(path, "inner_c").start)
		addrs, stop := p.walk(200)
		p.check(addrs, stop, "inner_c runtime.cgocall main._Cfunc_inner_c main.inner_go crosscall2 middle_c main._Cfunc_middle_c "+
			"main.middle_go crosscall2 outer_c main._Cfunc_outer_c main.work main.thread_go crosscall2 thread_go work_c")
	})
}

// check holds the names of a stack's functions against some of them.
func (p *tracee) check(addrs []uint64, stop sample.Stop, want string) {
	p.t.Helper()
	var names []string
	missing := strings.Fields(want)
	for _, addr := range addrs {
		name := p.name(addr)
		names = append(names, name)
		if len(missing) > 0 && missing[0] == name {
			missing = missing[1:]
		}
	}
	if stop != sample.StopEnd || len(missing) > 0 {
		p.t.Errorf("%v after %v, want %s", stop, names, want)
	}
}

// runTo lets the program run up to an address.
func (p *tracee) runTo(addr uint64) {
	p.t.Helper()
	var code [1]byte
	if _, err := syscall.PtracePeekText(p.pid, uintptr(addr), code[:]); err != nil {
		p.t.Fatal(err)
	}
	const breakpoint = 0xcc // INT3
	if _, err := syscall.PtracePokeText(p.pid, uintptr(addr), []byte{breakpoint}); err != nil {
		p.t.Fatal(err)
	}
	for signal := syscall.Signal(0); signal != syscall.SIGTRAP; {
		if err := syscall.PtraceCont(p.pid, int(signal)); err != nil {
			p.t.Fatal(err)
		}
		status := p.wait()
		if !status.Stopped() {
			p.t.Fatal("program has ended")
		}
		signal = status.StopSignal()
	}
	if _, err := syscall.PtracePokeText(p.pid, uintptr(addr), code[:]); err != nil {
		p.t.Fatal(err)
	}
	var r syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(p.pid, &r); err != nil {
		p.t.Fatal(err)
	}
	r.Rip = addr
	if err := syscall.PtraceSetRegs(p.pid, &r); err != nil {
		p.t.Fatal(err)
	}
}

// name is that of a function in a file with symbols.
func (p *tracee) name(addr uint64) string {
	m := p.mapping(addr)
	if m == nil {
		return ""
	}
	f, err := elf.Open(m.path)
	if err != nil {
		return ""
	}
	defer f.Close()
	_, bias, _ := p.table(addr)
	symbols, _ := f.Symbols()
	for _, s := range symbols {
		if linked := addr - bias; linked >= s.Value && linked < s.Value+s.Size {
			return strings.TrimSuffix(s.Name, ".abi0")
		}
	}
	return ""
}
