// SPDX-License-Identifier: Apache-2.0

package jitdump

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/codemap"
)

// dump writes a jitdump.
type dump struct {
	order binary.AppendByteOrder
	bytes []byte
}

func newDump(order binary.AppendByteOrder) *dump {
	d := &dump{order: order}
	d.numbers32(magic, 1, headerBytes, 62, 0, 7)
	d.numbers64(99, 0)
	return d
}

func (d *dump) numbers32(all ...uint32) {
	for _, v := range all {
		d.bytes = d.order.AppendUint32(d.bytes, v)
	}
}

func (d *dump) numbers64(all ...uint64) {
	for _, v := range all {
		d.bytes = d.order.AppendUint64(d.bytes, v)
	}
}

// record writes a record, whose size is known when its body is.
func (d *dump) record(id uint32, body func()) {
	at := len(d.bytes)
	d.numbers32(id, 0)
	d.numbers64(1)
	body()
	size := d.order.AppendUint32(nil, uint32(len(d.bytes)-at))
	copy(d.bytes[at+4:], size)
}

func (d *dump) load(addr, size uint64, name string) {
	d.record(codeLoad, func() {
		d.numbers32(7, 7)
		d.numbers64(addr, addr, size, 1)
		d.bytes = append(d.bytes, name+"\x00"+strings.Repeat("\xcc", int(min(size, 1000)))...)
	})
}

func (d *dump) move(from, to, size uint64) {
	d.record(codeMove, func() {
		d.numbers32(7, 7)
		d.numbers64(to, from, to, size, 1)
	})
}

// entry is a line of code.
type entry struct {
	addr uint64
	line uint32
	file string
}

func (d *dump) lines(addr uint64, entries ...entry) {
	d.record(debugInfo, func() {
		d.numbers64(addr, uint64(len(entries)))
		for _, e := range entries {
			d.numbers64(e.addr)
			d.numbers32(e.line, 0)
			d.bytes = append(d.bytes, e.file+"\x00"...)
		}
	})
}

func (d *dump) size() int64 { return int64(len(d.bytes)) }

// ReadAt reads what has been written so far.
func (d *dump) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(d.bytes).ReadAt(p, off)
}

func check(t *testing.T, table *Table, want map[uint64]sample.Frame) {
	t.Helper()
	for addr, frame := range want {
		if got, err := table.Lookup(addr); got != frame || err != nil {
			t.Errorf("%#x is %+v, %v, want %+v", addr, got, err, frame)
		}
	}
}

func named(function string) sample.Frame { return sample.Frame{Function: function} }

func TestRecords(t *testing.T) {
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		d := newDump(order)
		d.load(0x1000, 0x100, "one")
		d.record(4, func() { d.numbers64(1, 2, 3) }) // how to unwind
		d.load(0x2000, 0x100, "two words")
		d.record(3, func() {}) // close
		d.load(0x3000, 0x100, "")
		d.record(codeLoad, func() { d.numbers64(1) }) // too short
		d.record(77, func() { d.numbers64(1) })
		table := Open(d, 1<<20)
		if err := table.Update(d.size()); err != nil {
			t.Error(err)
		}
		check(t, table, map[uint64]sample.Frame{
			0xfff: {}, 0x1000: named("one"), 0x10ff: named("one"), 0x1100: {}, 0x2080: named("two words"), 0x3000: {},
		})
		d.move(0x1000, 0x5000, 0x100)
		d.move(0x2010, 0x6000, 0x10) // no code begins there
		d.load(0x1000, 0x20, "three")
		if err := table.Update(d.size()); err != nil {
			t.Error(err)
		}
		check(t, table, map[uint64]sample.Frame{
			0x1000: named("three"), 0x1020: {}, 0x5000: named("one"), 0x50ff: named("one"), 0x2010: named("two words"), 0x6000: {},
		})
		d.load(0x50f0, 0x20, "four")
		d.move(0x1000, 0x2000, 0x20)
		if err := table.Update(d.size()); err != nil {
			t.Error(err)
		}
		check(t, table, map[uint64]sample.Frame{0x1000: {}, 0x2000: named("three"), 0x2020: {}, 0x5000: {}, 0x50f0: named("four")})
	}
}

func TestLines(t *testing.T) {
	d := newDump(binary.LittleEndian)
	d.lines(0x1000, entry{0x1000, 10, "/a.c"}, entry{0x1010, 11, "\xff"}, entry{0x1020, 5, "/b.h"}, entry{0x1030, 12, "/a.c"})
	d.load(0x1000, 0x100, "lined")
	d.load(0x2000, 0x100, "bare")
	d.lines(0x3000, entry{0x3000, 1, "/c.c"})
	d.load(0x4000, 0x100, "not its lines")
	d.lines(0x5000, entry{0x5010, 0, "/d.c"}, entry{0x5020, 1 << 31, "/d.c"})
	d.load(0x5000, 0x100, "no lines")
	table := Open(d, 1<<20)
	if err := table.Update(d.size()); err != nil {
		t.Error(err)
	}
	lined := func(file string, line int64) sample.Frame {
		return sample.Frame{Function: "lined", File: file, Line: line}
	}
	check(t, table, map[uint64]sample.Frame{
		0x1000: lined("/a.c", 10), 0x100f: lined("/a.c", 10), 0x1010: lined("/a.c", 11), 0x1025: lined("/b.h", 5), 0x10ff: lined("/a.c", 12),
		0x2000: named("bare"), 0x4000: named("not its lines"), 0x5030: named("no lines"),
	})
	d.move(0x1000, 0x9000, 0x100)
	if err := table.Update(d.size()); err != nil {
		t.Error(err)
	}
	check(t, table, map[uint64]sample.Frame{0x9010: lined("/a.c", 11)})
}

// A file is read while it is written: whatever is there of the last record, what came before has names.
func TestHalfWritten(t *testing.T) {
	d := newDump(binary.LittleEndian)
	d.load(0x1000, 0x100, "one")
	first := d.size()
	d.load(0x2000, 0x100, "two")
	for cut := range d.size() {
		table := Open(d, 1<<20)
		if err := table.Update(cut); err != nil {
			t.Fatalf("%d bytes: %v", cut, err)
		}
		want := named("one")
		if cut < first {
			want = sample.Frame{}
		}
		check(t, table, map[uint64]sample.Frame{0x1000: want, 0x2000: {}})
		if err := table.Update(d.size()); err != nil {
			t.Fatal(err)
		}
		check(t, table, map[uint64]sample.Frame{0x1000: named("one"), 0x2000: named("two")})
	}
	room := append(bytes.Clone(d.bytes), make([]byte, 4096)...) // written through memory
	table := Open(bytes.NewReader(room), 1<<20)
	if err := table.Update(int64(len(room))); err != nil || table.read != d.size() {
		t.Errorf("%d bytes read, %v, want %d", table.read, err, d.size())
	}
}

func TestWrittenAnew(t *testing.T) {
	d := newDump(binary.LittleEndian)
	d.load(0x1000, 0x100, "one")
	table := Open(d, 1<<20)
	if err := table.Update(d.size()); err != nil {
		t.Fatal(err)
	}
	other := newDump(binary.LittleEndian)
	other.bytes[24]++ // another time
	other.load(0x3000, 0x100, "three")
	other.load(0x4000, 0x100, "four")
	d.bytes = other.bytes
	if err := table.Update(d.size()); err != nil {
		t.Fatal(err)
	}
	check(t, table, map[uint64]sample.Frame{0x1000: {}, 0x3000: named("three"), 0x4000: named("four")})
}

func TestBad(t *testing.T) {
	other := newDump(binary.LittleEndian)
	other.bytes[4] = 2
	short := newDump(binary.LittleEndian)
	short.bytes[8] = 39
	for name, content := range map[string][]byte{"version": other.bytes, "header": short.bytes, "text": []byte(strings.Repeat("1000 10 a\n", 10))} {
		table := Open(bytes.NewReader(content), 1<<20)
		if err := table.Update(int64(len(content))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
		check(t, table, map[uint64]sample.Frame{0x1000: {}})
	}
	d := newDump(binary.LittleEndian)
	d.load(0x1000, math.MaxUint64, "beyond all")
	d.load(0x2000, math.MaxUint32+1, "large")
	d.load(0x1000, 0x100, "one")
	d.numbers32(1, 15)
	d.numbers64(0, 0, 0)
	table := Open(d, 1<<20)
	if err := table.Update(d.size()); !errors.Is(err, ErrFormat) {
		t.Errorf("a record of 15 bytes: %v", err)
	}
	if err := table.Update(d.size()); err != nil {
		t.Errorf("told again: %v", err)
	}
	check(t, table, map[uint64]sample.Frame{0x1000: named("one")})
}

func TestBounds(t *testing.T) {
	const limit = 64 << 10
	d := newDump(binary.LittleEndian)
	for i := range uint64(10_000) {
		d.load(i<<12, 1, "f")
	}
	table := Open(d, limit)
	if err := table.Update(d.size()); !errors.Is(err, codemap.ErrTooLarge) || table.Bytes() > 2*limit {
		t.Errorf("%v with %d bytes", err, table.Bytes())
	}
	d = newDump(binary.LittleEndian)
	head := len(d.bytes)
	d.bytes = append(d.bytes, bytes.Repeat([]byte{9, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, maxRecords+2)...)
	table = Open(d, limit)
	if err := table.Update(int64(head + (maxRecords+2)*recordBytes)); !errors.Is(err, codemap.ErrTooLarge) {
		t.Errorf("more records than that: %v", err)
	}
	d = newDump(binary.LittleEndian)
	d.load(0x1000, 0x10, strings.Repeat("x", 2*maxName))
	table = Open(d, limit)
	if err := table.Update(d.size()); err != nil {
		t.Error(err)
	}
	check(t, table, map[uint64]sample.Frame{0x1000: named(strings.Repeat("x", maxName))})
}
