// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bufio"
	"bytes"
	"cmp"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
)

// change is a rule, as Rule.String shows it, and the address it starts at.
type change struct {
	addr uint64
	rule string
}

// TestAgainstDwarfdump compares every row of real files with the rows that LLVM
// computes from the same sections. There is no list of exceptions: expectedRule
// holds everything that is not to agree.
func TestAgainstDwarfdump(t *testing.T) {
	dwarfdump := tool(t, "llvm-dwarfdump-16", "llvm-dwarfdump")
	for _, pattern := range []string{
		"/lib/x86_64-linux-gnu/libc.so.6",
		"/lib64/ld-linux-x86-64.so.2",
		"/lib/x86_64-linux-gnu/libstdc++.so.6",
		"/bin/bash",
		"/usr/bin/python3.*[0-9]",
		"/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
		"/usr/lib/x86_64-linux-gnu/libLLVM-16.so.1",
		"/usr/lib/chromium/chromium",
		"/usr/bin/node",
		"/usr/aarch64-linux-gnu/lib/libc.so.6",
		"/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1",
	} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			t.Run(filepath.Base(path), func(t *testing.T) {
				compareWithDwarfdump(t, dwarfdump, path, "--eh-frame")
			})
		}
	}
}

func compareWithDwarfdump(t *testing.T, dwarfdump, path, section string) {
	t.Helper()
	want := dumpRows(t, exec.Command(dwarfdump, section, path))
	table, err := buildTable(objfiletest.Open(t, path), false) // the rest has nothing to compare with
	if err != nil {
		t.Fatal(err)
	}
	var got []change
	table.all(func(addr uint64, r Rule) bool {
		got = append(got, change{addr, r.String()})
		return true
	})
	// That nothing calls the entry point is known from elsewhere.
	entry := change{objfiletest.Open(t, path).Entry, Rule{Kind: End}.String()}
	if !slices.Contains(want, entry) {
		got = slices.DeleteFunc(got, func(c change) bool { return c == entry })
	}
	compareRows(t, got, want)
	t.Logf("%d rows in %d bytes, %d rules", len(got), table.Bytes(), len(table.Rules))
}

// compareRows reports the first few differences and fails if there are any.
func compareRows(t *testing.T, got, want []change) {
	t.Helper()
	differences := 0
	for i, j := 0, 0; i < len(got) || j < len(want); {
		switch {
		case i < len(got) && j < len(want) && got[i] == want[j]:
			i, j = i+1, j+1
			continue
		case j == len(want) || i < len(got) && got[i].addr < want[j].addr:
			t.Logf("at %#x got %s", got[i].addr, got[i].rule)
			i++
		case i == len(got) || got[i].addr > want[j].addr:
			t.Logf("at %#x want %s", want[j].addr, want[j].rule)
			j++
		default:
			t.Logf("at %#x got %s, want %s", got[i].addr, got[i].rule, want[j].rule)
			i, j = i+1, j+1
		}
		if differences++; differences == 20 {
			break
		}
	}
	if differences > 0 || len(want) == 0 {
		t.Errorf("rows differ; there are %d, want %d", len(got), len(want))
	}
}

var (
	fdeLine = regexp.MustCompile(`FDE cie=\S+ pc=([0-9a-f]+)\.\.\.([0-9a-f]+)`)
	rowLine = regexp.MustCompile(`^  0x([0-9a-f]+): CFA=(.*)$`)
)

// dumpRows runs a dump and returns its rows in order of addresses, with equal
// neighbours joined and gaps filled.
func dumpRows(t *testing.T, dump *exec.Cmd) []change {
	t.Helper()
	out, err := dump.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dump.Start(); err != nil {
		t.Fatal(err)
	}
	functions := readDump(t, out)
	if err := dump.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(functions, func(a, b dumped) int { return cmp.Compare(a.start, b.start) })
	var rows []change
	last := Rule{}.String()
	add := func(addr uint64, rule string) {
		if n := len(rows); n > 0 && rows[n-1].addr == addr {
			rows = rows[:n-1]
			last = Rule{}.String()
			if n > 1 {
				last = rows[n-2].rule
			}
		}
		if rule != last {
			rows, last = append(rows, change{addr, rule}), rule
		}
	}
	for _, f := range functions {
		for _, row := range f.rows {
			add(row.addr, row.rule)
		}
		add(f.end, Rule{}.String())
	}
	return rows
}

// dumped is one function of a dump.
type dumped struct {
	start, end uint64
	rows       []change
}

func readDump(t *testing.T, out io.Reader) []dumped {
	t.Helper()
	var functions []dumped
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		if m := fdeLine.FindStringSubmatch(line); m != nil {
			functions = append(functions, dumped{start: parseHex(t, m[1]), end: parseHex(t, m[2])})
		} else if m := rowLine.FindStringSubmatch(line); m != nil {
			f := &functions[len(functions)-1]
			f.rows = append(f.rows, change{parseHex(t, m[1]), expectedRule(m[2])})
		}
	}
	// Functions of no code, and those the linker discarded, which stand at 0.
	return slices.DeleteFunc(functions, func(f dumped) bool { return f.start == f.end || f.start == 0 })
}

func parseHex(t *testing.T, s string) uint64 {
	t.Helper()
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

var (
	offsetText = regexp.MustCompile(`^(\w+?)([-+]\d+)?$`)
	derefText  = regexp.MustCompile(`^DW_OP_breg\d+ (\w+)([-+]\d+), DW_OP_deref(?:, DW_OP_plus_uconst (\w+))?$`)
	pltText    = regexp.MustCompile(`^DW_OP_breg7 RSP\+8, DW_OP_breg16 RIP\+0, DW_OP_lit15, DW_OP_and, DW_OP_lit(\d+), DW_OP_ge, DW_OP_lit3, DW_OP_shl, DW_OP_plus$`)
	savedText  = regexp.MustCompile(`^\[CFA([-+]\d+)?\]$`)
	savedFP    = regexp.MustCompile(`^\[DW_OP_breg\d+ RBP([-+]\d+)\]$`)
)

// expectedRule translates a row as LLVM prints it, such as "RSP+16: RBP=[CFA-16],
// RIP=[CFA-8]".
func expectedRule(text string) string {
	cfa, list, _ := strings.Cut(text, ": ")
	saved := make(map[string]string)
	for _, s := range strings.Split(list, ", ") {
		register, place, _ := strings.Cut(s, "=")
		saved[register] = place
	}
	_, arm := saved["W30"]
	arm = arm || strings.HasPrefix(cfa, "W")
	ra := saved["RIP"]
	if arm {
		ra = cmp.Or(saved["W30"], "same")
	}
	if cfa == "DW_OP_breg7 RSP+160, DW_OP_deref" && ra == "[DW_OP_breg7 RSP+168]" {
		return "signal"
	}
	if ra == "undefined" {
		return "end"
	}
	rule, place := expectedCFA(cfa), expectedPlace(ra)
	if strings.HasPrefix(ra, "R") { // vfork, and __builtin_eh_return of GCC
		place = expectedBase(ra)
	}
	if rule == "" || place == "lost" || saved["RSP"] != "" {
		return "unsupported" // longjmp, makecontext, three expressions of OpenSSL
	}
	rule += " ra=" + place
	if strings.HasPrefix(rule, "sp+8 ra=c-8") && strings.Contains(list, "RBP=[DW_OP") {
		return rule // see frameIsGone
	}
	if saved["reg34"] == "1" {
		rule += " signed"
	}
	if p := expectedPlace(cmp.Or(saved["RBP"], saved["W29"], "same")); p != "same" {
		rule += " fp=" + p
	}
	if p := expectedPlace(cmp.Or(saved["RBX"], "same")); p != "same" {
		rule += " bx=" + p
	}
	return rule
}

func expectedCFA(text string) string {
	if m := pltText.FindStringSubmatch(text); m != nil {
		return "sp+8+plt" + m[1]
	}
	if m := derefText.FindStringSubmatch(text); m != nil {
		add, err := strconv.ParseInt(cmp.Or(m[3], "0"), 0, 64)
		if err != nil {
			return ""
		}
		return "*(" + expectedBase(m[1]) + m[2] + ")+" + strconv.FormatInt(add, 10)
	}
	if m := offsetText.FindStringSubmatch(text); m != nil {
		return expectedBase(m[1]) + cmp.Or(m[2], "+0")
	}
	return ""
}

func expectedBase(register string) string {
	names := []string{"RAX", "RDX", "RCX", "", "RSI", "RDI"}
	switch register {
	case "RSP", "WSP":
		return "sp"
	case "RBP", "W29":
		return "fp"
	case "RBX":
		return "bx"
	}
	if i := slices.Index(names, register); i >= 0 {
		return "r" + strconv.Itoa(i)
	}
	return "r" + register[1:]
}

func expectedPlace(text string) string {
	if m := savedText.FindStringSubmatch(text); m != nil {
		return "c" + cmp.Or(m[1], "+0")
	}
	if m := savedFP.FindStringSubmatch(text); m != nil {
		return "fp" + m[1]
	}
	if text == "same" {
		return "same"
	}
	return "lost"
}

// tool finds the first of several programs.
func tool(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skipf("this machine has no %s", names[0])
	return ""
}

func build(t testing.TB, path string) *Table {
	t.Helper()
	table, err := Build(objfiletest.Open(t, path))
	if err != nil {
		t.Fatalf("build table of %s: %v", path, err)
	}
	return table
}

// compile compiles a C program or library.
func compile(t testing.TB, compiler, source string, flags ...string) string {
	t.Helper()
	cc := tool(t, compiler)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "main.c"), filepath.Join(dir, "main")
	if err := os.WriteFile(in, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.Command(cc, append([]string{"-o", out, in}, flags...)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", compiler, err, msg)
	}
	return out
}

const framesSource = `
int callee(void *);
int variable(int n) { int a[n]; return callee(a) + 1; }
int fixed(int n) { int a[100]; a[n] = 1; return callee(a) + n; }
int many(int a, int b, int c, int d) { return callee(&a) + callee(&b) + callee(&c) + callee(&d); }
int leaf(int a) { return a * 3; }
`

// TestFlavours compares what compilers and linkers make of one source.
func TestFlavours(t *testing.T) {
	dwarfdump := tool(t, "llvm-dwarfdump-16", "llvm-dwarfdump")
	library := []string{"-shared", "-fPIC", "-O2"}
	for name, c := range map[string]struct {
		compiler, section string
		flags             []string
	}{
		"gcc":            {"gcc", "--eh-frame", library},
		"clang":          {"clang-16", "--eh-frame", library},
		"debug_frame":    {"gcc", "--debug-frame", append(library, "-g", "-nostdlib", "-fno-asynchronous-unwind-tables")},
		"realigned":      {"gcc", "--eh-frame", append(library, "-mstackrealign", "-mpreferred-stack-boundary=6")},
		"frame pointers": {"gcc", "--eh-frame", append(library, "-fno-omit-frame-pointer")},
		"arm64":          {"aarch64-linux-gnu-gcc", "--eh-frame", library},
		"fixed address":  {"gcc", "--eh-frame", []string{"-static", "-O2", "-nostdlib", "-Wl,-e,leaf,--unresolved-symbols=ignore-all"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := compile(t, c.compiler, framesSource, c.flags...)
			compareWithDwarfdump(t, dwarfdump, path, c.section)
		})
	}
}

// TestSigned follows the instructions that sign and authenticate the return
// address in a disassembly. (LLVM 16 does not show where signing ends.)
func TestSigned(t *testing.T) {
	objdump := tool(t, "aarch64-linux-gnu-objdump")
	for _, protection := range []string{"pac-ret", "pac-ret+leaf", "pac-ret+leaf+b-key"} {
		path := compile(t, "aarch64-linux-gnu-gcc", framesSource, "-shared", "-fPIC", "-O2", "-nostdlib", "-mbranch-protection="+protection)
		out, err := exec.Command(objdump, "-d", "-j", ".text", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		table, signed, changes := build(t, path), false, 0
		for _, m := range regexp.MustCompile(`(?m)^ +([0-9a-f]+):\t\S+ \t(\S+)`).FindAllStringSubmatch(string(out), -1) {
			if m[2] == "nop" || m[2] == "udf" {
				continue // between functions
			}
			addr := parseHex(t, m[1])
			if got := table.Lookup(addr); got.RA&Signed != 0 != signed || got.Kind != Offset {
				t.Errorf("%s: at %#x: %v, want signed %v", protection, addr, got, signed)
			}
			switch m[2] {
			case "paciasp", "pacibsp":
				signed, changes = true, changes+1
			case "autiasp", "autibsp":
				signed, changes = false, changes+1
			}
		}
		if changes < 6 {
			t.Errorf("%s: %d changes", protection, changes)
		}
	}
}

// TestWithoutSections finds .eh_frame through the program headers.
func TestWithoutSections(t *testing.T) {
	path := compile(t, "gcc", framesSource, "-shared", "-fPIC", "-O2")
	want := build(t, path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[40:48]) // e_shoff
	clear(b[60:64]) // e_shnum, e_shstrndx
	f, err := objfile.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Build(f)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) || want.Stats.FrameSpans == 0 {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
