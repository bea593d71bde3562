// SPDX-License-Identifier: Apache-2.0

package dwarfsym_test

import (
	"debug/elf"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/llvmtest"
)

// TestSupplement names all code after dwz has moved what programs share to a supplementary file as before.
// llvm-symbolizer does not read such files.
func TestSupplement(t *testing.T) {
	for _, c := range []struct {
		compiler, source, version, flag string
		large                           bool
	}{
		{"g++", "templates.cc", "-gdwarf-5", "--dwarf-5", false},
		{"gcc", "inline.c", "-gdwarf-4", "--quiet", false}, {"clang-16", "inline.c", "-gdwarf-4", "--quiet", false},
		{"g++", "templates.cc", "-gdwarf-5", "--quiet", true}, {"g++", "templates.cc", "-gdwarf-4", "--quiet", true},
		{"clang++-16", "templates.cc", "-gdwarf-4", "--quiet", true},
	} {
		t.Run(c.compiler+c.version+c.flag, func(t *testing.T) {
			skipLarge(t, c.large)
			source := "testdata/" + c.source
			before := compiled(c.compiler, source, "-O2", "-g", c.version, "-lm")(t)
			dir := filepath.Dir(before)
			run(t, "cp", before, dir+"/after")
			other := compiled(c.compiler, source, "-O1", "-g", c.version, "-lm")(t)
			runIn(t, dir, "dwz", c.flag, "-m", dir+"/common", dir+"/after", other)
			want, got := open(t, before, before), open(t, dir+"/after", dir+"/after", dir+"/common")
			without := open(t, dir+"/after", dir+"/after")
			n, unnamed := 0, 0
			for _, addr := range drawn(t, before, *addresses) {
				a, b := lookup(t, want, addr), lookup(t, got, addr)
				if !slices.Equal(a, b) {
					t.Errorf("%#x is\n\t%v\nwant\n\t%v", addr, b, a)
				}
				if len(a) > 0 {
					n++
				}
				if !slices.Equal(a, lookup(t, without, addr)) {
					unnamed++
				}
			}
			if n < *addresses/2 || unnamed < *addresses/50 {
				t.Errorf("%d addresses have names, and %d have not all of them without the file", n, unnamed)
			}
		})
	}
}

func drawn(t *testing.T, path string, n int) []uint64 {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return llvmtest.Draw(f, n)
}

func lookup(t *testing.T, table *dwarfsym.Table, addr uint64) []dwarfsym.Frame {
	t.Helper()
	frames, err := table.Lookup(addr)
	if err != nil {
		t.Fatalf("%#x: %v", addr, err)
	}
	return frames
}
