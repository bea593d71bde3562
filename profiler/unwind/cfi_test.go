// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"debug/elf"
	"fmt"
	"strings"
	"testing"
)

// rulesOf shows the rows of a table, addresses counted from the image's text.
func rulesOf(table *Table) string {
	var rows []string
	table.all(func(addr uint64, r Rule) bool {
		rows = append(rows, fmt.Sprintf("%d: %v", addr-imageText, r))
		return true
	})
	return strings.Join(rows, "; ")
}

// TestProgram runs call frame instructions, one or more of each, written as
// bytes by hand from DWARF 5 section 6.4.2.
func TestProgram(t *testing.T) {
	const start, end = "0: sp+8 ra=c-8; ", "; 256: none"
	for name, c := range map[string]struct{ program, want string }{
		"empty":                    {"", "0: sp+8 ra=c-8"},
		"nop":                      {"\x00\x00", "0: sp+8 ra=c-8"},
		"advance, offsets":         {"\x41\x0e\x10\x86\x02\x43\x0d\x06", start + "1: sp+16 ra=c-8 fp=c-16; 4: fp+16 ra=c-8 fp=c-16"},
		"advance 1, 2, 4":          {"\x02\x04\x0e\x10\x03\x04\x00\x0e\x18\x04\x04\x00\x00\x00\x0e\x20", start + "4: sp+16 ra=c-8; 8: sp+24 ra=c-8; 12: sp+32 ra=c-8"},
		"advance 8":                {"\x1d\x10\x00\x00\x00\x00\x00\x00\x00\x0e\x10", start + "16: sp+16 ra=c-8"},
		"advance beyond the end":   {"\x04\x00\x10\x00\x00\x0e\x10", "0: sp+8 ra=c-8"},
		"advance around the end":   {"\x1d\xff\xff\xff\xff\xff\xff\xff\xff\x0e\x10", "0: sp+8 ra=c-8"},
		"set location":             {"\x01\x20\x10\x01\x00\x00\x00\x00\x00\x0e\x10", start + "32: sp+16 ra=c-8"},
		"set location back":        {"\x44\x0e\x10\x01\x00\x10\x01\x00\x00\x00\x00\x00", start + "4: unsupported"},
		"extended":                 {"\x41\x05\x06\x02\x05\x03\x03", start + "1: sp+8 ra=c-8 fp=c-16 bx=c-24"},
		"signed offset":            {"\x41\x11\x06\x02\x12\x07\x7e", start + "1: sp+16 ra=c-8 fp=c-16"},
		"signed CFA offset":        {"\x41\x13\x7d", start + "1: sp+24 ra=c-8"},
		"negative extended":        {"\x41\x2f\x06\x02", start + "1: sp+8 ra=c-8 fp=c+16"},
		"def_cfa":                  {"\x41\x0c\x0a\x00", start + "1: r10+0 ra=c-8"},
		"restore":                  {"\x41\x86\x02\x41\xc6", start + "1: sp+8 ra=c-8 fp=c-16; 2: sp+8 ra=c-8"},
		"restore extended":         {"\x41\x86\x02\x41\x06\x06", start + "1: sp+8 ra=c-8 fp=c-16; 2: sp+8 ra=c-8"},
		"undefined, same":          {"\x41\x07\x06\x41\x08\x06\x41\x07\x10", start + "1: sp+8 ra=c-8 fp=lost; 2: sp+8 ra=c-8; 3: end"},
		"register":                 {"\x41\x09\x06\x09\x41\x08\x06\x09\x10\x02", start + "1: sp+8 ra=c-8 fp=lost; 2: sp+8 ra=r2"},
		"remember, restore":        {"\x0a\x41\x0e\x10\x86\x02\x0a\x41\x0e\x20\x41\x0b\x41\x0b", start + "1: sp+16 ra=c-8 fp=c-16; 2: sp+32 ra=c-8 fp=c-16; 3: sp+16 ra=c-8 fp=c-16; 4: sp+8 ra=c-8"},
		"restore without remember": {"\x41\x0b", start + "1: unsupported"},
		"too much to remember":     {strings.Repeat("\x0a", maxRemembered+1), "0: unsupported"},
		"arguments size":           {"\x41\x2e\x90\x01\x0e\x10", start + "1: sp+16 ra=c-8"},
		"value offset":             {"\x41\x14\x06\x02\x41\x15\x10\x02", start + "1: sp+8 ra=c-8 fp=lost; 2: unsupported"},
		"value expression":         {"\x41\x16\x06\x02\x76\x00", start + "1: sp+8 ra=c-8 fp=lost"},
		"expression":               {"\x41\x0e\x10\x10\x06\x02\x76\x70\x41\x10\x06\x02\x77\x70", start + "1: sp+16 ra=c-8 fp=fp-16; 2: sp+16 ra=c-8 fp=lost"},
		"realigned":                {"\x41\x10\x06\x02\x76\x00\x10\x03\x02\x76\x58\x0f\x03\x76\x78\x06", start + "1: *(fp-8)+0 ra=c-8 fp=fp+0 bx=fp-40"},
		"frame is gone":            {"\x10\x06\x02\x76\x00\x41\x0f\x03\x76\x78\x06\x41\x0c\x07\x08", start + "1: *(fp-8)+0 ra=c-8 fp=fp+0; 2: sp+8 ra=c-8"},
		"CFA in memory":            {"\x41\x0f\x06\x77\x98\x01\x06\x23\x08", start + "1: *(sp+152)+8 ra=c-8"},
		"linkage table":            {"\x41\x0f\x0b\x77\x08\x80\x00\x3f\x1a\x3a\x2a\x33\x24\x22", start + "1: sp+8+plt10 ra=c-8"},
		"other expression":         {"\x41\x0f\x04\x77\x08\x06\x1c", start + "1: unsupported"},
		"offset of an expression":  {"\x41\x0f\x03\x77\x08\x06\x0e\x10", start + "1: unsupported"},
		"new CFA":                  {"\x41\x0f\x01\x96\x41\x0c\x07\x10", start + "1: unsupported; 2: sp+16 ra=c-8"},
		"stack pointer elsewhere":  {"\x41\x87\x02", start + "1: unsupported"},
		"return address elsewhere": {"\x41\x90\x02\x41\x11\x10\x7f", start + "1: sp+8 ra=c-16; 2: sp+8 ra=c+8"},
		"unaligned":                {"\x41\x0e\x0c", start + "1: sp+12 ra=c-8"},
		"huge CFA offset":          {"\x41\x0e\x80\x80\x80\x80\x10", start + "1: unsupported"},
		"huge saved offset":        {"\x41\x05\x06\x80\x80\x80\x04\x05\x03\x80\x01", start + "1: sp+8 ra=c-8 fp=lost bx=c-1024"},
		"huge register":            {"\x41\x0c\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x08", start + "1: unsupported"},
		"window save":              {"\x41\x2d\x41", start + "1: unsupported"},
		"unknown":                  {"\x41\x3e\x41\x0e\x10", start + "1: unsupported"},
		"cut off":                  {"\x41\x0e", start + "1: unsupported"},
		"expression cut off":       {"\x41\x0f\x20\x77\x08", start + "1: unsupported"},
	} {
		table := buildImage(t, image(elf.EM_X86_64, ".eh_frame", ehFrame([]byte(c.program))))
		if got := rulesOf(table); got != c.want+end {
			t.Errorf("%s: %s, want %s", name, got, c.want+end)
		}
	}
}

// TestEntries reads CIEs and FDEs of all sorts.
func TestEntries(t *testing.T) {
	const text = "\x00\x10\x01\x00\x00\x00\x00\x00" // imageText
	fde := func(cie uint32, parts ...string) []byte {
		return frameEntry(u32(cie), []byte(strings.Join(parts, "")))
	}
	plain := "\x0c\x07\x08\x90\x01" // CFA = rsp+8, return address at CFA-8
	const want, none = "0: sp+8 ra=c-8; 16: none", ""
	for name, c := range map[string]struct {
		section string
		content []byte
		want    string
		damaged int
	}{
		"no augmentation": {".eh_frame", bytes.Join([][]byte{
			fde(0, "\x01\x00\x01\x78\x10", plain), fde(22, text, "\x10\x00\x00\x00\x00\x00\x00\x00")}, nil), want, 0},
		"pc-relative": {".eh_frame", relativeFrame(), want, 0},
		"debug_frame": {".debug_frame", bytes.Join([][]byte{
			frameEntry(u32(0xffffffff), []byte("\x04\x00\x08\x00\x01\x78\x10"+plain)), fde(0, text, "\x10\x00\x00\x00\x00\x00\x00\x00")}, nil), want, 0},
		"unknown version": {".eh_frame", bytes.Join([][]byte{
			fde(0, "\x02\x00\x01\x78\x10", plain), fde(22, text, "\x10\x00\x00\x00\x00\x00\x00\x00")}, nil), none, 1},
		"no CIE":          {".eh_frame", fde(99, text, text), none, 1},
		"FDE of an FDE":   {".eh_frame", bytes.Join([][]byte{fde(4, text, text), fde(28, text, text)}, nil), none, 2},
		"length too long": {".eh_frame", append(ehFrame([]byte{}), "\xff\x00\x00\x00abc"...), "0: sp+8 ra=c-8; 256: none", 1},
		"wraps around": {".eh_frame", bytes.Join([][]byte{
			fde(0, "\x01\x00\x01\x78\x10", plain), fde(22, text, strings.Repeat("\xff", 8))}, nil), none, 1},
		"terminator in between": {".eh_frame", append(make([]byte, 4), ehFrame([]byte{})...), "0: sp+8 ra=c-8; 256: none", 0},
		"discarded function": {".eh_frame", bytes.Join([][]byte{
			fde(0, "\x01\x00\x01\x78\x10", plain), fde(22, strings.Repeat("\x00", 8), "\x10\x00\x00\x00\x00\x00\x00\x00")}, nil), none, 0},
		"empty": {".eh_frame", nil, none, 0},
	} {
		table := buildImage(t, image(elf.EM_X86_64, c.section, c.content))
		if got := rulesOf(table); got != c.want || table.Stats.Damaged != c.damaged {
			t.Errorf("%s: %s, %d damaged; want %s, %d", name, got, table.Stats.Damaged, c.want, c.damaged)
		}
	}
}

// relativeFrame has the encoding that compilers write, and a 64-bit length.
func relativeFrame() []byte {
	b := frameEntry(u32(0), []byte("\x03zPLR\x00\x01\x78\x10\x07\x9b\x01\x02\x03\x04\x1b\x1b\x0c\x07\x08\x90\x01"))
	here := imageContent + uint32(len(b)) + 16
	body := bytes.Join([][]byte{u32(uint32(len(b)) + 12), u32(imageText - here), u32(16), []byte("\x04\x01\x02\x03\x04")}, nil)
	return append(append(append(b, u32(0xffffffff)...), u64(uint64(len(body)))...), body...)
}

func TestOverlap(t *testing.T) {
	cie := ehFrame()
	fde := func(at int, start, size uint64, program string) []byte {
		return frameEntry(u32(uint32(at+4)), u64(imageText+start), u64(size), []byte{0}, []byte(program))
	}
	b := append(cie, fde(len(cie), 64, 64, "\x0e\x18")...)
	b = append(b, fde(len(b), 0, 256, "\x0e\x10")...)
	b = append(b, fde(len(b), 0, 16, "\x0e\x20")...)
	want := "0: sp+16 ra=c-8; 64: sp+24 ra=c-8; 128: none"
	if got := rulesOf(buildImage(t, image(elf.EM_X86_64, ".eh_frame", b))); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestPointers(t *testing.T) {
	b := []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, c := range []struct {
		encoding byte
		want     uint64
		ok       bool
	}{
		{0x00, ^uint64(1), true},
		{0x02, 0xfffe, true},
		{0x03, 0xfffffffe, true},
		{0x04, ^uint64(1), true},
		{0x0a, ^uint64(1), true},
		{0x0b, ^uint64(1), true},
		{0x0c, ^uint64(1), true},
		{0x1b, 0x1000 - 2, true},
		{0x3b, 0x2000 - 2, true},
		{0x01, 0, false}, // does not end
		{0x09, 0, false},
		{0x05, 0, false}, // no such format
		{0x20, 0, false}, // relative to the text
		{0x40, 0, false}, // to the function
		{0x50, 0, false}, // aligned
		{0x80, 0, false}, // indirect
		{0xff, 0, false}, // omitted
	} {
		cur := cursor{b: b}
		got := cur.pointer(c.encoding, 0x1000, 0x2000)
		if cur.bad == c.ok || c.ok && got != c.want {
			t.Errorf("encoding %#x gives %#x, ok %v; want %#x, %v", c.encoding, got, !cur.bad, c.want, c.ok)
		}
	}
}
