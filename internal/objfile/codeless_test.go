// SPDX-License-Identifier: Apache-2.0

package objfile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os/exec"
	"path/filepath"
	"testing"
)

// Of a debug file what is left is read by its address, and nothing is read in the place of what is gone.
func TestReadAddressWithoutCode(t *testing.T) {
	program := build(t, "-Wl,--build-id")
	debug := filepath.Join(t.TempDir(), "debug")
	if msg, err := exec.Command("objcopy", "--only-keep-debug", program, debug).CombinedOutput(); err != nil {
		t.Fatalf("objcopy: %v %s", err, msg)
	}
	whole, left := open(t, program), open(t, debug)
	note, ok := whole.Section(".note.gnu.build-id")
	if !ok {
		t.Fatal("no note")
	}
	want, got := make([]byte, note.Size), make([]byte, note.Size)
	if err := whole.ReadAddress(want, note.Address); err != nil {
		t.Fatal(err)
	}
	if err := left.ReadAddress(got, note.Address); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v; want %x", got, err, want)
	}
	if err := left.ReadAddress(make([]byte, note.Size+1), note.Address); err == nil {
		t.Error("more is read than there is")
	}
	text, ok := whole.Section(".text")
	if !ok {
		t.Fatal("no code")
	}
	if err := left.ReadAddress(got, text.Address); err == nil {
		t.Errorf("code is %x", got)
	}
}

// Tables that overlap are not walked again and again.
func TestRelocationsAreBounded(t *testing.T) {
	table := Section{Type: elf.SHT_RELA, Flags: elf.SHF_ALLOC, Size: maxTable / 2}
	f := &File{Machine: elf.EM_X86_64, r: zeros{}, size: maxTable, Sections: []Section{table, table, table}}
	var last error
	for _, err := range f.Relatives() {
		last = err
	}
	if last == nil {
		t.Error("three tables are walked")
	}
	f.Sections = f.Sections[:2]
	for _, err := range f.Relatives() {
		t.Error(err)
	}
}

type zeros struct{}

func (zeros) ReadAt(b []byte, _ int64) (int, error) { clear(b); return len(b), nil }

func TestHeaders(t *testing.T) {
	f := open(t, build(t))
	h, err := f.Headers()
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range f.Sections {
		raw := h.Sections[i*sectionHeaderSize:]
		if binary.LittleEndian.Uint64(raw[16:]) != s.Address || binary.LittleEndian.Uint64(raw[32:]) != s.Size {
			t.Errorf("section %d is another", i)
		}
	}
	if string(h.File[:4]) != elf.ELFMAG || len(h.Segments)%programHeaderSize != 0 || len(h.Segments) == 0 {
		t.Errorf("%x, %d bytes of program headers", h.File[:4], len(h.Segments))
	}
}
