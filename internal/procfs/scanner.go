// SPDX-License-Identifier: Apache-2.0

package procfs

import "bytes"

// scanner takes a line apart from left to right. After the first field that is
// not what was asked for, bad stays true and every number read is zero. It
// keeps a position rather than a shrinking slice so that line may live on the
// stack.
type scanner struct {
	line []byte
	at   int
	bad  bool
}

// rest returns what has not been taken.
func (s *scanner) rest() []byte { return s.line[s.at:] }

// field returns what stands before the next end byte, and steps over it. The
// last field of a line needs no end.
func (s *scanner) field(end byte) []byte {
	rest := s.rest()
	n := bytes.IndexByte(rest, end)
	if n < 0 {
		s.bad = s.bad || len(rest) == 0
		s.at = len(s.line)
		return rest
	}
	s.at += n + 1
	return rest[:n]
}

// skip steps over n fields that end with a space.
func (s *scanner) skip(n int) {
	for range n {
		s.field(' ')
	}
}

func (s *scanner) hex(end byte) uint64     { return s.number(16, end) }
func (s *scanner) decimal(end byte) uint64 { return s.number(10, end) }

// number reads an unsigned number without sign, prefix or underscores.
func (s *scanner) number(base uint64, end byte) (v uint64) {
	field := s.field(end)
	if len(field) == 0 || s.bad {
		s.bad = true
		return 0
	}
	for _, c := range field {
		digit := base
		switch {
		case '0' <= c && c <= '9':
			digit = uint64(c - '0')
		case 'a' <= c && c <= 'f':
			digit = uint64(c-'a') + 10
		}
		if digit >= base || v > (^uint64(0)-digit)/base {
			s.bad = true
			return 0
		}
		v = v*base + digit
	}
	return v
}
