// SPDX-License-Identifier: Apache-2.0

package gopclntab

import "encoding/binary"

// Entry is an entry of the function table.
type Entry struct {
	// Start is the address of the function as linked. Before FindModule it counts
	// from the start of the text since Go 1.18.
	Start uint64
	// record is the offset of the function's record in the section.
	record uint64
}

// Entries reads the entries from the i-th on, as many as to has room for or there
// are. Functions are in the order of their addresses, unless the table is damaged.
// The entry number Count, behind all functions, is the end of the last one.
func (r *Reader) Entries(to []Entry, i uint64) (n int, err error) {
	if i > r.Count {
		return 0, nil
	}
	n = int(min(uint64(len(to)), r.Count+1-i))
	fields := uint64(2 * n)
	if i+uint64(n) > r.Count {
		fields-- // the last one is an address only
	}
	b, err := r.src.Bytes(r.entries+2*i*r.width, fields*r.width)
	if err != nil {
		return 0, err
	}
	if r.width == 4 {
		r.narrow(to[:n], b)
	} else {
		r.wide(to[:n], b)
	}
	return n, nil
}

// narrow decodes entries of Go 1.18 and later.
func (r *Reader) narrow(to []Entry, b []byte) {
	for i := range to {
		to[i] = Entry{Start: r.Text + uint64(binary.LittleEndian.Uint32(b))}
		if len(b) < 8 {
			return
		}
		to[i].record = r.functions + uint64(binary.LittleEndian.Uint32(b[4:]))
		b = b[8:]
	}
}

// wide decodes entries of older Go.
func (r *Reader) wide(to []Entry, b []byte) {
	for i := range to {
		to[i] = Entry{Start: binary.LittleEndian.Uint64(b)}
		if len(b) < 16 {
			return
		}
		to[i].record = r.functions + binary.LittleEndian.Uint64(b[8:])
		b = b[16:]
	}
}

// Missing stands for a table that a function does not have, as 0 does in pc-value
// tables.
const Missing = ^uint32(0)

// Record is what is used of a runtime._func record. Of Go before 1.16 it has the
// name only.
type Record struct {
	// Start is the function's address, which Entry has too.
	Start uint64
	// Name is for Reader.Name.
	Name uint32
	// Depths, Files and Lines are pc-value tables: how deep the stack is, in bytes;
	// numbers of files, see Reader.File; and lines.
	Depths, Files, Lines uint32
	// ID is not 0 for the functions that the runtime treats specially, Flags say
	// more about it (since Go 1.17). Flags are 0 before.
	ID, Flags byte

	unit uint32
	// tables is where offsets of pcdata follow, as many as pcdata says, and behind
	// them those of funcdata.
	tables           uint64
	pcdata, funcdata uint32
}

// Record reads the record of a function.
func (r *Reader) Record(e Entry) (Record, error) {
	b, err := r.src.Bytes(e.record, r.recordSize)
	if err != nil {
		return Record{}, err
	}
	var f Record
	if r.width == 4 {
		f.Start = r.Text + uint64(binary.LittleEndian.Uint32(b))
	} else {
		f.Start = binary.LittleEndian.Uint64(b)
	}
	b = b[r.width:]
	f.Name = binary.LittleEndian.Uint32(b)
	if len(b) < 36 {
		return f, nil
	}
	// After the name: args, deferreturn.
	f.Depths = binary.LittleEndian.Uint32(b[12:])
	f.Files = binary.LittleEndian.Uint32(b[16:])
	f.Lines = binary.LittleEndian.Uint32(b[20:])
	f.pcdata = binary.LittleEndian.Uint32(b[24:])
	f.unit = binary.LittleEndian.Uint32(b[28:])
	kind := b[len(b)-4:] // since Go 1.20 behind the line the function starts at
	f.ID, f.Flags, f.funcdata = kind[0], kind[1], uint32(kind[3])
	f.tables = e.record + r.recordSize
	return f, nil
}

// PCData is the i-th pc-value table that the compiler made for the runtime, 0 if
// there is none.
func (r *Reader) PCData(f *Record, i uint32) (uint32, error) {
	if i >= f.pcdata {
		return 0, nil
	}
	return r.number(f.tables + uint64(i)*4)
}

// FuncData is the offset of the i-th piece of data about the function, Missing if
// there is none. It counts from Table.InlineTrees since Go 1.20.
func (r *Reader) FuncData(f *Record, i uint32) (uint32, error) {
	if i >= f.funcdata {
		return Missing, nil
	}
	return r.number(f.tables + (uint64(f.pcdata)+uint64(i))*4)
}

// number reads 4 bytes.
func (r *Reader) number(off uint64) (uint32, error) {
	b, err := r.src.Bytes(off, 4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}
