// SPDX-License-Identifier: Apache-2.0

package elfsym

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
	"github.com/fleetprof/fleetprof/internal/programtest"
)

func none(uint64) bool { return false }

func run(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return out
}

// build compiles testdata/zoo.c.
func build(t testing.TB, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "zoo")
	run(t, programtest.Need(t, "gcc"), append([]string{"-O1", "-o", out, "testdata/zoo.c"}, flags...)...)
	return out
}

func load(t testing.TB, path string) *Table {
	t.Helper()
	table, err := Load(objfiletest.Open(t, path), 64<<20, none)
	if err != nil {
		t.Fatalf("load %s: %v", path, err)
	}
	return table
}

// nmSymbol is a line of nm's output.
type nmSymbol struct {
	addr, size uint64
	name       string
}

// nm lists the symbols of code as binutils sees them.
func nm(t testing.TB, path string, flags ...string) []nmSymbol {
	t.Helper()
	out := run(t, programtest.Need(t, "nm"), append(append([]string{"-S", "--defined-only"}, flags...), path)...)
	var symbols []nmSymbol
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 3 || !strings.Contains("TtWwi", f[len(f)-2]) {
			continue
		}
		s := nmSymbol{name: strings.Split(f[len(f)-1], "@")[0]}
		if s.name == "data_start" || s.name[0] == '$' {
			continue // weak but data; a mapping symbol
		}
		s.addr, _ = strconv.ParseUint(f[0], 16, 64)
		if len(f) == 4 {
			s.size, _ = strconv.ParseUint(f[1], 16, 64)
		}
		symbols = append(symbols, s)
	}
	return symbols
}

// checkAgainstNM looks up the first, a middle and the last byte of every sized
// symbol and expects a name that nm gives for a range that holds the address.
func checkAgainstNM(t *testing.T, path string, flags ...string) {
	t.Helper()
	table, symbols := load(t, path), nm(t, path, flags...)
	if len(symbols) < 10 {
		t.Fatalf("nm knows %d symbols only", len(symbols))
	}
	covering := func(addr uint64) map[string]bool {
		names := make(map[string]bool)
		for _, s := range symbols {
			if addr-s.addr < max(s.size, 1) {
				names[s.name] = true
			}
		}
		return names
	}
	checked := 0
	for i := 0; i < len(symbols); i += 1 + len(symbols)/3000 {
		s := symbols[i]
		for _, addr := range []uint64{s.addr, s.addr + s.size/2, s.addr + max(s.size, 1) - 1} {
			got, err := table.Lookup(addr)
			if err != nil {
				t.Fatalf("look up %#x: %v", addr, err)
			}
			if want := covering(addr); !want[got] {
				t.Errorf("%#x is %q, nm says %v", addr, got, want)
			}
			checked++
		}
	}
	t.Logf("checked %d addresses of %s", checked, filepath.Base(path))
}

func TestAgainstNM(t *testing.T) {
	for name, flags := range map[string][]string{
		"pie":         {"-pie", "-fPIE"},
		"fixed":       {"-no-pie"},
		"static":      {"-static"},
		"no build id": {"-Wl,--build-id=none"},
		"lto":         {"-flto"},
	} {
		t.Run(name, func(t *testing.T) { checkAgainstNM(t, build(t, flags...)) })
	}
	t.Run("stripped", func(t *testing.T) {
		path := build(t, "-rdynamic")
		run(t, programtest.Need(t, "strip"), path)
		if out := nm(t, path, "-D"); len(out) == 0 {
			t.Fatal("nothing left")
		}
		checkAgainstNM(t, path, "-D")
	})
}

func TestSystemFiles(t *testing.T) {
	for _, path := range []string{"/bin/bash", "/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6"} {
		t.Run(path, func(t *testing.T) {
			if _, err := os.Stat(path); err != nil {
				t.Skip("this machine has no such file")
			}
			checkAgainstNM(t, path, "-D")
		})
	}
}

func TestChoice(t *testing.T) {
	path := build(t, "-no-pie")
	table := load(t, path)
	at := make(map[string]uint64)
	for _, s := range nm(t, path) {
		at[s.name] = s.addr
	}
	for _, c := range []struct {
		name string
		addr uint64
		want string
	}{
		{"global before its weak alias", at["alias_function"], "global_function"},
		{"local function", at["local_function"], "local_function"},
		{"function before a label in it", at["label_inside"], "sized"},
		{"last byte of a function", at["sized"] + 2, "sized"},
		{"untyped without size", at["untyped"], "untyped"},
		{"untyped reaches to the next symbol, past $x", at["after_untyped"] - 1, "untyped"},
		{"end of untyped", at["after_untyped"], "after_untyped"},
		{"inner", at["inner"], "inner"},
		{"outer behind inner", at["inner"] + 1, "outer"},
		{"before all code", 0x1000, ""},
		{"data", at["main"] | 0xff<<40, ""},
	} {
		if got, err := table.Lookup(c.addr); err != nil || got != c.want {
			t.Errorf("%s: %#x is %q, %v; want %q", c.name, c.addr, got, err, c.want)
		}
	}
	if got, _ := table.Lookup(at["resolve_chosen"]); got != "chosen" && got != "resolve_chosen" {
		t.Errorf("IFUNC resolver is %q", got)
	}
}

func TestLimitAndSkip(t *testing.T) {
	f := objfiletest.Open(t, build(t, "-static"))
	full, err := Load(f, 64<<20, none)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(f, full.Bytes()/2, none); !errors.Is(err, ErrTooLarge) {
		t.Errorf("with half of the memory: %v, want ErrTooLarge", err)
	}
	first := full.symbols[0].address()
	part, err := Load(f, 64<<20, func(addr uint64) bool { return addr == first })
	if err != nil {
		t.Fatal(err)
	}
	if name, _ := part.Lookup(first); name != "" {
		t.Errorf("skipped address is %q", name)
	}
}

func TestTruncatedFile(t *testing.T) {
	path := build(t)
	f := objfiletest.Open(t, path)
	table, err := Load(f, 1<<20, none)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 64); err != nil {
		t.Fatal(err)
	}
	if name, err := table.name(table.symbols[0]); name != "" {
		t.Errorf("name is %q, %v after truncation", name, err)
	}
	if _, err := Load(f, 1<<20, none); err == nil {
		t.Error("loaded a table from a file without one")
	}
}

func FuzzLoad(f *testing.F) {
	path := build(f, "-s", "-rdynamic", "-Wl,-z,noseparate-code")
	seed, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, uint64(0x1000))
	f.Fuzz(func(t *testing.T, b []byte, addr uint64) {
		file, err := objfile.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		table, err := Load(file, 1<<20, none)
		if err != nil {
			return
		}
		if table.Bytes() > 1<<20 {
			t.Errorf("table takes %d bytes", table.Bytes())
		}
		for i, s := range table.symbols {
			if i > 0 && table.symbols[i-1].address() >= s.address() {
				t.Fatalf("symbols %d and %d are not in order", i-1, i)
			}
			if name, err := table.Lookup(s.address()); err == nil && len(name) > maxName {
				t.Fatalf("name of %d bytes", len(name))
			}
		}
		table.Lookup(addr)
	})
}

func BenchmarkLoad(b *testing.B) {
	f := objfiletest.Open(b, build(b, "-static"))
	for b.Loop() {
		if _, err := Load(f, 64<<20, none); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	t := load(b, build(b, "-static"))
	i := 0
	for b.Loop() {
		if _, err := t.Lookup(t.symbols[i%len(t.symbols)].address()); err != nil {
			b.Fatal(err)
		}
		i += 101
	}
}

// TestNext goes from name to name, and finds them at all addresses in between.
func TestNext(t *testing.T) {
	path := build(t)
	f, table := objfiletest.Open(t, path), load(t, path)
	steps := 0
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_EXECINSTR == 0 {
			continue
		}
		name, past := "", s.Address
		for a := s.Address; a < s.Address+s.Size; a++ {
			got, err := table.Lookup(a)
			if err != nil {
				t.Fatal(err)
			}
			if a == past {
				name, past = got, table.Next(a)
				steps++
			}
			if got != name || past <= a {
				t.Fatalf("%#x is %q, want %q up to %#x", a, got, name, past)
			}
		}
	}
	if steps < 20 {
		t.Errorf("%d steps only", steps)
	}
	if got := table.Next(^uint64(0) - 1); got != ^uint64(0) {
		t.Errorf("behind all symbols: %#x", got)
	}
}
