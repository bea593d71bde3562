// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const kallsyms = `0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000040 T first
ffffffff81000080 W weak_only
ffffffff81000100 t first_local
ffffffff81000100 W weak_alias
ffffffff81000200 T __sched_text_start
ffffffff81000200 T schedule
ffffffff81000300 T last_core
ffffffff81000400 T _etext
ffffffff81000500 D data_object
ffffffff82000000 T init_function
ffffffff82000100 T _einittext
ffffffffc0201000 t ext4_open	[ext4]
ffffffffc0200000 t ext4_read	[ext4]
ffffffffc0300000 t bpf_prog_6deef7357e7b4530_x	[bpf]
ffffffffc0300080 t bpf_trampoline_42	[bpf]
ffffffffc0400000 t __ftrace_trampoline	[__builtin__ftrace]
`

func write(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func options(path string) Options {
	return Options{
		Kallsyms:   path,
		Logger:     slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(),
	}
}

func openText(t testing.TB, text string) *Symbols {
	t.Helper()
	s, err := Open(options(write(t, filepath.Join(t.TempDir(), "kallsyms"), text)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLookup(t *testing.T) {
	s := openText(t, kallsyms)
	const stext = 0xffffffff81000000
	for _, c := range []struct {
		addr         uint64
		name, module string
		base         uint64
	}{
		{stext, "_stext", "", stext},
		{stext + 0x40, "first", "", stext},
		{stext + 0x7f, "first", "", stext},
		{stext + 0x80, "weak_only", "", stext},
		{stext + 0x1ff, "first_local", "", stext},
		{stext + 0x200, "schedule", "", stext},
		{stext + 0x3ff, "last_core", "", stext},
		{stext + 0x400, "", "", 0}, // behind the text
		{stext + 0x600, "", "", 0}, // data
		{stext - 1, "", "", 0},
		{stext + 0x1000000, "init_function", "", stext},
		{0xffffffffc0200010, "ext4_read", "ext4", 0xffffffffc0200000},
		{0xffffffffc0201000, "ext4_open", "ext4", 0xffffffffc0200000},
		{0xffffffffc0201000 + maxReach - 1, "ext4_open", "ext4", 0xffffffffc0200000},
		{0xffffffffc0201000 + maxReach, "", "", 0},
		{0xffffffffc0300004, "bpf_prog_6deef7357e7b4530_x", "bpf", 0xffffffffc0300000},
		{0xffffffffc0300084, "bpf_trampoline_42", "bpf", 0xffffffffc0300000},
		{0xffffffffc0400000, "__ftrace_trampoline", "__builtin__ftrace", 0xffffffffc0400000},
		{^uint64(0), "", "", 0},
		{0, "", "", 0},
	} {
		name, module, base, ok := s.Lookup(c.addr)
		if name != c.name || module != c.module || base != c.base || ok != (c.name != "") {
			t.Errorf("%#x is %q [%s] base %#x %v, want %q [%s] base %#x",
				c.addr, name, module, base, ok, c.name, c.module, c.base)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"restricted": {"0000000000000000 T _stext\n0000000000000000 t do_one\n", ErrRestricted},
		"empty":      {"", nil},
		"data only":  {"ffffffff81000500 D data_object\n", nil},
		"no hex":     {"xyz T f\n", nil},
		"two fields": {"ffffffff81000500 T\n", nil},
		"endless":    {"ffffffff81000500 T " + strings.Repeat("x", 1<<20), nil},
	} {
		_, err := Open(options(write(t, filepath.Join(dir, "kallsyms"), c.text)))
		if err == nil || (c.want != nil && !errors.Is(err, c.want)) {
			t.Errorf("%s: %v", name, err)
		}
		if c.want == nil && errors.Is(err, ErrRestricted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(options(filepath.Join(dir, "missing"))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestReload(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "kallsyms"), kallsyms)
	o := options(path)
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	s.now = func() time.Time { return now }
	const addr = 0xffffffffc0500010
	find := func() string { name, _, _, _ := s.Lookup(addr); return name }

	write(t, path, kallsyms+"ffffffffc0500000 t xfs_read\t[xfs]\n")
	if got := find(); got != "" {
		t.Fatalf("found %q before the interval passed", got)
	}
	now = now.Add(2 * reloadInterval)
	if got := find(); got != "xfs_read" {
		t.Fatalf("found %q after the interval passed", got)
	}
	// A kernel that starts to hide its symbols does not take away the old ones.
	write(t, path, "0000000000000000 T _stext\n")
	now = now.Add(2 * reloadInterval)
	if _, _, _, ok := s.Lookup(1); ok || find() != "xfs_read" {
		t.Error("old symbols are lost")
	}
	for result, want := range map[string]float64{"ok": 1, "error": 1} {
		if got := testutil.ToFloat64(s.reloads.WithLabelValues(result)); got != want {
			t.Errorf("%v reloads with result %s, want %v", got, result, want)
		}
	}
}

func TestBuildID(t *testing.T) {
	dir := t.TempDir()
	note := "\x04\x00\x00\x00\x03\x00\x00\x00\x06\x00\x00\x00Xen\x00abc\x00" +
		"\x04\x00\x00\x00\x08\x00\x00\x00\x03\x00\x00\x00GNU\x00\x01\x23\x45\x67\x89\xab\xcd\xef"
	o := options(write(t, filepath.Join(dir, "kallsyms"), kallsyms))
	o.Notes = write(t, filepath.Join(dir, "notes"), note)
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.BuildID(); got != "0123456789abcdef" {
		t.Errorf("build ID is %q", got)
	}
	o.Notes, o.Registerer = filepath.Join(dir, "missing"), prometheus.NewRegistry()
	if s, err = Open(o); err != nil || s.BuildID() != "" {
		t.Errorf("without notes: %v", err)
	}
}

// openRunning opens the symbols of the kernel that runs the test.
func openRunning(t testing.TB) *Symbols {
	t.Helper()
	o := options("/proc/kallsyms")
	o.Notes = "/sys/kernel/notes"
	s, err := Open(o)
	if errors.Is(err, ErrRestricted) || errors.Is(err, os.ErrNotExist) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRunningKernel looks up every symbol of code of the running kernel and
// expects one of the names it has.
func TestRunningKernel(t *testing.T) {
	s := openRunning(t)
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	names := make(map[uint64][]string)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if strings.Contains("TtWw", fields[1]) && !endOfText(fields[2]) {
			addr, _ := strconv.ParseUint(fields[0], 16, 64)
			names[addr] = append(names[addr], fields[2])
		}
	}
	missed := 0
	for addr, want := range names {
		got, _, base, ok := s.Lookup(addr)
		if !ok || base == 0 || !strings.Contains(" "+strings.Join(want, " ")+" ", " "+got+" ") {
			missed++ // BPF programs may have come or gone in between
		}
	}
	t.Logf("%d addresses, %d missed, %d KiB, build ID %s", len(names), missed, s.table.Load().bytes()>>10, s.BuildID())
	if missed > 20 {
		t.Errorf("%d of %d addresses are not named", missed, len(names))
	}
	if s.table.Load().bytes() > 10<<20 {
		t.Errorf("table takes %d bytes", s.table.Load().bytes())
	}
}

func FuzzParse(f *testing.F) {
	f.Add(kallsyms, uint64(0xffffffff81000040))
	f.Add("0000000000000000 T _stext\n", uint64(0))
	f.Add("ffffffffffffffff t x\t[y]", ^uint64(0))
	f.Fuzz(func(t *testing.T, text string, addr uint64) {
		table, err := parse(strings.NewReader(text))
		if err != nil {
			return
		}
		for i, s := range table.symbols {
			if i > 0 && table.symbols[i-1].addr >= s.addr {
				t.Fatalf("symbols %d and %d are not in order", i-1, i)
			}
			if name, _, _, ok := table.lookup(s.addr); ok != !endOfText(table.name(s)) || (ok && name != table.name(s)) {
				t.Fatalf("%#x is %q, want %q", s.addr, name, table.name(s))
			}
		}
		if name, _, base, ok := table.lookup(addr); ok && (name == "" || base == 0) {
			t.Fatalf("%#x is %q at base %#x", addr, name, base)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	s := openRunning(b)
	text, err := os.ReadFile(s.path)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := parse(bytes.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(s.table.Load().bytes()), "table-bytes")
	b.ReportMetric(float64(len(s.table.Load().symbols)), "symbols")
}

func BenchmarkLookup(b *testing.B) {
	var text strings.Builder
	for i := range 200000 {
		fmt.Fprintf(&text, "%x T function_number_%d\n", 0xffffffff81000000+uint64(i)*64, i)
	}
	t, err := parse(strings.NewReader(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		if _, _, _, ok := t.lookup(0xffffffff81000000 + uint64(i*64%(200000*64))); !ok {
			b.Fatal(io.ErrUnexpectedEOF)
		}
		i += 7919
	}
}
