// SPDX-License-Identifier: Apache-2.0

package strip_test

import (
	"bytes"
	"crypto/sha256"
	"debug/dwarf"
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/internal/programtest"
	"github.com/fleetprof/fleetprof/symbolize/strip"
)

const source = `
#include <stdio.h>
static int add(int a, int b) { return a + b; }
int main(int n, char **v) { return printf("%d\n", add(n, 1)); }
`

// build compiles a small C program.
func build(t testing.TB, flags ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "main.c"), filepath.Join(dir, "main")
	if err := os.WriteFile(in, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "gcc", append([]string{"-o", out, in}, flags...)...)
	return read(t, out)
}

func run(t testing.TB, program string, args ...string) {
	t.Helper()
	if text, err := exec.Command(programtest.Need(t, program), args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, text)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(t testing.TB, b []byte) *objfile.File {
	t.Helper()
	f, err := objfile.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

const limit = 64 << 20

func content(t testing.TB, f *strip.File) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil || int64(len(b)) != f.Size() {
		t.Fatalf("%d bytes of %d: %v", len(b), f.Size(), err)
	}
	return b
}

// What is kept is as it was, at any offset it is read from, and what else there was is not there.
func TestContent(t *testing.T) {
	whole := build(t, "-g", "-Wl,--build-id")
	f, err := strip.New(open(t, whole), nil, limit)
	if err != nil {
		t.Fatal(err)
	}
	all := content(t, f)
	piece := make([]byte, 1000)
	for off := int64(0); off < f.Size(); off += 777 {
		n, err := f.ReadAt(piece, off)
		if want := all[off:min(off+1000, f.Size())]; !bytes.Equal(piece[:n], want) || (err == io.EOF) != (n < 1000) {
			t.Fatalf("%d bytes at %d: %v", n, off, err)
		}
	}
	got, err := elf.NewFile(bytes.NewReader(all))
	if err != nil {
		t.Fatal(err)
	}
	before, err := elf.NewFile(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for i, s := range before.Sections {
		now := got.Sections[i]
		if now.Type == elf.SHT_NULL || now.Type == elf.SHT_NOBITS || s.Name == ".rela.plt" || s.Name == ".rela.dyn" {
			continue
		}
		a, errA := s.Data()
		b, errB := now.Data()
		if errA != nil || errB != nil || now.Name != s.Name || now.Addr != s.Addr || !bytes.Equal(a, b) {
			t.Errorf("%s is another: %v, %v", s.Name, errA, errB)
		}
		kept++
	}
	for name, there := range map[string]bool{
		".symtab": true, ".dynsym": true, ".debug_info": true, ".note.gnu.build-id": true, ".plt": true,
		".text": false, ".rodata": false, ".data": false, ".eh_frame": false, ".dynamic": false,
	} {
		if s := got.Section(name); s == nil || (s.Type != elf.SHT_NOBITS) != there {
			t.Errorf("%s is %+v", name, s)
		}
	}
	if kept < 10 || got.Section(".comment") != nil {
		t.Errorf("%d sections are kept", kept)
	}
	for i, p := range got.Progs {
		if p.Type != elf.PT_NOTE && p.Filesz > 0 && p.ProgHeader != before.Progs[i].ProgHeader {
			t.Errorf("segment %+v, was %+v", p.ProgHeader, before.Progs[i].ProgHeader)
		}
	}
}

// The build ID is found by segments as well, which is where tools look for it first.
func TestNotes(t *testing.T) {
	for _, flags := range [][]string{{"-Wl,--build-id"}, {"-Wl,--build-id", "-static"}} {
		f, err := strip.New(open(t, build(t, flags...)), nil, limit)
		if err != nil {
			t.Fatal(err)
		}
		all := content(t, f)
		want := open(t, all).BuildID()
		got, err := elf.NewFile(bytes.NewReader(all))
		if err != nil {
			t.Fatal(err)
		}
		found := ""
		for _, p := range got.Progs {
			if p.Type != elf.PT_NOTE {
				continue
			}
			notes, err := io.ReadAll(p.Open())
			if err != nil {
				t.Fatal(err)
			}
			if id := objfile.NoteBuildID(notes, p.Align); id != "" {
				found = id
			}
		}
		if want == "" || found != want {
			t.Errorf("build ID %q by segments, %q in all", found, want)
		}
	}
}

// A debug file and its program become one file, whose symbols and relocations go together.
func TestBoth(t *testing.T) {
	whole := build(t, "-g", "-Wl,--build-id", "-Wl,-z,lazy")
	dir := t.TempDir()
	program, debug := filepath.Join(dir, "program"), filepath.Join(dir, "debug")
	if err := os.WriteFile(program, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "objcopy", "--only-keep-debug", program, debug)
	run(t, "objcopy", "-S", program)
	f, err := strip.New(open(t, read(t, program)), open(t, read(t, debug)), limit)
	if err != nil {
		t.Fatal(err)
	}
	got, err := elf.NewFile(bytes.NewReader(content(t, f)))
	if err != nil {
		t.Fatal(err)
	}
	if symbols, err := got.Symbols(); err != nil || len(symbols) < 10 {
		t.Errorf("%d symbols: %v", len(symbols), err)
	}
	if symbols, err := got.DynamicSymbols(); err != nil || len(symbols) == 0 || symbols[0].Name == "" {
		t.Errorf("%d symbols are imported: %v", len(symbols), err)
	}
	if d, err := got.DWARF(); err != nil {
		t.Error(err)
	} else if entry, err := d.Reader().Next(); err != nil || entry == nil {
		t.Errorf("debug information: %v, %v", entry, err)
	}
	printf := false
	for r, err := range open(t, content(t, f)).Imports() {
		if err != nil {
			t.Fatal(err)
		}
		symbols, err := got.DynamicSymbols()
		if err != nil {
			t.Fatal(err)
		}
		printf = printf || symbols[r.Symbol-1].Name == "printf"
	}
	if !printf {
		t.Error("printf is not imported")
	}
}

func TestRefused(t *testing.T) {
	whole := build(t, "-g")
	f, err := strip.New(open(t, whole), nil, limit)
	if err != nil {
		t.Fatal(err)
	}
	size := f.Size()
	if _, err := strip.New(open(t, whole), nil, size); err != nil {
		t.Errorf("with just room enough: %v", err)
	}
	for _, limit := range []int64{size - 1, size / 2, 100, 0} {
		if _, err := strip.New(open(t, whole), nil, limit); !errors.Is(err, strip.ErrTooLarge) {
			t.Errorf("with %d bytes of %d: %v", limit, size, err)
		}
	}
	bare := build(t, "-s", "-static")
	if _, err := strip.New(open(t, bare), nil, limit); !errors.Is(err, strip.ErrNothing) {
		t.Errorf("without names: %v", err)
	}
	binary.LittleEndian.PutUint16(whole[16:], uint16(elf.ET_CORE))
	if _, err := strip.New(open(t, whole), nil, limit); !errors.Is(err, strip.ErrNothing) {
		t.Errorf("a core: %v", err)
	}
}

// shrinking is a file that loses its end.
type shrinking struct {
	b    []byte
	left int64
}

func (s *shrinking) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(s.b[:s.left]).ReadAt(b, off)
}

func TestShrinks(t *testing.T) {
	whole := build(t, "-g")
	under := &shrinking{whole, int64(len(whole))}
	object, err := objfile.Open(under, int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := strip.New(object, nil, limit)
	if err != nil {
		t.Fatal(err)
	}
	under.left /= 2
	if _, err := io.Copy(sha256.New(), io.NewSectionReader(f, 0, f.Size())); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v", err)
	}
}

// FuzzStrip strips files of any content: what comes out is an ELF file again, within the limit, which can be stripped again
// to the same.
func FuzzStrip(f *testing.F) {
	for _, flags := range [][]string{{"-g"}, {"-s"}, {"-g", "-gz", "-no-pie", "-Wl,-z,noseparate-code"}} {
		whole := build(f, append(flags, "-nostartfiles", "-Wl,-e,main")...)
		f.Add(whole, []byte(nil))
		f.Add(whole, whole)
	}
	f.Fuzz(func(t *testing.T, program, debug []byte) {
		const limit = 1 << 20
		object, err := objfile.Open(bytes.NewReader(program), int64(len(program)))
		if err != nil {
			return
		}
		var beside *objfile.File
		if len(debug) > 0 {
			if beside, err = objfile.Open(bytes.NewReader(debug), int64(len(debug))); err != nil {
				return
			}
		}
		s, err := strip.New(object, beside, limit)
		if err != nil {
			return
		}
		if s.Size() > limit {
			t.Fatalf("%d bytes", s.Size())
		}
		again, err := objfile.Open(bytes.NewReader(content(t, s)), s.Size())
		if err != nil {
			t.Fatal(err)
		}
		second, err := strip.New(again, nil, limit)
		if err != nil {
			t.Fatal(err)
		}
		if second.Size() != s.Size() {
			t.Errorf("stripped again it has %d bytes, was %d", second.Size(), s.Size())
		}
	})
}

// lineOfMain is what debug/dwarf says of the first instruction of main.
func lineOfMain(t *testing.T, r io.ReaderAt) string {
	t.Helper()
	file, err := elf.NewFile(r)
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := file.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	addr := symbols[slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == "main" })].Value
	data, err := file.DWARF()
	if err != nil {
		t.Fatal(err)
	}
	unit, err := data.Reader().SeekPC(addr)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := data.LineReader(unit)
	if err != nil {
		t.Fatal(err)
	}
	var at dwarf.LineEntry
	if err := lines.SeekPC(addr, &at); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s:%d", at.File.Name, at.Line)
}

// What other stores read with, the standard library of Go above all, finds its way: debug information to a
// line, the tables of a Go program to a function.
func TestStandardReaders(t *testing.T) {
	whole := build(t, "-g", "-O2")
	f, err := strip.New(open(t, whole), nil, limit)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := lineOfMain(t, f), lineOfMain(t, bytes.NewReader(whole)); got != want || !strings.Contains(got, "main.c") {
		t.Errorf("main is at %s, want %s", got, want)
	}
	out := filepath.Join(t.TempDir(), "plain")
	run(t, "go", "build", "-ldflags=-s -w", "-o", out, "../gosym/testdata/plain")
	if f, err = strip.New(open(t, read(t, out)), nil, limit); err != nil {
		t.Fatal(err)
	}
	file, err := elf.NewFile(f)
	if err != nil {
		t.Fatal(err)
	}
	pclntab, err := file.Section(".gopclntab").Data()
	if err != nil {
		t.Fatal(err)
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(pclntab, file.Section(".text").Addr))
	if err != nil {
		t.Fatal(err)
	}
	if f := table.LookupFunc("main.main"); f == nil || table.PCToFunc(f.Entry) != f {
		t.Errorf("main.main is %+v", f)
	}
}
