// SPDX-License-Identifier: Apache-2.0

package dwarfsym_test

import (
	"debug/elf"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
	"github.com/fleetprof/fleetprof/internal/programtest"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/llvmtest"
)

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	runIn(t, "", name, args...)
}

func runIn(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(programtest.Need(t, name), args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

const defaultAddresses = 1000

var addresses = flag.Int("addresses", defaultAddresses, "addresses of each program that are compared with llvm-symbolizer")

// TestAgainstLLVM compares functions, calls that were inlined, files and lines.
func TestAgainstLLVM(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(testing.TB) string
	}{
		{"C, DWARF 5", compiled("gcc", "testdata/inline.c", "-lm", "-O2", "-g", "-gdwarf-5")},
		{"C, DWARF 4", compiled("gcc", "testdata/inline.c", "-lm", "-O2", "-g", "-gdwarf-4")},
		{"C++, DWARF 5", compiled("g++", "testdata/templates.cc", "-O2", "-g", "-gdwarf-5")},
		{"C++, DWARF 4", compiled("g++", "testdata/templates.cc", "-O2", "-g", "-gdwarf-4")},
		{"C++, in sections, zlib", compiled("g++", "testdata/templates.cc", "-O3", "-g", "-ffunction-sections", "-gz=zlib", "-Wl,--gc-sections")},
		{"C, no position", compiled("gcc", "testdata/inline.c", "-lm", "-O1", "-g", "-no-pie")},
		{"C++, clang", compiled("clang++-16", "testdata/templates.cc", "-O2", "-g")},
		{"Rust", compiled("rustc", "testdata/closures.rs", "-O", "-g")},
		{"Rust, package", compiled("rustc", "testdata/closures.rs", "-O", "-g", "-Csplit-debuginfo=packed")},
	} {
		t.Run(c.name, func(t *testing.T) { compare(t, c.build(t)) })
	}
}

// TestTypesAndSplit compares what has type units, and what has split units, in files of their own and in a package;
// not all of it, as that takes long, unless -addresses asks for more.
func TestTypesAndSplit(t *testing.T) {
	const source, types = "testdata/templates.cc", "-fdebug-types-section"
	for _, c := range []struct {
		compiler, version, packer string
		large                     bool
	}{
		{"g++", "-gdwarf-5", "llvm-dwp-16", false}, {"clang++-16", "-gdwarf-4", "dwp", false},
		{"g++", "-gdwarf-4", "dwp", true}, {"clang++-16", "-gdwarf-5", "llvm-dwp-16", true},
	} {
		name := c.compiler + c.version
		t.Run(name+", type units", func(t *testing.T) {
			skipLarge(t, c.large)
			compare(t, compiled(c.compiler, source, "-O2", "-g", c.version, types)(t))
		})
		for _, flag := range []string{types, "-gz=zlib"} {
			t.Run(name+", split "+flag, func(t *testing.T) {
				skipLarge(t, c.large || flag != types)
				path := splitOff(c.compiler, source, "-O2", c.version, flag)(t)
				compare(t, path)
				pack(t, path, c.packer)
				compare(t, path)
			})
		}
	}
}

func skipLarge(t *testing.T, large bool) {
	t.Helper()
	if large && *addresses == defaultAddresses {
		t.Skip("asked for by -addresses")
	}
}

func compiled(compiler, source string, flags ...string) func(testing.TB) string {
	return func(t testing.TB) string {
		out := filepath.Join(t.TempDir(), "program")
		run(t, compiler, append([]string{source, "-o", out}, flags...)...)
		return out
	}
}

// splitOff compiles two units into a directory of their own, with split units beside the program.
func splitOff(compiler, source string, flags ...string) func(testing.TB) string {
	return func(t testing.TB) string {
		source, err := filepath.Abs(source)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		flags := append([]string{source, "-g", "-gsplit-dwarf"}, flags...)
		runIn(t, dir, compiler, append(flags, "-c", "-Dmain=second", "-o", "second.o")...)
		runIn(t, dir, compiler, append(flags, "second.o", "-lm", "-o", dir+"/program")...)
		return dir + "/program"
	}
}

// pack puts the split units of a program into a package.
func pack(t testing.TB, path, packer string) {
	t.Helper()
	dir := filepath.Dir(path)
	runIn(t, dir, packer, "-e", path, "-o", path+".dwp")
	files, err := filepath.Glob(dir + "/*.dwo")
	if err != nil || len(files) == 0 {
		t.Fatalf("no split units: %v", err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}

// compare wants addresses that llvm-symbolizer has debug information of to agree: 99.9 % in functions, and
// 99.5 % in all.
func compare(t *testing.T, path string) {
	t.Helper()
	n := *addresses
	table := open(t, path, path)
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	addrs := llvmtest.Draw(file, n)
	known, named, whole, shown := 0, 0, 0, 0
	for i, want := range llvmtest.Ask(t, path, addrs, "--no-demangle") {
		if len(want) == 0 || want[0].Line == 0 && len(want) == 1 {
			continue // from the symbol table, or not at all
		}
		known++
		got, err := table.Lookup(addrs[i])
		if err != nil {
			t.Errorf("%#x: %v", addrs[i], err)
		}
		names, positions := agree(got, want)
		if names {
			named++
		}
		if names && positions {
			whole++
		} else if shown++; shown <= 10 {
			t.Logf("%#x is\n\t%v\nwant\n\t%v", addrs[i], got, want)
		}
	}
	t.Logf("%d of %d known to llvm-symbolizer: functions %.3f %%, with lines %.3f %%", known, n, 100*float64(named)/float64(known), 100*float64(whole)/float64(known))
	if known < n/100 || float64(named) < 0.999*float64(known) || float64(whole) < 0.995*float64(known) {
		t.Error("fewer agree than must")
	}
}

// open opens debug information that lacks nothing.
func open(t testing.TB, debug, code string, supplement ...string) *dwarfsym.Table {
	t.Helper()
	o := options(t, code)
	o.SplitFiles = func(directory, name string, use func(*objfile.File) error) error {
		if !filepath.IsAbs(name) {
			name = filepath.Join(directory, name)
		}
		return use(objfiletest.Open(t, name))
	}
	for _, path := range supplement {
		o.Supplement = objfiletest.Open(t, path)
	}
	if _, err := os.Stat(code + ".dwp"); err == nil {
		o.Package = objfiletest.Open(t, code+".dwp")
	}
	table, err := dwarfsym.Open(objfiletest.Open(t, debug), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	return table
}

// agree leaves out the outermost name, which llvm-symbolizer takes from the symbol table.
func agree(got []dwarfsym.Frame, want []llvmtest.Symbol) (names, positions bool) {
	if len(got) != len(want) {
		return false, false
	}
	names, positions = true, true
	for i, g := range got {
		name := g.Linkage
		if name == "" {
			name = g.Function
		}
		if name != want[i].FunctionName && i < len(got)-1 {
			names = false
		}
		if int64(g.Line) != want[i].Line || g.File != want[i].FileName {
			positions = false
		}
	}
	return names, positions
}
