// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"debug/elf"
	"io"
	"os"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
	"github.com/fleetprof/fleetprof/sample"
)

// buildFuzzed builds the table of a damaged file and checks what holds for any.
func buildFuzzed(t *testing.T, b []byte) {
	t.Helper()
	f, err := objfile.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return
	}
	table, err := Build(f)
	if err != nil {
		return
	}
	checkTable(t, table)
	compareAll(t, table)
	text := uint64(0)
	for _, r := range table.Regions {
		text += r.Limit - r.Start
	}
	if uint64(len(table.Rows))*4 > text+4096 || len(table.Rules) > len(table.Rows)+2 {
		t.Fatalf("table of %d bytes for %d bytes of code", table.Bytes(), text)
	}
	walkFuzzed(t, table, b)
}

// walkFuzzed walks a stack of the file's own bytes.
func walkFuzzed(t *testing.T, table *Table, b []byte) {
	t.Helper()
	var start Registers
	for i := range start.R {
		start.R[i] = uint64(i) * 64
	}
	start.IP = imageText
	if len(table.Regions) > 0 {
		start.IP = table.Regions[0].Start
	}
	addrs, _ := Walk(&Process{
		Machine: table.Machine,
		Table:   func(uint64) (*Table, uint64, sample.Stop) { return table, 0, sample.StopNone },
		Word:    Memory{0, b}.Word,
	}, start, 100)
	if len(addrs) == 0 || len(addrs) > 100 {
		t.Fatalf("%d frames", len(addrs))
	}
}

// FuzzFrames reads .eh_frame and .debug_frame.
func FuzzFrames(f *testing.F) {
	f.Add(ehFrame([]byte("\x41\x0e\x10\x86\x02\x43\x0d\x06")), false, false)
	f.Add(ehFrame([]byte("\x0a\x02\x04\x0e\x10\x0b"), []byte("\x0f\x03\x76\x78\x06\x10\x06\x02\x76\x00")), true, false)
	f.Add(relativeFrame(), false, false)
	f.Add(relativeFrame(), true, true)
	for _, path := range []string{"/bin/ls", "/lib/x86_64-linux-gnu/libdl.so.2"} {
		if b, ok := section(f, path, ".eh_frame"); ok {
			f.Add(b[:min(len(b), 4096)], false, false)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte, arm, debug bool) {
		machine, name := elf.EM_X86_64, ".eh_frame"
		if arm {
			machine = elf.EM_AARCH64
		}
		if debug {
			name = ".debug_frame"
		}
		buildFuzzed(t, image(machine, name, content))
	})
}

// FuzzProgram runs call frame instructions.
func FuzzProgram(f *testing.F) {
	f.Add([]byte("\x41\x0e\x10\x86\x02\x43\x0d\x06"))
	f.Add([]byte("\x0a\x02\x04\x0e\x10\x0b\x2e\x10\x2f\x06\x02\x2d"))
	f.Add([]byte("\x41\x0f\x0b\x77\x08\x80\x00\x3f\x1a\x3a\x2a\x33\x24\x22"))
	f.Add([]byte("\x10\x06\x02\x76\x00\x16\x06\x02\x76\x00\x14\x06\x02\x01\x00\x10\x01\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		buildFuzzed(t, image(elf.EM_X86_64, ".eh_frame", ehFrame(content)))
		for _, machine := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64} {
			a, _ := archOf(machine)
			last := uint64(0)
			p := program{
				arch: a, cie: &cie{codeAlign: 4, dataAlign: -8, ra: a.ra},
				emit: func(addr uint64, _ Rule) error {
					if addr < last {
						t.Fatalf("row at %#x behind %#x", addr, last)
					}
					last = addr
					return nil
				},
			}
			if err := p.run(&cursor{b: content}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzGoTable reads .gopclntab.
func FuzzGoTable(f *testing.F) {
	f.Add(goImage(0xfffffff1, 4, "runtime.main", []byte("\x02\x05\x10\x10\x0f\x05\x00")), false)
	f.Add(goImage(0xfffffff0, 4, "runtime.systemstack", []byte("\x02\x01\x10\x20\x00")), true)
	f.Add(goImage(0xfffffffa, 8, "runtime.mcall", []byte("\x02\x01\x10\x20\x00")), false)
	f.Fuzz(func(t *testing.T, content []byte, arm bool) {
		machine := elf.EM_X86_64
		if arm {
			machine = elf.EM_AARCH64
		}
		buildFuzzed(t, image(machine, ".gopclntab", content))
	})
}

// FuzzFromCode follows instructions. The entry point calls what is fuzzed.
func FuzzFromCode(f *testing.F) {
	f.Add([]byte("\x55\x48\x89\xe5\x53\x48\x83\xe4\xf0\x48\x83\xec\x20\xff\xd7\x48\x8d\x65\xf8\x5b\xc9\xc3"))
	f.Add([]byte("\x53\x83\xff\x03\x77\x10\x48\x8d\x15\x20\x00\x00\x00\x48\x63\x04\xba\x48\x01\xd0\xff\xe0\x5b\xc3"))
	f.Add([]byte("\x31\xc0\x0f\x05\x85\xc0\x75\x08\x31\xed\x5f\x41\xff\xd1\xf4\xf4\xc3\x90\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05"))
	if b, ok := section(f, "/usr/lib/x86_64-linux-musl/libc.so", ".text"); ok {
		f.Add(b[:imageTextLen/2])
		f.Add(b[len(b)-imageTextLen/2:])
	}
	if b, ok := section(f, "/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1", ".text"); ok {
		f.Add(b[:imageTextLen/2])
	}
	f.Fuzz(func(t *testing.T, code []byte) {
		for machine, call := range map[elf.Machine]string{
			elf.EM_X86_64:  "\xe8\x0b\x00\x00\x00\xf4", // to byte 16
			elf.EM_AARCH64: "\x04\x00\x00\x94\x00\x00\x20\xd4",
		} {
			b := image(machine, ".data", nil)
			copy(b[24:], u64(imageText))
			text := b[imageText-imageBase:][:imageTextLen]
			copy(text, call)
			copy(text[16:], code)
			buildFuzzed(t, b)
		}
	})
}

// FuzzBuild reads whole files.
func FuzzBuild(f *testing.F) {
	f.Add(image(elf.EM_X86_64, ".eh_frame", ehFrame([]byte("\x41\x0e\x10"))))
	f.Add(image(elf.EM_AARCH64, ".debug_frame", relativeFrame()))
	f.Add(image(elf.EM_X86_64, ".gopclntab", goImage(0xfffffff1, 4, "main.main", []byte("\x02\x05\x00"))))
	b, err := os.ReadFile(compile(f, "gcc", framesSource, "-shared", "-fPIC", "-O2", "-nostdlib", "-s"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) { buildFuzzed(t, b) })
}

// section reads a section of a file of this machine.
func section(t testing.TB, path, name string) ([]byte, bool) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		return nil, false
	}
	f := objfiletest.Open(t, path)
	s, ok := f.Section(name)
	if !ok {
		return nil, false
	}
	b, err := io.ReadAll(f.Reader(s))
	if err != nil {
		t.Fatal(err)
	}
	return b, true
}

// goImage makes a .gopclntab of two functions of that name, with these depths.
func goImage(magic uint32, width int, name string, depths []byte) []byte {
	field := func(v uint64) []byte { return u64(v)[:width] }
	names := append([]byte("\x00"+name), 0)
	const header = 72
	values := header + len(names)
	functions := values + 1 + len(depths)
	text, start := uint64(imageText), uint64(0)
	if width == 8 {
		text, start = 0, imageText
	}
	words := []uint64{2, 0, text, header, 0, 0, uint64(values), uint64(functions)}
	if width == 8 {
		words = []uint64{2, 0, header, 0, 0, uint64(values), uint64(functions), 0}
	}
	b := append(u32(magic), 0, 0, 1, 8)
	for _, w := range words {
		b = append(b, u64(w)...)
	}
	b = append(append(append(b, names...), 0), depths...)
	record := uint64(5 * width)
	b = bytes.Join([][]byte{b, field(start), field(record), field(start + 64), field(record), field(start + 128)}, nil)
	b = bytes.Join([][]byte{b, field(start), u32(1), u64(0), u32(1), make([]byte, 16)}, nil)
	if magic == 0xfffffff1 {
		b = append(b, u32(1)...) // start line
	}
	return append(b, 1, 2, 0, 0) // special, writes SP
}

// TestGoLayouts reads the same functions in all layouts.
func TestGoLayouts(t *testing.T) {
	// 0 for one byte, 8 for three, 24 for four, 8 for one, 0 up to the end
	depths := []byte("\x02\x01\x10\x03\x20\x04\x1f\x01\x0f\x01\x00")
	const want = "0: sp+8 ra=c-8; 1: sp+16 ra=c-8 fp=c-16; 4: fp+16 ra=c-8 fp=c-16; 9: sp+8 ra=c-8; " +
		"65: sp+16 ra=c-8 fp=c-16; 68: fp+16 ra=c-8 fp=c-16; 73: sp+8 ra=c-8; 128: none"
	for magic, width := range map[uint32]int{0xfffffffa: 8, 0xfffffff0: 4, 0xfffffff1: 4} {
		table := buildImage(t, image(elf.EM_X86_64, ".gopclntab", goImage(magic, width, "asm", depths)))
		if got := rulesOf(table); got != want {
			t.Errorf("%#x: %s, want %s", magic, got, want)
		}
	}
	for name, content := range map[string][]byte{
		"magic":      goImage(0xfffffffb, 4, "f", depths),
		"cut off":    goImage(0xfffffff1, 4, "f", depths)[:60],
		"many":       append(goImage(0xfffffff1, 4, "f", nil)[:8], bytes.Repeat([]byte{0xff}, 100)...),
		"no text":    bytes.Replace(goImage(0xfffffff1, 4, "f", depths), u64(imageText), u64(0), 1),
		"no records": goImage(0xfffffff1, 4, "f", depths)[:110],
	} {
		if table := buildImage(t, image(elf.EM_X86_64, ".gopclntab", content)); rulesOf(table) != "" {
			t.Errorf("%s: %s", name, rulesOf(table))
		}
	}
}
