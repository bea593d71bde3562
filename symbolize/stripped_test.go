// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"debug/elf"
	"encoding/hex"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/programtest"
	"github.com/fleetprof/fleetprof/sample"
)

// TestMiniDebugInfo strips a program as distributions do that ship MiniDebugInfo, and finds all
// functions of the program as it was.
// https://sourceware.org/gdb/current/onlinedocs/gdb.html/MiniDebugInfo.html
func TestMiniDebugInfo(t *testing.T) {
	path := compile(t, "g++", "-O1", "-g", "testdata/shapes.cc")
	whole := openProgram(t, path)
	for _, args := range [][]string{
		{"objcopy", "--only-keep-debug", path, path + ".debug"},
		{"objcopy", "-S", "--remove-section", ".gdb_index", "--remove-section", ".comment",
			"--keep-symbols=" + functionNames(t, whole), path + ".debug", path + ".mini"},
		{"xz", path + ".mini"},
		{"objcopy", "-S", "--add-section", ".gnu_debugdata=" + path + ".mini.xz", path, path + ".stripped"},
	} {
		if out, err := exec.Command(programtest.Need(t, args[0]), args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	stripped := openProgram(t, path+".stripped")
	s, before := newSymbolizer(t, Options{}), newSymbolizer(t, Options{})
	n := 0
	for name, sym := range whole.symbols {
		if elf.ST_TYPE(sym.Info) != elf.STT_FUNC || sym.Size == 0 {
			continue
		}
		got, want := s.Symbolize(stripped.at(t, sym.Value)), before.Symbolize(whole.at(t, sym.Value))
		// Of aliases at one address, such as constructors C1 and C2, either may be chosen.
		if got, want := outermost(got), outermost(want); got.Function != want.Function {
			t.Errorf("%s is %+v, with all symbols %+v", name, got, want)
		}
		n++
	}
	if n < 10 {
		t.Errorf("the program has %d functions only", n)
	}
	sameNames(t, path+".stripped")
}

// outermost is the function that the linker knows.
func outermost(s sample.Symbolized) sample.Frame { return s.Frames[len(s.Frames)-1] }

// functionNames writes the names of a program's functions into a file.
func functionNames(t *testing.T, p *program) (path string) {
	t.Helper()
	var names strings.Builder
	for name, sym := range p.symbols {
		if elf.ST_TYPE(sym.Info) == elf.STT_FUNC {
			names.WriteString(name + "\n")
		}
	}
	path = t.TempDir() + "/names"
	if err := os.WriteFile(path, []byte(names.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestStubs names calls into C++ libraries as people read them.
func TestStubs(t *testing.T) {
	p := openProgram(t, compile(t, "g++", "-O1", "-Wl,-z,lazy", "testdata/shapes.cc"))
	s, found := newSymbolizer(t, Options{}), false
	plt := p.Section(".plt")
	for addr := plt.Addr; addr < plt.Addr+plt.Size; addr += 16 {
		f := s.Symbolize(p.at(t, addr)).Frames[0]
		found = found || f.Function == "operator new@plt" && f.SystemName == "_Znwm@plt"
	}
	if !found {
		t.Error("no operator new@plt")
	}
}

// TestDebugPackage names all functions of the C library by the file that the package libc6-dbg
// has, which is where nm finds them.
func TestDebugPackage(t *testing.T) {
	libc := openProgram(t, loaded(t, "libc.so.6"))
	id := buildIDOf(t, libc)
	debug := "/usr/lib/debug/.build-id/" + id[:2] + "/" + id[2:] + ".debug"
	if _, err := os.Stat(debug); err != nil {
		t.Skip(err)
	}
	f, err := elf.Open(debug)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[uint64]map[string]bool)
	for _, s := range symbols {
		if kind := elf.ST_TYPE(s.Info); kind != elf.STT_FUNC && kind != elf.STT_GNU_IFUNC || s.Section == elf.SHN_UNDEF || s.Size == 0 {
			continue
		}
		if names[s.Value] == nil {
			names[s.Value] = make(map[string]bool)
		}
		name, _, _ := strings.Cut(s.Name, "@")
		names[s.Value][name] = true
	}
	s := newSymbolizer(t, Options{})
	for addr, want := range names {
		if got := outermost(s.Symbolize(libc.at(t, addr))).Function; !want[got] {
			t.Errorf("%#x is %s, want one of %v", addr, got, want)
		}
	}
	if len(names) < 2000 {
		t.Errorf("%d functions only", len(names))
	}
}

// loaded is the path of a library that programs here run with.
func loaded(t testing.TB, library string) string {
	t.Helper()
	out, err := exec.Command("ldd", "/bin/sh").Output()
	if err != nil {
		t.Skip(err)
	}
	for _, field := range strings.Fields(string(out)) {
		if strings.HasSuffix(field, "/"+library) {
			return field
		}
	}
	t.Skipf("no %s in %s", library, out)
	return ""
}

func buildIDOf(t *testing.T, p *program) string {
	t.Helper()
	note := p.Section(".note.gnu.build-id")
	if note == nil {
		t.Skip("no build ID")
	}
	b, err := note.Data()
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b[16:])
}
