// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/debugfile"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/llvmtest"
	"github.com/fleetprof/fleetprof/symbolize/strip"
)

// TestStripped compares what a file is named by, its debug file included, with what is left of both when they
// are stripped to what names need.
func TestStripped(t *testing.T) {
	for _, c := range []struct {
		name string
		path func(*testing.T) string
	}{
		{"C", compiled("gcc", "-O3", "-g", "dwarfsym/testdata/inline.c", "-lm")},
		{"C, DWARF 4, compressed", compiled("gcc", "-O3", "-g", "-gdwarf-4", "-gz", "dwarfsym/testdata/inline.c", "-lm")},
		{"C, without symbols", compiled("gcc", "-O1", "-s", "-rdynamic", "elfsym/testdata/zoo.c")},
		{"C++", compiled("g++", "-O2", "-g", "-Wl,-z,lazy", "dwarfsym/testdata/templates.cc")},
		{"C++, one segment", compiled("g++", "-O2", "-g", "-no-pie", "-Wl,-z,noseparate-code", "dwarfsym/testdata/templates.cc")},
		{"C++, types apart", compiled("g++", "-O2", "-g", "-gdwarf-4", "-fdebug-types-section", "dwarfsym/testdata/templates.cc")},
		{"C++, clang", compiled("clang++-16", "-O2", "-g", "dwarfsym/testdata/templates.cc")},
		{"Rust", compiled("rustc", "-O", "-g", "dwarfsym/testdata/closures.rs")},
		{"Go", compiled("go", "./gosym/testdata/plain")},
		{"Go, without symbols", compiled("go", "-ldflags=-s -w", "./gosym/testdata/plain")},
		{"Go, no position", compiled("go", "-buildmode=pie", "./gosym/testdata/plain")},
		{"Go, no position, external", compiled("go", "-buildmode=pie", "-ldflags=-linkmode=external", "./gosym/testdata/cgo")},
		{"libc", func(t *testing.T) string { return loaded(t, "libc.so.6") }},
		{"libcrypto", installed("/usr/lib/*/libcrypto.so.3")},
	} {
		t.Run(c.name, func(t *testing.T) { sameNames(t, c.path(t)) })
	}
}

// stripped writes what a file is stripped to, and gives its path. separate tells that it has a debug file.
func stripped(t *testing.T, path string) (out string, separate bool) {
	t.Helper()
	object := objfiletest.Open(t, path)
	debug, err := debugfile.Open(object, path, func(path string) (*os.File, error) { return os.Open(path) })
	if separate = err == nil; separate {
		defer debug.File.Close()
	}
	left, err := strip.New(object, debug.ELF, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(io.NewSectionReader(left, 0, left.Size()))
	if err != nil || int64(len(content)) != left.Size() {
		t.Fatalf("%d bytes of %d: %v", len(content), left.Size(), err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes, of %d of the program", left.Size(), info.Size())
	out = filepath.Join(t.TempDir(), "stripped")
	if err := os.WriteFile(out, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return out, separate
}

// alone opens objects by their path and nothing else.
type alone struct{ paths }

func (*alone) OpenBeside(*sample.Object, string) (*os.File, error) { return nil, os.ErrNotExist }

func sameNames(t *testing.T, path string) {
	p := openProgram(t, path)
	short, separate := stripped(t, path)
	if got, want := objfiletest.Open(t, short).BuildID(), objfiletest.Open(t, path).BuildID(); got != want {
		t.Errorf("build ID %s, want %s", got, want)
	}
	if info, err := elf.Open(short); err != nil {
		t.Error(err)
	} else {
		if text := info.Section(".text"); text == nil || text.Type != elf.SHT_NOBITS {
			t.Errorf("code is there: %+v", text)
		}
		info.Close()
	}
	newOne := func(files Files) *Symbolizer {
		s := newSymbolizer(t, Options{Files: files, TableBytes: 256 << 20, Demangle: DemangleNone})
		s.cache.loading.units = dwarfsym.NewUnits(256<<20/unitShare, 100, time.Hour)
		return s
	}
	before, after := newOne(&paths{}), newOne(&alone{})
	addrs := llvmtest.Draw(p.File, max(*addresses, 2000))
	have, inlined, shown := 0, 0, 0
	for _, addr := range addrs {
		loc := p.at(t, addr)
		want := before.Symbolize(loc)
		got := after.Symbolize(sample.Location{Object: &sample.Object{Kind: sample.File, Path: short}, Offset: loc.Offset})
		if got.Address != want.Address {
			t.Fatalf("offset %#x is at %#x, want %#x", loc.Offset, got.Address, want.Address)
		}
		if got.Frames[0].Function == OffsetName(short, addr) {
			got.Frames = named(OffsetName(path, addr))
		} else {
			have++
		}
		if len(want.Frames) > 1 {
			inlined++
		}
		if !reflect.DeepEqual(got.Frames, want.Frames) {
			if shown++; shown <= 10 {
				t.Errorf("%#x is\n\t%v\nwant\n\t%v", addr, got.Frames, want.Frames)
			}
		}
	}
	t.Logf("%d of %d have names, %d inlined calls; %d differ", have, len(addrs), inlined, shown)
	sameToLLVM(t, p, path, short, addrs, separate)
}

// sameToLLVM compares by what llvm-symbolizer says of both files.
func sameToLLVM(t *testing.T, p *program, path, short string, addrs []uint64, separate bool) {
	alias := aliases(t, p)
	original, differ := llvmtest.Ask(t, path, addrs, "--no-demangle"), 0
	for i, got := range llvmtest.Ask(t, short, addrs, "--no-demangle", "--debug-file-directory=/nowhere") {
		// It leaves out the symbols of a debug file, which are now those of the file itself.
		if last := len(got) - 1; separate && last >= 0 && last == len(original[i])-1 {
			name, _, _ := strings.Cut(got[last].FunctionName, "@")
			if want := original[i][last].FunctionName; want == "" || alias(name, want) || clone.ReplaceAllString(name, "") == want {
				got[last].FunctionName = want
			}
			if original[i][last].FileName == "" { // which symbols of local functions have, without lines
				got[last].FileName = ""
			}
		}
		if !reflect.DeepEqual(got, original[i]) {
			if differ++; differ <= 10 {
				t.Errorf("to llvm-symbolizer %#x is\n\t%v\nwant\n\t%v", addrs[i], got, original[i])
			}
		}
	}
	t.Logf("to llvm-symbolizer %d differ", differ)
}
