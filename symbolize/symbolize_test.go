// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fleetprof/fleetprof/internal/programtest"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/kernel"
	"github.com/prometheus/client_golang/prometheus"
)

// paths opens objects by their path and counts how often.
type paths struct{ opened atomic.Int64 }

func (p *paths) Open(o *sample.Object) (*os.File, error) {
	p.opened.Add(1)
	return os.Open(o.Path)
}

func (p *paths) OpenBeside(_ *sample.Object, path string) (*os.File, error) { return os.Open(path) }

// nothing has no files.
type nothing struct{}

func (nothing) Open(*sample.Object) (*os.File, error) { return nil, os.ErrNotExist }

func (nothing) OpenBeside(*sample.Object, string) (*os.File, error) { return nil, os.ErrNotExist }

func newSymbolizer(t testing.TB, o Options) *Symbolizer {
	t.Helper()
	if o.Files == nil {
		o.Files = &paths{}
	}
	o.Logger = slog.New(slog.DiscardHandler)
	o.Registerer = prometheus.NewRegistry()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// compile runs a compiler and returns the path of the program.
func compile(t testing.TB, compiler string, args ...string) string {
	t.Helper()
	path := programtest.Need(t, compiler)
	out := filepath.Join(t.TempDir(), "program")
	if compiler == "go" {
		args = append([]string{"build", "-o", out}, args...)
	} else {
		args = append(args, "-o", out)
	}
	if msg, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", compiler, strings.Join(args, " "), err, msg)
	}
	return out
}

// program is a file with its symbols as debug/elf reads them.
type program struct {
	*elf.File
	object  *sample.Object
	symbols map[string]elf.Symbol
}

func openProgram(t testing.TB, path string) *program {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	p := &program{f, &sample.Object{Kind: sample.File, Path: path}, make(map[string]elf.Symbol)}
	symbols, err := f.Symbols()
	if errors.Is(err, elf.ErrNoSymbols) {
		symbols, err = f.DynamicSymbols()
	}
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Section != elf.SHN_UNDEF {
			p.symbols[s.Name] = s
		}
	}
	return p
}

// at is the location of an address as linked.
func (p *program) at(t testing.TB, addr uint64) sample.Location {
	t.Helper()
	for _, s := range p.Progs {
		if s.Type == elf.PT_LOAD && addr >= s.Vaddr && addr < s.Vaddr+s.Filesz {
			return sample.Location{Object: p.object, Offset: addr - s.Vaddr + s.Off}
		}
	}
	t.Fatalf("%#x is not in the file", addr)
	return sample.Location{}
}

func TestKinds(t *testing.T) {
	kallsyms := filepath.Join(t.TempDir(), "kallsyms")
	text := "ffffffff81000000 T _stext\nffffffff81000040 T schedule\nffffffff81000400 T _etext\n" +
		"ffffffffc0200000 t ext4_init\t[ext4]\nffffffffc0200040 t ext4_read\t[ext4]\n"
	if err := os.WriteFile(kallsyms, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := kernel.Open(kernel.Options{
		Kallsyms:   kallsyms,
		Logger:     slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	with := newSymbolizer(t, Options{Kernel: k, Files: nothing{}})
	without := newSymbolizer(t, Options{Files: nothing{}})
	for _, c := range []struct {
		s       *Symbolizer
		object  sample.Object
		offset  uint64
		name    string
		address uint64
		file    string
	}{
		{with, sample.Object{Kind: sample.Marker, Path: "[truncated: too deep]"}, 0, "[truncated: too deep]", 0, ""},
		{with, sample.Object{Kind: sample.Anonymous, Path: "[anon]"}, 0x7f0012345678, "[anon]", 0, "[anon]"},
		{with, sample.Object{Kind: sample.Unknown}, 0x7f0012345678, "[unknown]", 0, "[unknown]"},
		{with, sample.Object{Kind: sample.Kernel}, 0xffffffff81000050, "schedule", 0x50, "[kernel.kallsyms]"},
		{with, sample.Object{Kind: sample.Kernel}, 0xffffffffc0200044, "ext4_read", 0x44, "[ext4]"},
		{with, sample.Object{Kind: sample.Kernel}, 0xffffffff81000500, "[kernel]", 0, "[kernel]"},
		{without, sample.Object{Kind: sample.Kernel}, 0xffffffff81000050, "[kernel]", 0, "[kernel]"},
		{without, sample.Object{Kind: sample.VDSO, Path: "[vdso]"}, 0x777, "[vdso]+0x777", 0x777, "[vdso]"},
		{without, sample.Object{Path: "/opt/gone"}, 0x1234, "gone+0x1234", 0x1234, "/opt/gone"},
		{without, sample.Object{Path: "/opt/gone (deleted)"}, 0x1234, "gone+0x1234", 0x1234, "/opt/gone (deleted)"},
		{without, sample.Object{Path: "/opt/b\xffd"}, 1, "b\uFFFDd+0x1", 1, "/opt/b\xffd"},
	} {
		got := c.s.Symbolize(sample.Location{Object: &c.object, Offset: c.offset})
		if len(got.Frames) != 1 || got.Frames[0].Function != c.name || got.Address != c.address || got.Segment.File != c.file {
			t.Errorf("%+v %#x: %+v, want %s at %#x of %s", c.object, c.offset, got, c.name, c.address, c.file)
		}
	}
}

// TestCPlusPlus compares all functions of a C++ program with c++filt.
func TestCPlusPlus(t *testing.T) {
	p := openProgram(t, compile(t, "g++", "-O1", "-g0", "testdata/shapes.cc"))
	filter := programtest.Need(t, "c++filt")
	s, short, raw := newSymbolizer(t, Options{Demangle: DemangleFull}), newSymbolizer(t, Options{}), newSymbolizer(t, Options{Demangle: DemangleNone})
	aliases := make(map[uint64]map[string]bool)
	for _, sym := range p.symbols {
		if aliases[sym.Value] == nil {
			aliases[sym.Value] = make(map[string]bool)
		}
		aliases[sym.Value][sym.Name] = true
	}
	checked := make(map[string]bool)
	for name, sym := range p.symbols {
		if elf.ST_TYPE(sym.Info) != elf.STT_FUNC || !strings.HasPrefix(name, "_Z") || sym.Size == 0 {
			continue
		}
		got := s.Symbolize(p.at(t, sym.Value+sym.Size-1)).Frames[0]
		if !aliases[sym.Value][got.SystemName] {
			t.Errorf("%#x has the linker's name %q, want one of %v", sym.Value, got.SystemName, aliases[sym.Value])
			continue
		}
		out, err := exec.Command(filter, got.SystemName).Output()
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.TrimSpace(string(out)); got.Function != want {
			t.Errorf("%s reads %q, c++filt says %q", got.SystemName, got.Function, want)
		}
		if name := raw.Symbolize(p.at(t, sym.Value)).Frames[0]; name.Function != got.SystemName || name.SystemName != "" {
			t.Errorf("%s is %+v if not demangled", got.SystemName, name)
		}
		checked[short.Symbolize(p.at(t, sym.Value)).Frames[0].Function] = true
	}
	for _, name := range []string{
		"shop::price", "shop::Cart::add", "shop::Cart::operator<", "shop::(anonymous namespace)::hidden", "std::vector::~vector",
	} {
		if !checked[name] {
			t.Errorf("%s is missing among %d functions", name, len(checked))
		}
	}
}

func TestRust(t *testing.T) {
	t.Setenv("RUSTC_BOOTSTRAP", "1") // the old mangling is an unstable option by now
	for _, mangling := range []string{"legacy", "v0"} {
		t.Run(mangling, func(t *testing.T) {
			p := openProgram(t, compile(t, "rustc", "-O", "-Zunstable-options",
				"-Csymbol-mangling-version="+mangling, "testdata/shapes.rs"))
			s := newSymbolizer(t, Options{})
			found := make(map[string]bool)
			for name, sym := range p.symbols {
				if elf.ST_TYPE(sym.Info) == elf.STT_FUNC && strings.Contains(name, "4shop") {
					found[s.Symbolize(p.at(t, sym.Value)).Frames[0].Function] = true
				}
			}
			add := map[string]string{"legacy": "program::shop::Cart<T>::add", "v0": "<program::shop::Cart>::add"}
			for _, want := range []string{"program::shop::price", add[mangling]} {
				want = strings.ReplaceAll(want, "program", "shapes")
				if !found[want] {
					t.Errorf("no function %s among %v", want, found)
				}
			}
		})
	}
}

// TestGo looks for Go and C functions in a program with both, stripped of its
// symbols where that leaves Go's own table.
func TestGo(t *testing.T) {
	whole := openProgram(t, compile(t, "go", "-ldflags=-linkmode=external", "./gosym/testdata/cgo"))
	stripped := openProgram(t, compile(t, "go", "-ldflags=-linkmode=external -s", "./gosym/testdata/cgo"))
	s := newSymbolizer(t, Options{})

	addr := whole.symbols["main.main"].Value
	f := s.Symbolize(whole.at(t, addr)).Frames[0]
	if f.Function != "main.main" || f.SystemName != "" || !strings.HasSuffix(f.File, "testdata/cgo/main.go") || f.Line == 0 {
		t.Errorf("main.main is %+v", f)
	}
	for name, sym := range whole.symbols {
		if strings.HasSuffix(name, "c_add") && elf.ST_TYPE(sym.Info) == elf.STT_FUNC {
			if got := s.Symbolize(whole.at(t, sym.Value)).Frames[0].Function; got != name {
				t.Errorf("C function %s is %s", name, got)
			}
		}
	}
	found := false
	text := stripped.Section(".text")
	for addr := text.Addr; addr < text.Addr+text.Size && !found; addr += 16 {
		found = s.Symbolize(stripped.at(t, addr)).Frames[0].Function == "main.main"
	}
	if !found {
		t.Error("no main.main in a stripped program")
	}
}

// TestUnnamed looks at what no symbol covers: the procedure linkage table.
func TestUnnamed(t *testing.T) {
	p := openProgram(t, compile(t, "gcc", "-pie", "-fPIE", "elfsym/testdata/zoo.c"))
	plt := p.Section(".plt").Addr
	got := newSymbolizer(t, Options{}).Symbolize(p.at(t, plt))
	want := fmt.Sprintf("program+%#x", plt)
	if got.Frames[0].Function != want || got.Address != plt {
		t.Errorf("%+v, want %s", got, want)
	}
	if got.Segment.BuildID == "" {
		t.Error("no build ID")
	}
}

func TestOversized(t *testing.T) {
	p := openProgram(t, compile(t, "gcc", "-static", "elfsym/testdata/zoo.c"))
	s := newSymbolizer(t, Options{TableBytes: 1 << 10})
	main := p.symbols["main"].Value
	got := s.Symbolize(p.at(t, main))
	if want := fmt.Sprintf("program+%#x", main); got.Frames[0].Function != want || got.Address != main {
		t.Errorf("%+v, want %s", got, want)
	}
	if n := counter(t, s.metrics.failures.WithLabelValues(reasonOversized)); n != 1 {
		t.Errorf("%v oversized objects counted", n)
	}
}

// TestVDSO names the functions of this process' own vDSO.
func TestVDSO(t *testing.T) {
	image, start := ownVDSO(t)
	s := newSymbolizer(t, Options{VDSO: image})
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	aliases := make(map[uint64]string)
	for _, sym := range symbols {
		aliases[sym.Value] += sym.Name + " "
	}
	checked := 0
	o := &sample.Object{Kind: sample.VDSO, Path: "[vdso]"}
	for _, sym := range symbols {
		if elf.ST_TYPE(sym.Info) != elf.STT_FUNC || sym.Size == 0 {
			continue
		}
		got := s.Symbolize(sample.Location{Object: o, Offset: sym.Value}) // linked at 0
		if !strings.Contains(aliases[sym.Value], got.Frames[0].Function+" ") {
			t.Errorf("%#x is %v, want %s", sym.Value, got.Frames, aliases[sym.Value])
		}
		checked++
	}
	if checked == 0 {
		t.Errorf("no functions in the vDSO at %#x", start)
	}
}

// ownVDSO copies the image out of this process, see vdso(7).
func ownVDSO(t testing.TB) (image []byte, start uint64) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(maps)) {
		var end uint64
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x", &start, &end); err != nil {
			t.Fatal(err)
		}
		mem, err := os.Open("/proc/self/mem")
		if err != nil {
			t.Skip(err)
		}
		defer mem.Close()
		image = make([]byte, end-start)
		if _, err := mem.ReadAt(image, int64(start)); err != nil {
			t.Skip(err)
		}
		return image, start
	}
	t.Skip("this process has no vDSO")
	return nil, 0
}

func TestBadVDSO(t *testing.T) {
	_, err := New(Options{
		Files: nothing{}, VDSO: []byte("no ELF"),
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err == nil {
		t.Error("accepted a vDSO that is no ELF file")
	}
}
