// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestGoAgainstDebugFrame compares the rows made from .gopclntab with those that
// the linker writes to .debug_frame for debuggers, which have no frame pointer.
func TestGoAgainstDebugFrame(t *testing.T) {
	dwarfdump := tool(t, "llvm-dwarfdump-16", "llvm-dwarfdump")
	for name, c := range map[string]struct{ environment, flags []string }{
		"amd64":     {[]string{"GOARCH=amd64"}, nil},
		"amd64 pie": {[]string{"GOARCH=amd64"}, []string{"-buildmode=pie"}},
		"arm64":     {[]string{"GOARCH=arm64"}, nil},
		"arm64 pie": {[]string{"GOARCH=arm64"}, []string{"-buildmode=pie"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := buildGo(t, append(c.environment, "CGO_ENABLED=0"), append(c.flags, "-ldflags=-compressdwarf=false")...)
			table := build(t, path)
			var injected []code
			if strings.HasPrefix(name, "arm64") {
				injected = append(injected, symbol(t, path, "runtime.asyncPreempt"), symbol(t, path, "runtime.sigpanic"),
					symbol(t, path, "runtime.debugCallV2"))
			}
			rows, special := 0, 0
			for _, want := range dumpRows(t, exec.Command(dwarfdump, "--debug-frame", path)) {
				if want.rule == "none" {
					continue // padding
				}
				rows++
				got := table.Lookup(want.addr)
				// The linker calls a signal handler outermost. We go on from it.
				if got.Kind != Offset || got.Base != SP || want.rule == "end" ||
					slices.ContainsFunc(injected, func(c code) bool { return c.contains(want.addr) }) {
					special++
					continue
				}
				got.FP, got.FPOffset = Same, 0
				if got.String() != want.rule {
					t.Errorf("at %#x got %v, want %s", want.addr, got, want.rule)
				}
			}
			t.Logf("%d rows, of them %d of special functions; %d bytes, %d rules, %+v", rows, special, table.Bytes(), len(table.Rules), table.Stats)
			if rows < 5000 || special*50 > rows || table.Stats.Damaged > 0 || table.Stats.DebugSpans > 0 {
				t.Errorf("%d rows, of them %d special", rows, special)
			}
		})
	}
}

// TestGoSpecial looks at the functions that go their own way.
func TestGoSpecial(t *testing.T) {
	paths, tables := make(map[string]string), make(map[string]*Table)
	for _, c := range []struct{ arch, function, want string }{
		{"amd64", "runtime.goexit", "end"},
		{"amd64", "runtime.mstart", "end"},
		{"amd64", "runtime.rt0_go", "end"},
		{"amd64", "runtime.morestack", "goroutine"},
		{"amd64", "runtime.sigreturn__sigaction", "signal"},
		{"amd64", "runtime.systemstack", "sp+8 ra=c-8, sp+16 ra=c-8 fp=c-16, fp+16 ra=c-8 fp=c-16, sp+8 ra=c-8"},
		{"amd64", "runtime.gogo", "sp+8 ra=c-8"},
		{"arm64", "runtime.goexit", "end"},
		{"arm64", "runtime.systemstack", "sp+0 ra=same, sp+16 ra=c-16 fp=c-24, fp+24 ra=c-16 fp=c-24, sp+0 ra=same"},
		{"arm64", "runtime.mcall", "sp+0 ra=same, end"},
		{"arm64", "runtime.sigpanic", "sp+0 ra=same, sp+112 ra=c-112 fp=c-120"},
	} {
		path, ok := paths[c.arch]
		if !ok {
			path = buildGo(t, []string{"CGO_ENABLED=0", "GOARCH=" + c.arch})
			paths[c.arch], tables[c.arch] = path, build(t, path)
		}
		f := symbol(t, path, c.function)
		if got := rulesIn(tables[c.arch], f); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s is %s, want %s", c.arch, c.function, got, c.want)
		}
	}
}

// TestGoStripped finds the same rows without symbols, and without sections.
func TestGoStripped(t *testing.T) {
	want := build(t, buildGo(t, []string{"CGO_ENABLED=0"}))
	got := build(t, buildGo(t, []string{"CGO_ENABLED=0"}, "-ldflags=-s -w"))
	if got.Stats != want.Stats || len(got.Rows) != len(want.Rows) || got.Stats.GoSpans < 1000 {
		t.Errorf("stripped: %+v, want %+v", got.Stats, want.Stats)
	}
}

// TestGoAndC covers a program of both compilers by both sources.
func TestGoAndC(t *testing.T) {
	tool(t, "gcc")
	path := buildGo(t, []string{"CGO_ENABLED=1"}, "-ldflags=-linkmode=external")
	table := build(t, path)
	if s := table.Stats; s.GoSpans < 1000 || s.FrameSpans == 0 || s.Damaged > 0 {
		t.Errorf("%+v", s)
	}
	for function, want := range map[string]string{"main.deep": "sp+8 ra=c-8", "_start": "end", "runtime.goexit": "end"} {
		if got := table.Lookup(symbol(t, path, function).start).String(); got != want {
			t.Errorf("%s starts with %s, want %s", function, got, want)
		}
	}
}

// code is the range of a function's addresses.
type code struct{ start, end uint64 }

func (c code) contains(addr uint64) bool { return addr >= c.start && addr < c.end }

// symbol finds a function as linked.
func symbol(t testing.TB, path, name string) code {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if strings.TrimSuffix(s.Name, ".abi0") == name {
			return code{s.Value, s.Value + s.Size}
		}
	}
	t.Fatalf("no symbol %s", name)
	return code{}
}

// buildGo compiles testdata/gostack.
func buildGo(t testing.TB, environment []string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "gostack")
	command := exec.Command(tool(t, "go"), append(append([]string{"build", "-o", out}, flags...), "./testdata/gostack")...)
	command.Env = append(os.Environ(), environment...)
	if msg, err := command.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, msg)
	}
	return out
}
