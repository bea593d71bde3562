// SPDX-License-Identifier: Apache-2.0

package gosym

import (
	"bytes"
	"compress/gzip"
	stdgosym "debug/gosym"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// Offsets in runtime.moduledata and its size, in bytes, as the linker writes it.
const (
	moduleMinPC = 160
	moduleMaxPC = 168
	moduleText  = 176
	moduleBytes = 328
)

// elfWith makes an ELF file with one executable segment at textAddr, the table
// as its section .gopclntab, and a .noptrdata section, both loaded behind it.
func elfWith(table []byte, module func(tableAddr uint64) []byte) []byte {
	const (
		textAddr = 0x400000
		textSize = 0x1000
		base     = 0x1000
	)
	le := binary.LittleEndian
	names := []byte("\x00.shstrtab\x00.gopclntab\x00.noptrdata\x00.text\x00")
	data := module(textAddr + base + textSize)
	var out bytes.Buffer
	out.Write(make([]byte, base+textSize))
	tableOff := out.Len()
	out.Write(table)
	for out.Len()%8 != 0 {
		out.WriteByte(0)
	}
	dataOff := out.Len()
	out.Write(data)
	namesOff := out.Len()
	out.Write(names)
	shoff := out.Len()
	section := func(name string, kind uint32, flags, addr, off, size uint64) {
		var h [64]byte
		le.PutUint32(h[:], uint32(bytes.Index(names, []byte("\x00"+name+"\x00"))+1))
		le.PutUint32(h[4:], kind)
		le.PutUint64(h[8:], flags)
		le.PutUint64(h[16:], addr)
		le.PutUint64(h[24:], off)
		le.PutUint64(h[32:], size)
		out.Write(h[:])
	}
	section("", 0, 0, 0, 0, 0)
	section(".shstrtab", 3, 0, 0, uint64(namesOff), uint64(len(names)))
	section(".gopclntab", 1, 2, textAddr+uint64(tableOff), uint64(tableOff), uint64(len(table)))
	section(".noptrdata", 1, 3, textAddr+uint64(dataOff), uint64(dataOff), uint64(len(data)))
	section(".text", 1, 6, textAddr+base, base, textSize)

	b := out.Bytes()
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)  // ET_EXEC
	le.PutUint16(b[18:], 62) // EM_X86_64
	le.PutUint64(b[32:], 64)
	le.PutUint64(b[40:], uint64(shoff))
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	le.PutUint16(b[58:], 64)
	le.PutUint16(b[60:], 5)
	le.PutUint16(b[62:], 1)
	le.PutUint32(b[64:], 1)   // PT_LOAD
	le.PutUint32(b[64+4:], 5) // R+X
	le.PutUint64(b[64+16:], textAddr)
	le.PutUint64(b[64+32:], uint64(namesOff))
	return b
}

func noModule(uint64) []byte { return nil }

func openBytes(b []byte) (*Table, error) {
	f, err := objfile.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	return Open(f)
}

// TestGo115 reads a table of Go 1.15 that comes with the tests of debug/gosym,
// with that package as the witness.
func TestGo115(t *testing.T) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	z, err := os.Open(filepath.Join(strings.TrimSpace(string(root)), "src/debug/gosym/testdata/pcln115.gz"))
	if err != nil {
		t.Skip("this Go installation comes without its tests")
	}
	defer z.Close()
	r, err := gzip.NewReader(z)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	table, err := openBytes(elfWith(data, noModule))
	if err != nil {
		t.Fatal(err)
	}
	witness, err := stdgosym.NewTable(nil, stdgosym.NewLineTable(data, table.index[0]))
	if err != nil {
		t.Fatal(err)
	}
	if len(witness.Funcs) != table.count {
		t.Fatalf("%d functions, debug/gosym knows %d", table.count, len(witness.Funcs))
	}
	for _, fn := range witness.Funcs {
		for _, addr := range []uint64{fn.Entry, fn.End - 1} {
			if got := lookup(t, table, addr); got[0].Function != fn.Name {
				t.Fatalf("%#x is %v, debug/gosym says %s", addr, got, fn.Name)
			}
		}
	}
}

// layoutOf makes a table in a layout of Go 1.16 and later: functions of 16 bytes
// one after the other, named only. The header says where the text starts.
func layoutOf(magic uint32, functions []string, text uint64) []byte {
	le := binary.LittleEndian
	var names, functab, records []byte
	wide := magic == 0xfffffffa
	put := func(b []byte, v uint64) []byte {
		if wide {
			return le.AppendUint64(b, v)
		}
		return le.AppendUint32(b, uint32(v))
	}
	entry := func(i int) uint64 {
		if wide {
			return text + uint64(i)*16
		}
		return uint64(i) * 16
	}
	width := len(put(nil, 0))
	for i, name := range functions {
		at := (2*len(functions)+1)*width + len(records)
		functab = put(put(functab, entry(i)), uint64(at))
		records = put(records, entry(i))
		records = le.AppendUint32(records, uint32(len(names)))
		records = append(records, make([]byte, 48)...)
		names = append(append(names, name...), 0)
	}
	functab = put(functab, entry(len(functions)))
	records = append(records, make([]byte, 64)...)

	words := []uint64{uint64(len(functions)), 1}
	size := uint64(8 + 7*8)
	if !wide {
		words = append(words, text)
		size += 8
	}
	end := size + uint64(len(names))
	words = append(words, size, end, end, end, end)
	out := le.AppendUint32(nil, magic)
	out = append(out, 0, 0, 1, 8)
	for _, w := range words {
		out = le.AppendUint64(out, w)
	}
	return append(append(append(out, names...), functab...), records...)
}

func manyNames() []string {
	var names []string
	for c := range 200 {
		names = append(names, "main.f"+string(rune('a'+c%26))+string(rune('a'+c/26)))
	}
	return names
}

func TestLayouts(t *testing.T) {
	const text = 0x401000
	names := manyNames()
	for _, magic := range []uint32{0xfffffffa, 0xfffffff0, 0xfffffff1} {
		data := layoutOf(magic, names, text)
		table, err := openBytes(elfWith(data, noModule))
		if err != nil {
			t.Errorf("%#x: %v", magic, err)
			continue
		}
		witness, err := stdgosym.NewTable(nil, stdgosym.NewLineTable(data, text))
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			addr := text + uint64(i)*16 + 15
			if fn := witness.PCToFunc(addr); fn == nil || fn.Name != name {
				t.Fatalf("%#x: the test's table is wrong: %v", magic, fn)
			}
			if got := lookup(t, table, addr); len(got) != 1 || got[0].Function != name {
				t.Fatalf("%#x: %#x is %v, want %s", magic, addr, got, name)
			}
		}
	}
}

// moduleOf makes a moduledata that agrees with layoutOf.
func moduleOf(text uint64, functions int) func(uint64) []byte {
	return func(table uint64) []byte {
		b := make([]byte, 16+moduleBytes)
		m := b[16:] // not the first thing in its section
		binary.LittleEndian.PutUint64(m, table)
		binary.LittleEndian.PutUint64(m[moduleMinPC:], text)
		binary.LittleEndian.PutUint64(m[moduleMaxPC:], text+uint64(functions)*16)
		binary.LittleEndian.PutUint64(m[moduleText:], text)
		return b
	}
}

// TestTextStart has tables whose header does not tell where the text starts.
func TestTextStart(t *testing.T) {
	const text = 0x401100
	names := manyNames()
	data := layoutOf(0xfffffff1, names, 0)
	table, err := openBytes(elfWith(data, moduleOf(text, len(names))))
	if err != nil {
		t.Fatal(err)
	}
	if got := lookup(t, table, text+16); got[0].Function != names[1] {
		t.Errorf("second function is %v", got)
	}
	if _, err := openBytes(elfWith(data, noModule)); !errors.Is(err, ErrUnsupported) {
		t.Errorf("without moduledata: %v, want ErrUnsupported", err)
	}
	// A moduledata that disagrees with the table is not believed.
	if _, err := openBytes(elfWith(data, moduleOf(text, len(names)+1))); !errors.Is(err, ErrUnsupported) {
		t.Errorf("with a moduledata of something else: %v, want ErrUnsupported", err)
	}
}

func TestUnsupported(t *testing.T) {
	good := layoutOf(0xfffffff1, manyNames(), 0x401000)
	for name, change := range map[string]func([]byte){
		"magic":           func(b []byte) { b[0] = 0xf2 },
		"big endian":      func(b []byte) { copy(b, "\xff\xff\xff\xf1") },
		"32-bit":          func(b []byte) { b[7] = 4 },
		"no functions":    func(b []byte) { binary.LittleEndian.PutUint64(b[8:], 0) },
		"many functions":  func(b []byte) { binary.LittleEndian.PutUint64(b[8:], 1<<40) },
		"table outside":   func(b []byte) { binary.LittleEndian.PutUint64(b[8+7*8:], 1<<63) },
		"functab cut off": func(b []byte) { binary.LittleEndian.PutUint64(b[8:], 100000) },
	} {
		b := bytes.Clone(good)
		change(b)
		if _, err := openBytes(elfWith(b, noModule)); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	if _, err := openBytes(elfWith(good[:12], noModule)); err == nil {
		t.Error("opened half a header")
	}
}

func FuzzTable(f *testing.F) {
	names := manyNames()
	for _, magic := range []uint32{0xfffffffb, 0xfffffffa, 0xfffffff0, 0xfffffff1} {
		f.Add(layoutOf(magic, names, 0x401000), []byte(nil), uint64(0x401010))
		f.Add(layoutOf(magic, names[:3], 0), moduleOf(0x401000, 3)(0x402000), uint64(0x401010))
	}
	path := build(f, "plain", "-ldflags=-s -w")
	file := openFile(f, path)
	s, _ := file.Section(".gopclntab")
	whole, err := io.ReadAll(file.Reader(s))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[:16<<10], []byte(nil), uint64(0x401010))
	f.Fuzz(func(t *testing.T, data, module []byte, addr uint64) {
		table, err := openBytes(elfWith(data, func(uint64) []byte { return module }))
		if err != nil {
			return
		}
		if table.Bytes() > int64(len(data)) {
			t.Errorf("table of %d bytes takes %d bytes", len(data), table.Bytes())
		}
		addrs := append(every(table, 50), addr, table.end-1)
		for _, a := range append(addrs, table.index...) {
			frames, err := table.Lookup(a)
			if err == nil && len(frames) == 0 && table.Contains(a) {
				t.Errorf("%#x is in Go code but has no frame", a)
			}
			if len(frames) > maxInlined+1 {
				t.Errorf("%d frames", len(frames))
			}
		}
	})
}
