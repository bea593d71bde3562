// SPDX-License-Identifier: Apache-2.0

// Package gopclntabtest makes Go tables, and ELF files around them, for tests of
// what reads them.
package gopclntabtest

import (
	"bytes"
	"encoding/binary"
)

// Offsets in runtime.moduledata and its size, in bytes, as the linker writes it.
const (
	moduleMinPC = 160
	moduleMaxPC = 168
	moduleText  = 176
	moduleBytes = 328
)

// ELF makes an ELF file with one executable segment at textAddr, the table
// as its section .gopclntab, and a .noptrdata section, both loaded behind it.
func ELF(table []byte, module func(tableAddr uint64) []byte) []byte {
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

// Layout makes a table with a magic, in a layout of Go 1.16 and later: functions of 16 bytes
// one after the other, named only. The header says where the text starts.
func Layout(magic uint32, functions []string, text uint64) []byte {
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

// Names are names for more functions than one step of an index has.
func Names() []string {
	var names []string
	for c := range 200 {
		names = append(names, "main.f"+string(rune('a'+c%26))+string(rune('a'+c/26)))
	}
	return names
}

// Module makes a moduledata that agrees with Layout.
func Module(text uint64, functions int) func(uint64) []byte {
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
