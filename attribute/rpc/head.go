// SPDX-License-Identifier: Apache-2.0

package rpc

import "bytes"

// head is what is used of the head of an HTTP/1 request, RFC 9112 section 2.1.
// Its slices are parts of what was parsed.
type head struct {
	method []byte
	// target has neither query nor fragment. cut says that the capture ended in it.
	target []byte
	cut    bool
	// end is where the body begins, -1 if that was not captured.
	end int
	// length is that of the body; unknownLength if it was not captured or the
	// body is chunked.
	length     int64
	chunked    bool
	upgradeH2C bool
	// traceparent is the field of that name, nil if none was captured, empty if there
	// are two.
	traceparent []byte
}

// unknownLength stands for a body whose end cannot be told from its head.
const unknownLength = -1

// verdict is what a parser says of bytes.
type verdict uint8

const (
	// valid: it is a head, as far as it was captured.
	valid verdict = iota
	// partial: it may become one with more bytes.
	partial
	// malformed: it begins with a method, and is no head all the same.
	malformed
	// foreign: something else, such as a body.
	foreign
)

// longestMethod bounds what is taken for a method: the longest one registered
// with IANA is UPDATEREDIRECTREF, of 17.
const longestMethod = 17

var crlf = []byte("\r\n")

// parseRequest reads the head at the beginning of data. more says that bytes
// followed that were not captured. A line that is cut short by the capture
// counts from METHOD SP TARGET-PREFIX on, since nothing else can be known of it.
func parseRequest(data []byte, more bool) (h head, v verdict) {
	n := 0
	for n < len(data) && n <= longestMethod && 'A' <= data[n] && data[n] <= 'Z' {
		n++
	}
	switch {
	case n == 0 || n > longestMethod:
		return h, foreign
	case n == len(data):
		if more || !methodPrefix(data) {
			return h, foreign
		}
		return h, partial
	case data[n] != ' ':
		return h, foreign
	}
	h.method, h.end = data[:n], -1
	known := knownMethod(h.method)
	wrong := foreign
	if known {
		wrong = malformed
	}
	rest := data[n+1:]
	if len(rest) == 0 {
		if more || !known {
			return h, wrong
		}
		return h, partial
	}
	line := bytes.IndexByte(rest, '\n')
	if line < 0 {
		return h.open(rest, more, known, wrong)
	}
	space := bytes.IndexByte(rest[:line], ' ')
	if space < 0 || line < space+len(" HTTP/1.x\r") || !version(rest[space+1:line]) {
		return h, wrong
	}
	if !h.setTarget(rest[:space], false) {
		return h, wrong
	}
	h.fields(data, n+1+line+1)
	return h, valid
}

// open judges a request line whose end is not there.
func (h head) open(rest []byte, more, known bool, wrong verdict) (head, verdict) {
	space := bytes.IndexByte(rest, ' ')
	if space < 0 {
		if !h.setTarget(rest, true) {
			return h, wrong
		}
	} else {
		const form = "HTTP/1.0\r"
		tail := rest[space+1:]
		if len(tail) > len(form) || !versionPrefix(tail) || !h.setTarget(rest[:space], false) {
			return h, wrong
		}
	}
	switch {
	case !more && known:
		return h, partial
	case !more:
		return h, foreign
	case !known:
		// Nothing but the word says that this is HTTP.
		return h, foreign
	case len(h.target) == 0:
		return h, malformed
	}
	h.length = h.assumedLength()
	return h, valid
}

// version reports whether b is HTTP/1.x and CR.
func version(b []byte) bool {
	return len(b) == len("HTTP/1.1\r") && versionPrefix(b)
}

func versionPrefix(b []byte) bool {
	const form = "HTTP/1."
	if n := min(len(b), len(form)); string(b[:n]) != form[:n] {
		return false
	}
	return (len(b) < 8 || b[7] == '0' || b[7] == '1') && (len(b) < 9 || b[8] == '\r')
}

// setTarget checks the form of a target and cuts off what must not be kept: the
// query and fragment, and the authority of the absolute form. RFC 9112 section 3.2.
func (h *head) setTarget(t []byte, cut bool) bool {
	for _, c := range t {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	if i := bytes.IndexAny(t, "?#"); i >= 0 {
		t, cut = t[:i], false
	}
	h.cut = cut
	switch {
	case len(t) == 0:
		return false
	case string(h.method) == "CONNECT":
		h.target = authority
		return t[0] != '/'
	case t[0] == '/':
		h.target = t
		return true
	case len(t) == 1 && t[0] == '*':
		h.target = t
		return true
	}
	scheme := bytes.Index(t, []byte("://"))
	if scheme <= 0 {
		h.target = nil
		return cut && !bytes.ContainsAny(t, "/@%")
	}
	t = t[scheme+3:]
	if i := bytes.IndexByte(t, '/'); i >= 0 {
		h.target = t[i:]
	} else {
		h.target = root
	}
	return true
}

var (
	root      = []byte("/")
	authority = []byte("authority")
)

// assumedLength is that of a body whose head was not captured as a whole: these
// methods have none in practice.
func (h *head) assumedLength() int64 {
	switch string(h.method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "CONNECT", "DELETE":
		return 0
	}
	return unknownLength
}

// fields reads the header fields that begin at an offset of data.
func (h *head) fields(data []byte, at int) {
	for {
		eol := bytes.IndexByte(data[at:], '\n')
		if eol < 0 {
			if !h.chunked && h.length == 0 {
				h.length = h.assumedLength()
			}
			return
		}
		line := bytes.TrimSuffix(data[at:at+eol], crlf[:1])
		at += eol + 1
		if len(line) == 0 {
			h.end = at
			if h.chunked {
				h.length = unknownLength
			}
			return
		}
		// The first letter tells most of the fields apart.
		switch line[0] | 0x20 {
		case 'c':
			if v, ok := field(line, "content-length"); ok {
				h.length = number(v)
			}
		case 't':
			if v, ok := field(line, "transfer-encoding"); ok && hasSuffixFold(v, "chunked") {
				h.chunked = true
			}
			if v, ok := field(line, "traceparent"); ok {
				if h.traceparent != nil || len(v) == 0 {
					v = line[:0] // not nil
				}
				h.traceparent = v
			}
		case 'u':
			if v, ok := field(line, "upgrade"); ok && equalFold(v, "h2c") {
				h.upgradeH2C = true
			}
		}
	}
}

// field gives the value of a header line if it is that of a field (lower case).
func field(line []byte, name string) (value []byte, ok bool) {
	if len(line) <= len(name) || line[len(name)] != ':' || !equalFold(line[:len(name)], name) {
		return nil, false
	}
	return bytes.Trim(line[len(name)+1:], " \t"), true
}

func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func hasSuffixFold(b []byte, lower string) bool {
	return len(b) >= len(lower) && equalFold(b[len(b)-len(lower):], lower)
}

// number reads a decimal number; unknownLength if it is none.
func number(b []byte) (n int64) {
	if len(b) == 0 || len(b) > 18 {
		return unknownLength
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return unknownLength
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// response is what is used of the head of an HTTP/1 response.
type response struct {
	status int
	// end and length are as in head; a response without a length ends with the
	// connection.
	end    int
	length int64
}

// parseResponse reads a status line and as much of the head as was captured.
// RFC 9112 section 4.
func parseResponse(data []byte) (r response, ok bool) {
	const form = "HTTP/1.1 200"
	if len(data) < len(form) || !versionPrefix(data[:8]) || data[8] != ' ' {
		return r, false
	}
	if len(data) > len(form) && data[len(form)] != ' ' && data[len(form)] != '\r' {
		return r, false
	}
	status := number(data[9:12])
	if status < 100 || status > 599 {
		return r, false
	}
	r.status, r.end, r.length = int(status), -1, unknownLength
	eol := bytes.IndexByte(data, '\n')
	if eol < 0 {
		return r, true
	}
	h := head{end: -1, length: unknownLength}
	h.fields(data, eol+1)
	r.end, r.length = h.end, h.length
	if status < 200 || status == 204 || status == 304 {
		r.length = 0
	}
	return r, true
}

// skipChunks finds the end of a chunked body without trailers. RFC 9112 section 7.1.
func skipChunks(data []byte) (n int, ok bool) {
	for {
		eol := bytes.Index(data[n:], crlf)
		if eol <= 0 || eol > 16 {
			return 0, false
		}
		size := 0
		for _, c := range data[n : n+eol] {
			digit := hexDigit(c)
			if digit < 0 || size > len(data) {
				return 0, false
			}
			size = size<<4 | digit
		}
		n += eol + len(crlf) + size + len(crlf)
		if n > len(data) || n < 0 || !bytes.Equal(data[n-len(crlf):n], crlf) {
			return 0, false
		}
		if size == 0 {
			return n, true
		}
	}
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// methods are those of RFC 9110 and RFC 5789, which OpenTelemetry takes for known:
// https://opentelemetry.io/docs/specs/semconv/registry/attributes/http/#http-request-method
var methods = [...]string{"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE"}

func knownMethod(m []byte) bool {
	for _, known := range methods {
		if string(m) == known {
			return true
		}
	}
	return false
}

// methodPrefix reports whether a known method begins like this.
func methodPrefix(b []byte) bool {
	for _, known := range methods {
		if len(b) <= len(known) && string(b) == known[:len(b)] {
			return true
		}
	}
	return false
}
