// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"encoding/binary"
	"maps"
	"slices"
)

// Set is any number of labels, in one comparable value. The empty Set has none.
// It is a sequence of names and values, each headed by its length as a uvarint,
// ordered by name.
type Set string

// NewSet makes a Set of values by name. A value may be empty.
func NewSet(labels map[string]string) Set {
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		for _, s := range [...]string{name, labels[name]} {
			text = binary.AppendUvarint(text, uint64(len(s)))
			text = append(text, s...)
		}
	}
	return Set(text)
}

// Each calls f for every label, ordered by name, until it returns false.
func (s Set) Each(f func(name, value string) bool) {
	for len(s) > 0 {
		var name, value string
		name, s = s.cut()
		value, s = s.cut()
		if !f(name, value) {
			return
		}
	}
}

// cut takes the first string off.
func (s Set) cut() (first string, rest Set) {
	length, shift := 0, 0
	for s[0] >= 0x80 {
		length |= int(s[0]&0x7f) << shift
		shift += 7
		s = s[1:]
	}
	length |= int(s[0]) << shift
	return string(s[1 : 1+length]), s[1+length:]
}

// Get is the value of a label, and whether the Set has it.
func (s Set) Get(name string) (value string, ok bool) {
	s.Each(func(n, v string) bool {
		if n == name {
			value, ok = v, true
		}
		return n < name
	})
	return value, ok
}
