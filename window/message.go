// SPDX-License-Identifier: Apache-2.0

package window

import (
	"encoding/binary"
	"math/bits"
)

// message is a protobuf message in the making. Its methods append one field
// each; a number that is 0 is left out, as readers take it for 0 anyway.
// https://protobuf.dev/programming-guides/encoding/
type message []byte

// The wire types used, the low three bits of the number that heads a field.
const (
	wireVarint = 0
	wireBytes  = 2
)

func (m message) number(field, v uint64) message {
	if v == 0 {
		return m
	}
	m = binary.AppendUvarint(m, field<<3|wireVarint)
	return binary.AppendUvarint(m, v)
}

// head begins a field of so many bytes.
func (m message) head(field uint64, size int) message {
	m = binary.AppendUvarint(m, field<<3|wireBytes)
	return binary.AppendUvarint(m, uint64(size))
}

// bytes appends a string or a message within this one.
func (m message) bytes(field uint64, b []byte) message {
	return append(m.head(field, len(b)), b...)
}

// numbers appends a repeated field in packed form.
func (m message) numbers(field uint64, values []uint64) message {
	size := 0
	for _, v := range values {
		size += (bits.Len64(v|1) + 6) / 7
	}
	m = m.head(field, size)
	for _, v := range values {
		m = binary.AppendUvarint(m, v)
	}
	return m
}
