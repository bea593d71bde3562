// SPDX-License-Identifier: Apache-2.0

package objfile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/fleetprof/fleetprof/internal/programtest"
)

const source = `
int table[4] = {1, 2, 3, 4};
int *pointer = &table[2];
int main(void) { return *pointer; }
`

// build compiles a small C program.
func build(t testing.TB, flags ...string) string {
	t.Helper()
	gcc := programtest.Need(t, "gcc")
	dir := t.TempDir()
	src, out := filepath.Join(dir, "main.c"), filepath.Join(dir, "main")
	if err := os.WriteFile(src, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.Command(gcc, append([]string{"-o", out, src}, flags...)...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, msg)
	}
	return out
}

func open(t testing.TB, path string) *File {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	return f
}

var flavours = map[string][]string{
	"pie":         {"-pie", "-fPIE"},
	"fixed":       {"-no-pie"},
	"static":      {"-static"},
	"one segment": {"-no-pie", "-Wl,-z,noseparate-code"},
	"large pages": {"-pie", "-fPIE", "-Wl,-z,max-page-size=65536,-z,common-page-size=65536"},
	"packed":      {"-pie", "-fPIE", "-Wl,-z,pack-relative-relocs"},
	"no build id": {"-Wl,--build-id=none"},
	"stripped":    {"-s"},
}

// TestAgainstDebugELF compares everything read with what debug/elf reads.
func TestAgainstDebugELF(t *testing.T) {
	for name, flags := range flavours {
		t.Run(name, func(t *testing.T) {
			path := build(t, flags...)
			got := open(t, path)
			want, err := elf.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer want.Close()
			if got.Type != want.Type || got.Machine != want.Machine {
				t.Errorf("type %v machine %v, want %v %v", got.Type, got.Machine, want.Type, want.Machine)
			}
			compareSections(t, got, want)
			compareAddresses(t, got, want)
			compareSymbols(t, got, want, elf.SHT_SYMTAB, want.Symbols)
			compareSymbols(t, got, want, elf.SHT_DYNSYM, want.DynamicSymbols)
		})
	}
}

func compareSections(t *testing.T, got *File, want *elf.File) {
	t.Helper()
	if len(got.Sections) != len(want.Sections) {
		t.Fatalf("%d sections, want %d", len(got.Sections), len(want.Sections))
	}
	for i, s := range got.Sections {
		w := want.Sections[i]
		if s.Name != w.Name || s.Type != w.Type || s.Flags != w.Flags || s.Address != w.Addr ||
			s.Offset != w.Offset || s.Size != w.FileSize || s.Link != w.Link || s.Align != w.Addralign {
			t.Errorf("section %d is %+v, want %+v", i, s, w.SectionHeader)
		}
	}
}

// compareAddresses checks both directions for every section with content.
func compareAddresses(t *testing.T, got *File, want *elf.File) {
	t.Helper()
	for _, s := range want.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 || s.Type == elf.SHT_NOBITS || s.Size == 0 {
			continue
		}
		last := s.Size - 1
		if addr, seg, ok := got.Locate(s.Offset + last); !ok || addr != s.Addr+last {
			t.Errorf("last byte of %s is at %#x %v, want %#x", s.Name, addr, ok, s.Addr+last)
		} else if exec := s.Flags&elf.SHF_EXECINSTR != 0; exec && seg.Flags&elf.PF_X == 0 {
			t.Errorf("%s lies in %+v", s.Name, seg)
		}
		if off, ok := got.Offset(s.Addr); !ok || off != s.Offset {
			t.Errorf("%s starts at offset %#x %v, want %#x", s.Name, off, ok, s.Offset)
		}
		b := make([]byte, s.Size)
		data, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		if err := got.ReadAddress(b, s.Addr); err != nil || !bytes.Equal(b, data) {
			t.Errorf("content of %s differs: %v", s.Name, err)
		}
		if got.Executable(s.Addr) != executable(want, s.Addr) {
			t.Errorf("%s: executable is %v", s.Name, got.Executable(s.Addr))
		}
	}
	if _, _, ok := got.Locate(1 << 60); ok {
		t.Error("located an offset outside of the file")
	}
}

func executable(f *elf.File, addr uint64) bool {
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && addr >= p.Vaddr && addr < p.Vaddr+p.Filesz {
			return true
		}
	}
	return false
}

func compareSymbols(t *testing.T, got *File, want *elf.File, kind elf.SectionType, read func() ([]elf.Symbol, error)) {
	t.Helper()
	wanted, err := read()
	table, names, ok := got.SymbolTable(kind)
	if errors.Is(err, elf.ErrNoSymbols) {
		if ok {
			t.Errorf("found a %v", kind)
		}
		return
	}
	if !ok || err != nil {
		t.Fatalf("%v: found %v, debug/elf says %v", kind, ok, err)
	}
	data, err := io.ReadAll(got.Reader(names))
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for s, err := range got.Symbols(table) {
		if err != nil {
			t.Fatal(err)
		}
		w := wanted[i]
		name, _, _ := bytes.Cut(data[s.Name:], []byte{0})
		if string(name) != w.Name || s.Value != w.Value || s.Size != w.Size || s.Section != w.Section ||
			s.Bind() != elf.ST_BIND(w.Info) || s.Type() != elf.ST_TYPE(w.Info) {
			t.Errorf("symbol %d is %+v %s, want %+v", i, s, name, w)
		}
		i++
	}
	if i != len(wanted) {
		t.Errorf("%d symbols, want %d", i, len(wanted))
	}
}

func TestBuildIDAgainstReadelf(t *testing.T) {
	programtest.Need(t, "readelf")
	paths := []string{"/bin/bash", "/lib/x86_64-linux-gnu/libc.so.6"}
	for _, flags := range flavours {
		paths = append(paths, build(t, flags...))
	}
	paths = append(paths, build(t, "-Wl,--build-id=md5"), build(t, "-Wl,--build-id=0x0123456789abcdef"))
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		out, err := exec.Command("readelf", "-nW", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if m := regexp.MustCompile(`Build ID: ([0-9a-f]+)`).FindSubmatch(out); m != nil {
			want = string(m[1])
		}
		if got := open(t, path).BuildID(); got != want {
			t.Errorf("build ID of %s is %q, want %q", path, got, want)
		}
	}
}

// TestRelatives finds the relocation of a pointer in data.
func TestRelatives(t *testing.T) {
	path := build(t, "-pie", "-fPIE")
	want, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	symbols, err := want.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[string]uint64)
	for _, s := range symbols {
		at[s.Name] = s.Value
	}
	found := false
	for r, err := range open(t, path).Relatives() {
		if err != nil {
			t.Fatal(err)
		}
		if r.Address == at["pointer"] {
			found = r.Target == at["table"]+8
		}
	}
	if !found {
		t.Errorf("no relocation of pointer at %#x to table at %#x", at["pointer"], at["table"])
	}
}

func TestDigest(t *testing.T) {
	whole := build(t)
	stripped := filepath.Join(t.TempDir(), "stripped")
	if msg, err := exec.Command("strip", "-o", stripped, whole).CombinedOutput(); err != nil {
		t.Skipf("strip: %v %s", err, msg)
	}
	a, b := open(t, whole), open(t, stripped)
	if a.BuildID() != b.BuildID() || a.BuildID() == "" {
		t.Fatalf("build IDs are %q and %q", a.BuildID(), b.BuildID())
	}
	if a.Digest == b.Digest {
		t.Error("a stripped file has the digest of its original")
	}
	if a.Digest != open(t, whole).Digest {
		t.Error("digest is not stable")
	}
}

func TestNoteBuildID(t *testing.T) {
	note := func(name string, kind uint32, desc []byte, align int) []byte {
		b := binary.LittleEndian.AppendUint32(nil, uint32(len(name)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
		b = append(binary.LittleEndian.AppendUint32(b, kind), name...)
		for len(b)%align != 0 {
			b = append(b, 0)
		}
		for b = append(b, desc...); len(b)%align != 0; {
			b = append(b, 0)
		}
		return b
	}
	id := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	for name, c := range map[string]struct {
		notes []byte
		align uint64
		want  string
	}{
		"first":           {note("GNU\x00", 3, id, 4), 4, hex.EncodeToString(id)},
		"odd neighbours":  {append(note("Go\x00", 4, []byte("abcde"), 4), note("GNU\x00", 3, id, 4)...), 4, hex.EncodeToString(id)},
		"aligned to 8":    {append(note("GNU\x00", 5, id[:3], 8), note("GNU\x00", 3, id, 8)...), 8, hex.EncodeToString(id)},
		"of another name": {note("XXX\x00", 3, id, 4), 4, ""},
		"empty":           {note("GNU\x00", 3, nil, 4), 4, ""},
		"too long":        {note("GNU\x00", 3, make([]byte, 65), 4), 4, ""},
		"cut off":         {note("GNU\x00", 3, id, 4)[:20], 4, ""},
		"huge sizes":      {bytes.Repeat([]byte{0xff}, 64), 4, ""},
	} {
		if got := NoteBuildID(c.notes, c.align); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestDamage damages one field of a good file at a time.
func TestDamage(t *testing.T) {
	good, err := os.ReadFile(build(t))
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	for name, damage := range map[string]func(b []byte){
		"magic":                     func(b []byte) { b[0] = 'X' },
		"32-bit":                    func(b []byte) { b[elf.EI_CLASS] = byte(elf.ELFCLASS32) },
		"big endian":                func(b []byte) { b[elf.EI_DATA] = byte(elf.ELFDATA2MSB) },
		"program headers outside":   func(b []byte) { le.PutUint64(b[32:], 1<<63) },
		"many program headers":      func(b []byte) { le.PutUint16(b[56:], 0xffff) },
		"program header entry size": func(b []byte) { le.PutUint16(b[54:], 32) },
		"section headers outside":   func(b []byte) { le.PutUint64(b[40:], uint64(len(b))-32) },
		"many sections":             func(b []byte) { le.PutUint16(b[60:], 0xffff) },
		"huge section":              func(b []byte) { le.PutUint64(b[le.Uint64(b[40:])+64+32:], 1<<62) },
		"segment wraps":             func(b []byte) { le.PutUint64(b[64+3*56+32:], ^uint64(0)) },
	} {
		b := bytes.Clone(good)
		damage(b)
		if _, err := Open(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	for _, n := range []int64{0, 10, 63} {
		if _, err := Open(bytes.NewReader(good[:n]), n); !errors.Is(err, ErrUnsupported) {
			t.Errorf("first %d bytes: %v", n, err)
		}
	}
	// A file that shrinks after its size was taken.
	if _, err := Open(bytes.NewReader(good[:100]), int64(len(good))); err == nil {
		t.Error("opened a file that has shrunk")
	}
}

func FuzzOpen(f *testing.F) {
	for _, flag := range []string{"-s", "-no-pie"} {
		b, err := os.ReadFile(build(f, flag, "-Wl,-z,noseparate-code"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		o.BuildID()
		for _, s := range o.Segments {
			addr, seg, ok := o.Locate(s.Offset)
			if s.FileSize > 0 && (!ok || addr-seg.Address != s.Offset-seg.Offset) {
				t.Errorf("offset %#x is %#x in %+v", s.Offset, addr, seg)
			}
			o.Executable(s.Address)
			o.ReadAddress(make([]byte, 16), s.Address)
		}
		for _, kind := range []elf.SectionType{elf.SHT_SYMTAB, elf.SHT_DYNSYM} {
			if table, _, ok := o.SymbolTable(kind); ok {
				for range o.Symbols(table) {
				}
			}
		}
		for range o.Relatives() {
		}
		offsets, _ := o.FindFunctions([]string{"main", "_start"})
		for name, offset := range offsets {
			if offset >= uint64(len(b)) {
				t.Errorf("%s is at %#x of %#x bytes", name, offset, len(b))
			}
		}
	})
}
