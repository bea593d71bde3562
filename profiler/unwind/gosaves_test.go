// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// goVersions are compilers with all layouts of frames between Go and C there have
// been since Go 1.18. The empty one is that of the test.
var goVersions = []string{"", "1.18.10", "1.20.14", "1.22.12", "1.25.0"}

// buildCgo compiles testdata/cgostack, if the compiler is on this machine.
func buildCgo(t *testing.T, version string, environment ...string) string {
	t.Helper()
	tool(t, "gcc")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/cgostack")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module cgostack\n\ngo 1.18\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	environment = append(append(os.Environ(), "CGO_ENABLED=1", "GOPROXY=off", "GOFLAGS=-buildvcs=false"), environment...)
	if version != "" {
		environment = append(environment, "GOTOOLCHAIN=go"+version)
		probe := exec.Command(tool(t, "go"), "version")
		probe.Env, probe.Dir = environment, dir
		if msg, err := probe.CombinedOutput(); err != nil {
			t.Skipf("no Go %s on this machine: %s", version, msg)
		}
	}
	command := exec.Command(tool(t, "go"), "build", "-o", "cgostack", ".")
	command.Env, command.Dir = environment, dir
	if msg, err := command.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, msg)
	}
	return filepath.Join(dir, "cgostack")
}

// rulesIn shows the rules of a function in order.
func rulesIn(table *Table, f code) string {
	var rules []string
	for addr := f.start; addr < f.end; addr++ {
		rule := table.Lookup(addr).String()
		if n := len(rules); n == 0 || rules[n-1] != rule {
			rules = append(rules, rule)
		}
	}
	return strings.Join(rules, ", ")
}

// TestGoAndCFrames looks at the functions between Go and C. On amd64 programs are
// stepped through as well.
func TestGoAndCFrames(t *testing.T) {
	for _, c := range []struct {
		versions, arch               string
		crosscall2, asmcgocall, cgoc string
	}{
		{" 1.22.12 1.25.0", "amd64",
			"sp+8 ra=c-8, sp+16 ra=c-8 fp=c-16, sp+64 ra=c-8 fp=c-16, sp+88 ra=c-8 fp=c-16",
			"sp+8 ra=c-8, sp+16 ra=c-8 fp=c-16, c@sp+0 sp+16 ra=c-8 fp=c-16, sp+8 ra=c-8",
			"sp+8 ra=c-8, sp+16 ra=c-8 fp=c-16, callback sp+40 ra=c-8 fp=c-16, sp+16"},
		{"1.18.10 1.20.14", "amd64",
			"sp+8 ra=c-8, sp+56 ra=c-8, sp+56 ra=c-8 fp=c-16, sp+80 ra=c-8 fp=c-16",
			"c@sp+40 sp+8 ra=c-8",
			"sp+8 ra=c-8, callback sp+40 ra=c-8 fp=c-16, sp+8"},
		{" 1.20.14 1.22.12 1.25.0", "arm64",
			"sp+0 ra=same, sp+192 ra=same, sp+192 ra=c-8 fp=c-16, sp+0 ra=same",
			"sp+0 ra=same, sp+16 ra=c-16 fp=c-24, c@sp+0 sp+16 ra=c-16 fp=c-24, sp+0 ra=same",
			"sp+0 ra=same, callback sp+48 ra=c-48 fp=c-56, sp+0 ra=same"},
		{"1.18.10", "arm64",
			"sp+0 ra=same, sp+192 ra=same, sp+192 ra=c-72 fp=c-80, sp+0 ra=same",
			"sp+0 ra=same, sp+16 ra=c-16 fp=c-24, c@sp+0 sp+16 ra=c-16 fp=c-24, sp+0 ra=same",
			"sp+0 ra=same, callback sp+48 ra=c-48 fp=c-56, sp+0 ra=same"},
	} {
		for _, version := range strings.Split(c.versions, " ") {
			t.Run(c.arch+" go"+version, func(t *testing.T) {
				compiler := map[string]string{"amd64": "x86_64-linux-gnu-gcc", "arm64": "aarch64-linux-gnu-gcc"}[c.arch]
				path := buildCgo(t, version, "GOARCH="+c.arch, "CC="+tool(t, compiler))
				table := build(t, path)
				for function, want := range map[string]string{
					"crosscall2": c.crosscall2, "runtime.asmcgocall": c.asmcgocall, "runtime.cgocallback": c.cgoc,
				} {
					if got := rulesIn(table, symbol(t, path, function)); !strings.HasPrefix(got, want) {
						t.Errorf("%s is %s, want %s", function, got, want)
					}
				}
			})
		}
	}
}

// goWorld is a process made by hand in which Go calls C that calls Go. The words of
// its memory are all there is at the addresses that matter.
type goWorld struct {
	world
	start Registers
}

// Where goWorld has things, in bytes from stackBase.
const (
	worldG, worldM, worldG0 = 0x100, 0x200, 0x300
	worldThread             = 0x400 // SP on the thread's stack of the callback
	worldHigh               = 0x600 // end of the goroutine's stack
)

// newGoWorld starts in a function without a frame that the code in question called.
func newGoWorld(machine elf.Machine, rule Rule) *goWorld {
	a, _ := archOf(machine)
	leaf := Rule{Kind: Offset, CFA: 16, RA: AtCFA, RAOffset: -1}
	w := &goWorld{world: world{machine, []Rule{leaf, rule, {Kind: End}}, make([]uint64, 0x800/8)}}
	w.start.IP, w.start.R[a.sp], w.start.R[a.g] = place(0), stackBase, stackBase+worldG
	w.set(8, place(1))
	w.set(worldG+goStackHigh, stackBase+worldHigh)
	w.set(worldG+goStackLow, stackBase)
	w.set(worldG+goM, stackBase+worldM)
	w.set(worldM+goG0, stackBase+worldG0)
	w.set(worldG0+goM, stackBase+worldM)
	w.set(worldG0+goSchedSP, stackBase+worldThread)
	return w
}

func (w *goWorld) set(off, value uint64) { w.stack[off/8] = value }

// TestGoRecords damages what leads from one of Go's stacks to the other, word by word:
// then the walk ends, and says so.
func TestGoRecords(t *testing.T) {
	for name, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(name, func(t *testing.T) {
			a, _ := archOf(machine)
			callback := newGoWorld(machine, Rule{Kind: Callback, CFA: 40, RA: AtCFA, RAOffset: -1})
			callback.set(worldThread+32, place(2))
			for i := uint64(0); i < 16; i += 8 { // SP is 16 further than at the start
				callback.set(16+a.goArgs+i, 0x1234+i)
				callback.set(worldThread+40+a.goArgs+i, 0x1234+i)
			}
			callback.damage(t, 16+a.goArgs, 24+a.goArgs, worldThread+40+a.goArgs, worldG+goM, worldM+goG0, worldG0+goM, worldG0+goSchedSP)

			callC := newGoWorld(machine, Rule{Kind: CallC, Add: 8, CFA: 16, RA: AtCFA, RAOffset: -1})
			callC.set(24+a.goDepth, 64)
			callC.set(32-a.goDepth, stackBase+worldG)
			callC.set(worldHigh-64+8, place(2))
			callC.damage(t, 32-a.goDepth, worldG+goStackHigh, worldG+goM, worldM+goG0, worldG0+goM)
			callC.set(24+a.goDepth, worldHigh+1)
			callC.damaged(t, "depth")

			same := newGoWorld(machine, Rule{Kind: CallC, Add: 8, CFA: 16, RA: AtCFA, RAOffset: -1})
			same.set(24+a.goDepth, stackBase+48) // no goroutine: no other stack
			same.set(48+8, place(2))
			same.damage(t, 24+a.goDepth)
		})
	}
}

// damage walks the stack as it is, and with each of some words cleared.
func (w *goWorld) damage(t *testing.T, words ...uint64) {
	t.Helper()
	want := []uint64{place(0), place(1), place(2)}
	if got, stop := w.walk(t, w.start, 9); stop != sample.StopEnd || !slices.Equal(got, want) {
		t.Fatalf("%x, %v", got, stop)
	}
	for _, off := range words {
		kept := w.stack[off/8]
		w.set(off, 0)
		w.damaged(t, fmt.Sprintf("word %#x", off))
		w.set(off, kept)
	}
}

func (w *goWorld) damaged(t *testing.T, what string) {
	t.Helper()
	got, stop := w.walk(t, w.start, 9)
	if len(got) != 2 || !stop.Truncated() {
		t.Errorf("%s: %x, %v", what, got, stop)
	}
}

// FuzzGoSaves reads any code.
func FuzzGoSaves(f *testing.F) {
	f.Add([]byte("\x48\x83\xec\x30\x48\x89\x6c\x24\x28")) // SUBQ $48, SP; MOVQ BP, 40(SP)
	f.Add([]byte("\x48\x89\x7c\x24\x30"))                 // MOVQ DI, 48(SP)
	f.Add([]byte("\xfd\x3b\x00\xf9\xfe\x3f\x00\xf9"))     // MOVD R29, 112(RSP); MOVD R30, 120(RSP)
	f.Add([]byte("\xfd\x7b\x0b\xa9"))                     // STP (R29, R30), 176(RSP)
	f.Fuzz(func(t *testing.T, code []byte) {
		for i, read := range []func([]byte) goSaves{
			goroutineSavedAMD64, registersSavedAMD64, goroutineSavedARM64, registersSavedARM64,
		} {
			s := read(code)
			if s.known && (s.from > uint64(len(code)) || (s.fp|s.ra|s.goroutine)%8 != 0 || s.goroutine < 0 || s.goroutine > 120) {
				t.Errorf("reader %d: %+v", i, s)
			}
		}
	})
}
