// SPDX-License-Identifier: Apache-2.0

package dwarfsym_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
)

// TestSplitAsWhole names all code by split units as it is named without, in a program of one unit. llvm-symbolizer does not
// know all of it: ranges that begin where the skeleton does.
func TestSplitAsWhole(t *testing.T) {
	for _, c := range []struct{ compiler, version, packer string }{
		{"gcc", "-gdwarf-4", "dwp"}, {"gcc", "-gdwarf-5", "llvm-dwp-16"}, {"clang-16", "-gdwarf-4", "dwp"}, {"clang-16", "-gdwarf-5", "llvm-dwp-16"},
	} {
		t.Run(c.compiler+c.version, func(t *testing.T) {
			source, err := filepath.Abs("testdata/inline.c")
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			whole, split := dir+"/whole", dir+"/split"
			runIn(t, dir, c.compiler, source, "-O2", "-g", c.version, "-lm", "-o", whole)
			runIn(t, dir, c.compiler, source, "-O2", "-g", c.version, "-gsplit-dwarf", "-lm", "-o", split)
			want := open(t, whole, whole)
			check := func(got *dwarfsym.Table) {
				inlined := 0
				for _, addr := range drawn(t, whole, *addresses) {
					a, b := lookup(t, want, addr), lookup(t, got, addr)
					if !slices.Equal(a, b) {
						t.Errorf("%#x is\n\t%v\nwant\n\t%v", addr, b, a)
					}
					if len(a) > 1 {
						inlined++
					}
				}
				if inlined < *addresses/20 {
					t.Errorf("%d calls were inlined", inlined)
				}
			}
			check(open(t, split, split))
			pack(t, split, c.packer)
			check(open(t, split, split))
		})
	}
}

// TestOtherBuild takes no names of a split unit that is of another build, or if a
// package has none of the program, and tells so; lines are with the program.
func TestOtherBuild(t *testing.T) {
	program := splitOff("gcc", "testdata/inline.c", "-O2")(t)
	other := splitOff("gcc", "testdata/inline.c", "-O1")(t)
	text, err := os.ReadFile(filepath.Dir(other) + "/program-inline.dwo")
	if err != nil {
		t.Fatal(err)
	}
	otherUnit := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(otherUnit, text, 0o600); err != nil {
		t.Fatal(err)
	}
	pack(t, other, "llvm-dwp-16")
	addrs := drawn(t, program, 1000)
	for _, c := range []struct {
		name, file, pkg string
		want            error
	}{
		{"another build", otherUnit, "", dwarfsym.ErrOther},
		{"none", "", "", os.ErrNotExist},
		{"none in the package", "", other + ".dwp", os.ErrNotExist},
	} {
		t.Run(c.name, func(t *testing.T) {
			var problems []error
			o := options(t, program)
			o.Problem = func(err error) { problems = append(problems, err) }
			o.SplitFiles = func(_, _ string, use func(*objfile.File) error) error {
				if c.file == "" {
					return os.ErrNotExist
				}
				return use(objfiletest.Open(t, c.file))
			}
			if c.pkg != "" {
				o.Package = objfiletest.Open(t, c.pkg)
			}
			table, err := dwarfsym.Open(o.Code, o)
			if err != nil {
				t.Fatal(err)
			}
			defer table.Close()
			placed := 0
			for _, addr := range addrs {
				for _, f := range lookup(t, table, addr) {
					if f.Function != "" || f.Linkage != "" {
						t.Fatalf("%#x is %+v", addr, f)
					}
					placed++
				}
			}
			if placed < 100 {
				t.Errorf("%d addresses have lines", placed)
			}
			if len(problems) != 2 || !errors.Is(problems[0], c.want) {
				t.Errorf("problems are %v, want %v", problems, c.want)
			}
		})
	}
}

// options for a program that has all of its code and its debug information, as far as that is not split off.
func options(t testing.TB, code string) dwarfsym.Options {
	t.Helper()
	return dwarfsym.Options{
		Code: objfiletest.Open(t, code), Bytes: 64 << 20, ScratchBytes: 1 << 30,
		Units:   dwarfsym.NewUnits(64<<20, 1, time.Hour),
		Problem: func(err error) { t.Error(err) },
	}
}
