// SPDX-License-Identifier: Apache-2.0

package gosym

import (
	"bytes"
	stdelf "debug/elf"
	stdgosym "debug/gosym"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
	"github.com/fleetprof/fleetprof/internal/programtest"
	"github.com/fleetprof/fleetprof/sample"
)

// build compiles one of the programs in testdata.
func build(t testing.TB, program string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), program)
	cmd := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), "./testdata/"+program)...)
	cmd.Env = os.Environ()
	if program == "cgo" {
		programtest.Need(t, "gcc")
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", program, err, msg)
	}
	return out
}

func open(t testing.TB, path string) *Table {
	t.Helper()
	table, err := Open(objfiletest.Open(t, path))
	if err != nil {
		t.Fatalf("open table of %s: %v", path, err)
	}
	return table
}

func lookup(t testing.TB, table *Table, addr uint64) []sample.Frame {
	t.Helper()
	frames, err := table.Lookup(addr)
	if err != nil {
		t.Fatalf("look up %#x: %v", addr, err)
	}
	return frames
}

// every returns about n addresses spread over the Go code, at odd distances so
// that they fall inside of instructions and of all kinds of functions. The last
// byte of a function is left out: the witnesses that take return addresses
// would speak of the next function.
func every(table *Table, n uint64) []uint64 {
	var addrs []uint64
	first := table.index[0]
	for i := range n {
		addr := first + i*((table.end-first)/n|1)
		if !table.Contains(addr) || !table.Contains(addr+1) {
			break
		}
		q := query{Table: table, r: table.Reader(lookupBuffer)}
		if entry, err := q.find(addr + 1); err == nil && entry.Start != addr+1 {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// TestAgainstRuntime lets programs say of themselves what stands at thousands
// of addresses.
func TestAgainstRuntime(t *testing.T) {
	for name, flags := range map[string][]string{
		"default":     nil,
		"stripped":    {"-ldflags=-s -w"},
		"pie":         {"-buildmode=pie"},
		"trimpath":    {"-trimpath"},
		"no inlining": {"-gcflags=all=-l"},
	} {
		t.Run(name, func(t *testing.T) {
			askRuntime(t, build(t, "plain", flags...))
		})
	}
}

// askRuntime compares with what the program itself answers.
func askRuntime(t *testing.T, path string) {
	t.Helper()
	table := open(t, path)
	start := objfiletest.Open(t, path).Segments[0].Address
	addrs := every(table, 12000)
	var in bytes.Buffer
	for _, a := range addrs {
		fmt.Fprintf(&in, "%#x\n", a-start)
	}
	cmd := exec.Command(path)
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run program: %v", err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(addrs) {
		t.Fatalf("%d answers to %d questions", len(lines), len(addrs))
	}
	differ := 0
	for i, addr := range addrs {
		f := lookup(t, table, addr)[0]
		got := fmt.Sprintf("%s\t%s\t%d", f.Function, f.File, f.Line)
		// The runtime does not name the very first function, and shows a
		// question mark for the padding between functions.
		want := strings.Replace(lines[i], "\t?\t", "\t\t", 1)
		if strings.HasPrefix(want, "\t") && addr < table.index[0]+0x1000 {
			want = f.Function + want
		}
		if plainName(got) != plainName(want) {
			if differ++; differ < 10 {
				t.Errorf("%#x is %q, the runtime says %q", addr, got, lines[i])
			}
		}
	}
	t.Logf("%d of %d addresses differ", differ, len(addrs))
}

// TestInlinedAgainstDWARF compares whole chains of inlined calls with what llvm-symbolizer reads from DWARF.
func TestInlinedAgainstDWARF(t *testing.T) {
	tool := programtest.Need(t, "llvm-symbolizer-16")
	for _, c := range []struct {
		name, program string
		flags         []string
	}{
		{"default", "plain", nil},
		{"pie", "plain", []string{"-buildmode=pie"}},
		{"cgo", "cgo", []string{"-ldflags=-linkmode=external"}},
		{"cgo pie", "cgo", []string{"-buildmode=pie", "-ldflags=-linkmode=external"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := build(t, c.program, c.flags...)
			table := open(t, path)
			addrs := every(table, 12000)
			var in bytes.Buffer
			for _, a := range addrs {
				fmt.Fprintf(&in, "%#x\n", a)
			}
			cmd := exec.Command(tool, "--obj="+path, "--inlines", "--functions=linkage", "--no-demangle")
			cmd.Stdin = &in
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("run llvm-symbolizer: %v", err)
			}
			compareChains(t, table, addrs, strings.Split(string(out), "\n\n"))
		})
	}
}

func compareChains(t *testing.T, table *Table, addrs []uint64, answers []string) {
	t.Helper()
	compared, deepest, differ := 0, 0, 0
	for i, addr := range addrs {
		lines := strings.Split(strings.TrimSpace(answers[i]), "\n")
		// Assembly has no inlined calls, and places without a line are those
		// that DWARF has nothing to say about.
		if len(lines) < 2 || strings.Contains(answers[i], "??") || strings.Contains(answers[i], ".s:") ||
			strings.Contains(answers[i], ":0:0") {
			continue
		}
		var want, got []string
		for j := 0; j+1 < len(lines); j += 2 {
			place := filepath.Clean(lines[j+1][:strings.LastIndexByte(lines[j+1], ':')])
			want = append(want, plainName(lines[j])+" "+place)
		}
		for _, f := range lookup(t, table, addr) {
			got = append(got, plainName(f.Function)+" "+f.File+":"+strconv.FormatInt(f.Line, 10))
		}
		compared++
		deepest = max(deepest, len(got))
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			if differ++; differ < 5 {
				t.Errorf("%#x\n got %v\nwant %v", addr, got, want)
			}
		}
	}
	t.Logf("%d of %d addresses differ, up to %d frames deep", differ, compared, deepest)
	if compared < 1000 || deepest < 3 {
		t.Errorf("only %d addresses compared, %d frames deep", compared, deepest)
	}
}

// plainName takes off in what the witnesses differ: type arguments, which the
// runtime abbreviates, and how the linker spells its symbols.
func plainName(s string) string {
	s = strings.TrimSuffix(strings.ReplaceAll(s, "·", "."), ".abi0")
	if i := strings.IndexByte(s, '['); i >= 0 {
		if j := strings.LastIndexByte(s, ']'); j > i {
			s = s[:i] + s[j+1:]
		}
	}
	return s
}

// TestCgo looks at programs whose Go text does not start with .text.
func TestCgo(t *testing.T) {
	for name, flags := range map[string][]string{
		"internal":            {"-ldflags=-linkmode=internal"},
		"external":            {"-ldflags=-linkmode=external"},
		"external pie":        {"-buildmode=pie", "-ldflags=-linkmode=external"},
		"external static":     {"-ldflags=-linkmode=external -extldflags=-static"},
		"external static pie": {"-buildmode=pie", "-ldflags=-linkmode=external -extldflags=-static-pie"},
	} {
		t.Run(name, func(t *testing.T) { checkSymbols(t, build(t, "cgo", flags...)) })
	}
}

// checkSymbols compares with the ELF symbols of a program, and then does
// without them.
func checkSymbols(t *testing.T, path string) {
	t.Helper()
	f, err := stdelf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.Command("strip", path).CombinedOutput(); err != nil {
		t.Skipf("strip: %v %s", err, msg)
	}
	table := open(t, path)
	checked := 0
	for _, s := range symbols {
		if stdelf.ST_TYPE(s.Info) != stdelf.STT_FUNC || s.Size == 0 || !strings.Contains(s.Name, ".") ||
			strings.HasPrefix(s.Name, "go:") || strings.Contains(s.Name, "(.text") || !table.Contains(s.Value) {
			continue
		}
		frames := lookup(t, table, s.Value)
		got := frames[len(frames)-1].Function
		if plainName(got) != plainName(s.Name) {
			t.Errorf("%#x is %q, its symbol %q", s.Value, got, s.Name)
		}
		checked++
	}
	if checked < 1000 {
		t.Errorf("only %d functions checked", checked)
	}
	for _, s := range symbols {
		if s.Name == "c_add" && table.Contains(s.Value) && lookup(t, table, s.Value)[0].Function != "c_add" {
			t.Errorf("C code is named as Go's %v", lookup(t, table, s.Value))
		}
	}
}

// TestAgainstStandardLibrary has debug/gosym as the witness. It knows of no
// inlined calls: it gives the line of the innermost and the outermost name.
func TestAgainstStandardLibrary(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			t.Setenv("GOARCH", arch)
			t.Setenv("CGO_ENABLED", "0")
			askStandardLibrary(t, build(t, "plain"))
		})
	}
}

func askStandardLibrary(t *testing.T, path string) {
	t.Helper()
	f, err := stdelf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := f.Section(".gopclntab").Data()
	if err != nil {
		t.Fatal(err)
	}
	witness, err := stdgosym.NewTable(nil, stdgosym.NewLineTable(data, f.Section(".text").Addr))
	if err != nil {
		t.Fatal(err)
	}
	table := open(t, path)
	for _, addr := range every(table, 12000) {
		frames := lookup(t, table, addr)
		file, line, fn := witness.PCToLine(addr)
		in, out := frames[0], frames[len(frames)-1]
		line = max(line, 0) // -1 is the padding between functions
		if out.Function != fn.Name || in.File != file || int(in.Line) != line {
			t.Fatalf("%#x is %v, debug/gosym says %s %s:%d", addr, frames, fn.Name, file, line)
		}
	}
}

func TestNotGo(t *testing.T) {
	if _, err := os.Stat("/bin/true"); err != nil {
		t.Skip("this machine has no /bin/true")
	}
	if _, err := Open(objfiletest.Open(t, "/bin/true")); !errors.Is(err, ErrNoTable) {
		t.Errorf("open /bin/true: %v, want ErrNoTable", err)
	}
}

func TestOutside(t *testing.T) {
	table := open(t, build(t, "plain"))
	for _, addr := range []uint64{0, table.index[0] - 1, table.end, ^uint64(0)} {
		if frames := lookup(t, table, addr); frames != nil {
			t.Errorf("%#x is %v", addr, frames)
		}
	}
	if frames := lookup(t, table, table.end-1); len(frames) == 0 {
		t.Error("the last byte has no name")
	}
}

func BenchmarkLookup(b *testing.B) {
	table := open(b, build(b, "plain"))
	addrs := every(table, 12000)
	i := 0
	for b.Loop() {
		if _, err := table.Lookup(addrs[i%len(addrs)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkOpen(b *testing.B) {
	f := objfiletest.Open(b, build(b, "plain"))
	for b.Loop() {
		if _, err := Open(f); err != nil {
			b.Fatal(err)
		}
	}
}
