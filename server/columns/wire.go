// SPDX-License-Identifier: Apache-2.0

package columns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Wire types of the protocol buffer encoding:
// https://protobuf.dev/programming-guides/encoding/#structure
const (
	wireVarint = 0
	wireI64    = 1
	wireBytes  = 2
	wireI32    = 5
)

var (
	errVarint   = errors.New("read varint: cut off or longer than 64 bits")
	errCut      = errors.New("read field: the message ends inside it")
	errWireType = errors.New("read field: unexpected wire type")
)

// message reads the fields of one message, one after another:
//
//	m := message{buf: b}
//	for m.next() {
//		switch m.field { … }
//	}
//	return m.err
//
// The first error ends the loop. Where a field comes twice, the last counts.
type message struct {
	buf   []byte
	at    int // what is before has been read
	err   error
	field uint64 // the number of the field just read
	typ   uint64
	num   uint64 // of a varint
	bytes []byte // of a length-delimited field; part of buf
}

// next reads one field. It returns false at the end of the message and after
// an error.
func (m *message) next() bool {
	if !m.more() {
		return false
	}
	tag := m.varint()
	m.field, m.typ, m.num = tag>>3, tag&7, 0
	switch {
	case m.err != nil:
	case m.typ == wireVarint:
		m.num = m.varint()
	case m.typ == wireBytes:
		m.bytes = m.take(m.varint())
	case m.typ == wireI64:
		m.take(8)
	case m.typ == wireI32:
		m.take(4)
	default:
		m.err = fmt.Errorf("%w %d", errWireType, m.typ)
	}
	return m.err == nil
}

// more reports whether there is something left to read.
func (m *message) more() bool { return m.err == nil && m.at < len(m.buf) }

func (m *message) varint() uint64 {
	if m.at < len(m.buf) && m.buf[m.at] < 0x80 { // most are this short
		m.at++
		return uint64(m.buf[m.at-1])
	}
	v, n := binary.Uvarint(m.buf[m.at:])
	if n <= 0 {
		m.err, n = errVarint, 0
	}
	m.at += n
	return v
}

func (m *message) take(n uint64) []byte {
	if n > uint64(len(m.buf)-m.at) {
		m.err, n = errCut, 0
	}
	b := m.buf[m.at : m.at+int(n)]
	m.at += int(n)
	return b
}

// want checks the wire type of the field.
func (m *message) want(typ uint64) {
	if m.typ != typ && m.err == nil {
		m.err = errWireType
	}
}

// uint gives a varint field.
func (m *message) uint() uint64 {
	m.want(wireVarint)
	return m.num
}

// int gives a varint field that is signed.
func (m *message) int() int64 { return int64(m.uint()) }

// ref gives a reference to a string, which is checked once all are known.
// Whatever does not fit becomes an index that no table has.
func (m *message) ref() uint32 { return uint32(min(m.uint(), math.MaxUint32)) }

// data gives a length-delimited field.
func (m *message) data() []byte {
	m.want(wireBytes)
	if m.err != nil {
		return nil
	}
	return m.bytes
}

// sub gives a field that is a message itself.
func (m *message) sub() message { return message{buf: m.data()} }

// appendUints appends the values of a repeated varint field, packed or not.
// More than limit values in to are an error.
func (m *message) appendUints(to []uint64, what string, limit int) []uint64 {
	if m.typ == wireBytes {
		packed := m.sub()
		for packed.more() && len(to) <= limit {
			to = append(to, packed.varint())
		}
		m.fail(packed.err)
	} else {
		to = append(to, m.uint())
	}
	m.fail(bounded(len(to), what, limit))
	return to
}

// fail ends the reading with err, unless it is nil or there was one before.
func (m *message) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}

// bounded refuses the n-th of something that has a limit.
func bounded(n int, what string, limit int) error {
	if n > limit {
		return &TooLargeError{what, limit}
	}
	return nil
}
