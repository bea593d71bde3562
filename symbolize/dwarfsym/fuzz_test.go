// SPDX-License-Identifier: Apache-2.0

package dwarfsym_test

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/llvmtest"
)

// What a file beside a program is.
const (
	isSplit = iota
	isPackage
	isSupplement
	kinds
)

// FuzzBeside names code of a program with a file beside it that has any content: whatever it says, it ends.
func FuzzBeside(f *testing.F) {
	var programs [kinds][]string
	add := func(kind int, program, beside string) {
		text, err := os.ReadFile(beside)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(kind), uint8(len(programs[kind])), text)
		programs[kind] = append(programs[kind], program)
	}
	for _, v := range []struct{ version, packer string }{{"-gdwarf-4", "dwp"}, {"-gdwarf-5", "llvm-dwp-16"}} {
		for _, compiler := range []string{"gcc", "clang-16"} {
			program := splitOff(compiler, "testdata/inline.c", "-O2", v.version, "-fdebug-types-section")(f)
			split, err := filepath.Glob(filepath.Dir(program) + "/*.dwo")
			if err != nil || len(split) != 2 {
				f.Fatalf("split units are %v: %v", split, err)
			}
			add(isSplit, program, split[0])
			runIn(f, filepath.Dir(program), v.packer, "-e", program, "-o", program+".dwp")
			add(isPackage, program, program+".dwp")
		}
		program := compiled("gcc", "testdata/inline.c", "-O2", "-lm", "-g", v.version)(f)
		other := compiled("gcc", "testdata/inline.c", "-O1", "-lm", "-g", v.version)(f)
		run(f, "dwz", "-m", other+".common", program, other)
		add(isSupplement, program, other+".common")
	}
	f.Fuzz(func(t *testing.T, kind, program uint8, content []byte) {
		of := programs[kind%kinds]
		path := of[int(program)%len(of)]
		beside, err := objfile.Open(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			return
		}
		o := options(t, path)
		o.Problem = nil
		switch kind % kinds {
		case isSplit:
			o.SplitFiles = func(_, _ string, use func(*objfile.File) error) error { return use(beside) }
		case isPackage:
			o.Package = beside
		case isSupplement:
			o.Supplement = beside
		}
		begin := time.Now()
		defer func() {
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		}()
		table, err := dwarfsym.Open(o.Code, o)
		if err != nil {
			t.Fatal(err) // the program itself is right
		}
		defer table.Close()
		file, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for _, addr := range llvmtest.Draw(file, 64) {
			if frames, err := table.Lookup(addr); err == nil && len(frames) > 1<<10 {
				t.Errorf("%d frames", len(frames))
			}
		}
	})
}
