// SPDX-License-Identifier: Apache-2.0

package rpc

import "bytes"

// What a url_template is made of. A path keeps the segments that are the same
// for many requests; what varies becomes a placeholder, so that neither ids nor
// secrets leave the host. See docs/requests.md for the rules.
const (
	maxSegments = 8
	maxTemplate = 120 // bytes
	maxSegment  = 64  // bytes; no part of an API has a name as long

	rest = "/{rest}"
)

// unknownPath is the path of an HTTP/2 request whose header block refers to
// what was not seen.
var unknownPath = []byte("*")

// appendTemplate appends the template of a path, which has no query. cut says
// that the path goes on.
func appendTemplate(dst, path []byte, cut bool) []byte {
	switch {
	case len(path) == 0 || bytes.Equal(path, unknownPath):
		return append(dst, '*')
	case path[0] != '/':
		return append(dst, "{authority}"...)
	}
	start := len(dst)
	for n := 0; len(path) > 0; n++ {
		segment := path[1:]
		if i := bytes.IndexByte(segment, '/'); i >= 0 {
			segment = segment[:i]
		}
		path = path[1+len(segment):]
		if n == maxSegments || cut && len(path) == 0 {
			return append(dst, rest...)
		}
		before := len(dst)
		dst = appendSegment(append(dst, '/'), segment)
		if len(dst)-start > maxTemplate-len(rest) {
			return append(dst[:before], rest...)
		}
	}
	return dst
}

// appendSegment appends what stands for one segment.
func appendSegment(dst, s []byte) []byte {
	// Matrix parameters carry session ids: /cart;jsessionid=…
	if i := bytes.IndexByte(s, ';'); i >= 0 {
		s = s[:i]
	}
	if len(s) == 0 {
		return dst
	}
	if p := whole(s); p != "" {
		return append(dst, p...)
	}
	stem, extension := s, []byte(nil)
	if i := bytes.LastIndexByte(s, '.'); i > 0 && isExtension(s[i+1:]) {
		stem, extension = s[:i], s[i:]
	}
	if p := whole(stem); p != "" {
		return append(append(dst, p...), extension...)
	}
	for words := stem; len(words) > 0; {
		word := words
		if i := bytes.IndexAny(words, "-_.:~,+"); i >= 0 {
			word, words = words[:i], words[i+1:]
		} else {
			words = nil
		}
		if p := varying(word); p != "" {
			return append(append(dst, p...), extension...)
		}
	}
	return append(dst, s...)
}

// whole gives the placeholder for a segment that is a value as a whole, "" if
// it is none.
func whole(s []byte) string {
	switch c := count(s); {
	case len(s) > maxSegment || c.other > 0:
		return "{id}"
	case c.digits == 0:
		return ""
	case c.digits+c.marks == len(s):
		if len(s) == len("2006-01-02") && s[4] == '-' && s[7] == '-' && c.digits == 8 {
			return "{date}"
		}
		return "{number}"
	case len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' && c.hex == 32:
		return "{uuid}"
	case c.hex == len(s) && len(s) >= 8:
		return "{hash}"
	}
	return ""
}

// varying gives the placeholder for a word that looks like a value.
func varying(w []byte) string {
	c := count(w)
	letters := len(w) - c.digits
	switch {
	case len(w) == 0:
	case letters == 0:
		return "{id}"
	case c.hex == len(w) && len(w) >= 6 && c.digits > 0:
		return "{hash}"
	case len(w) >= 16 && c.digits > 0, c.longest >= 4:
		return "{id}"
	case len(w) >= 6 && c.groups >= 2 && (w[0] != 'v' || w[1] < '0' || w[1] > '9'): // v2beta1
		return "{id}"
	case len(w) >= 16 && c.turns*5 > len(w)*2:
		return "{id}"
	}
	return ""
}

// isExtension reports whether a file is called so: short, and led by a letter.
func isExtension(e []byte) bool {
	c := count(e)
	return len(e) >= 1 && len(e) <= 5 && c.other == 0 && c.marks == 0 && (e[0] < '0' || e[0] > '9') && c.digits <= 1
}

// counts are how many bytes of each sort there are.
type counts struct {
	digits, hex int
	marks       int // of - . and such, which join words
	other       int // neither letter, digit nor mark: percent-encoded, UTF-8, @ …
	groups      int // runs of digits
	longest     int // of these
	turns       int // between small and capital letters
}

func count(s []byte) (c counts) {
	var last byte
	run := 0
	for _, b := range s {
		if b < '0' || b > '9' {
			run = 0
		}
		switch {
		case '0' <= b && b <= '9':
			if run == 0 {
				c.groups++
			}
			run++
			c.longest = max(c.longest, run)
			c.digits++
			c.hex++
		case 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z':
			if hexDigit(b) >= 0 {
				c.hex++
			}
			if isLetter(last) && (last^b)&0x20 != 0 {
				c.turns++
			}
		case b == '-' || b == '_' || b == '.' || b == ':' || b == '~' || b == ',' || b == '+':
			c.marks++
		default:
			c.other++
		}
		last = b
	}
	return c
}

func isLetter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }
