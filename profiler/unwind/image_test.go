// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// Where image puts things: file offsets are addresses less imageBase.
const (
	imageBase    = 0x10000
	imageText    = imageBase + 0x1000
	imageTextLen = 0x4000
	imageContent = imageText + imageTextLen
)

// image makes an ELF file with 16 KiB of code and one section.
func image(machine elf.Machine, section string, content []byte) []byte {
	const header, program = 64, 56
	names := "\x00" + section + "\x00.shstrtab\x00"
	size := uint64(imageContent - imageBase + len(content) + len(names))
	size = (size + 7) &^ 7
	b := make([]byte, size, size+3*64)
	le := binary.LittleEndian
	copy(b, elf.ELFMAG+"\x02\x01\x01")
	le.PutUint16(b[16:], uint16(elf.ET_EXEC))
	le.PutUint16(b[18:], uint16(machine))
	le.PutUint64(b[32:], header)
	le.PutUint64(b[40:], size)
	le.PutUint16(b[54:], program)
	le.PutUint16(b[56:], 1)
	le.PutUint16(b[58:], 64)
	le.PutUint16(b[60:], 3)
	le.PutUint16(b[62:], 2)
	p := b[header:]
	le.PutUint32(p, uint32(elf.PT_LOAD))
	le.PutUint32(p[4:], uint32(elf.PF_R|elf.PF_X))
	le.PutUint64(p[16:], imageBase)
	le.PutUint64(p[32:], imageContent-imageBase)
	copy(b[imageContent-imageBase:], content)
	copy(b[imageContent-imageBase+len(content):], names)
	add := func(name int, kind elf.SectionType, addr, offset, size uint64) {
		s := make([]byte, 64)
		le.PutUint32(s, uint32(name))
		le.PutUint32(s[4:], uint32(kind))
		le.PutUint64(s[16:], addr)
		le.PutUint64(s[24:], offset)
		le.PutUint64(s[32:], size)
		b = append(b, s...)
	}
	add(0, elf.SHT_NULL, 0, 0, 0)
	add(1, elf.SHT_PROGBITS, imageContent, imageContent-imageBase, uint64(len(content)))
	add(2+len(section), elf.SHT_STRTAB, 0, uint64(imageContent-imageBase+len(content)), uint64(len(names)))
	return b
}

// buildImage builds the table of a file in memory.
func buildImage(t testing.TB, b []byte) *Table {
	t.Helper()
	f, err := objfile.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	table, err := Build(f)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// frameEntry makes a CIE or FDE from what stands behind its length.
func frameEntry(parts ...[]byte) []byte {
	b := bytes.Join(parts, nil)
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func u32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

func u64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// ehFrame makes an .eh_frame of one CIE, with the usual start for amd64, and one
// FDE for each of the programs: 256 bytes of code each, in order.
func ehFrame(programs ...[]byte) []byte {
	// Version 1, absolute addresses; CFA = rsp+8, return address at CFA-8.
	b := frameEntry(u32(0), []byte("\x01zR\x00\x01\x78\x10\x01\x00\x0c\x07\x08\x90\x01"))
	for i, program := range programs {
		b = append(b, frameEntry(u32(uint32(len(b)+4)), u64(imageText+uint64(i)*256), u64(256), []byte{0}, program)...)
	}
	return b
}
