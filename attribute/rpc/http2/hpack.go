// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"errors"
	"io"
)

// maxHeaderList is how much of a decoded header list is read, in the octets of
// RFC 9113, section 6.5.2. What comes after it is not known.
const maxHeaderList = 64 << 10

// kind is which header field a name stands for.
type kind uint8

const (
	otherKind   kind = iota // a known name that nobody asks for
	unknownKind             // refers to an entry that was not seen
	requestKind             // :scheme, :authority, :protocol: occur in requests only
	methodKind
	pathKind
	statusKind
	contentTypeKind
	traceparentKind
	grpcStatusKind
	kinds
)

// longestName is the length of the longest name that kindOf knows.
const longestName = len("content-type")

func kindOf(name string) kind {
	switch name {
	case ":scheme", ":authority", ":protocol":
		return requestKind
	case ":method":
		return methodKind
	case ":path":
		return pathKind
	case ":status":
		return statusKind
	case "content-type":
		return contentTypeKind
	case "traceparent":
		return traceparentKind
	case "grpc-status":
		return grpcStatusKind
	}
	return otherKind
}

// value is what is kept of a field's value. What cannot be the value of such a
// field is Unknown.
func (k kind) value(raw []byte) string {
	switch k {
	case pathKind:
		for i, b := range raw {
			if b == '?' || b == '#' {
				raw = raw[:i]
				break
			}
		}
	case methodKind, statusKind, contentTypeKind, traceparentKind, grpcStatusKind:
	default:
		return ""
	}
	if len(raw) == 0 || k == pathKind && raw[0] != '/' || k == statusKind && len(raw) != 3 {
		return Unknown
	}
	for _, b := range raw {
		if b < ' ' || b >= 0x7f || b == ' ' && k != contentTypeKind {
			return Unknown
		}
	}
	return string(raw)
}

var (
	errCut     = errors.New("header block ends within a field")
	errInvalid = errors.New("not a header block")
)

// blockReader reads the fields of a header block in their order and keeps the
// table as the peer's decoder does.
type blockReader struct {
	table *table
	rest  []byte
	began bool // a field was read; sizes of the table stand before the first
}

// next is the next field; io.EOF after the last. The kind of a field that
// refers to an entry that was not seen is unknownKind.
func (r *blockReader) next() (entry, error) {
	for len(r.rest) > 0 {
		b := r.rest[0]
		if b&0xe0 == 0x20 {
			size, err := r.integer(5)
			if err != nil {
				return entry{}, err
			}
			if r.began {
				return entry{}, errInvalid
			}
			r.table.resize(size)
			continue
		}
		r.began = true
		switch {
		case b&0x80 != 0:
			i, err := r.integer(7)
			if err != nil {
				return entry{}, err
			}
			return r.indexed(i)
		case b&0xc0 == 0x40:
			e, err := r.literal(6)
			if err == nil {
				r.table.insert(e)
			}
			return e, err
		}
		return r.literal(4)
	}
	return entry{}, io.EOF
}

// indexed is the entry of an index (RFC 7541, section 2.3.3).
func (r *blockReader) indexed(i int) (entry, error) {
	switch t := r.table; {
	case i == 0:
		return entry{}, errInvalid
	case i <= len(staticTable):
		s := &staticTable[i-1]
		e := entry{kind: kindOf(s.name), nameLen: uint32(len(s.name)), valueLen: uint32(len(s.value))}
		if e.kind > requestKind {
			e.value = s.value
		}
		return e, nil
	case i-len(staticTable) <= t.n:
		return *t.at(i - len(staticTable) - 1), nil
	case !t.older:
		return entry{}, errInvalid
	}
	return entry{kind: unknownKind}, nil
}

// literal reads a field whose value is spelled out; its name may be that of an
// entry.
func (r *blockReader) literal(prefix uint) (e entry, err error) {
	i, err := r.integer(prefix)
	if err != nil {
		return entry{}, err
	}
	if i > 0 {
		e, err = r.indexed(i)
	} else {
		e, err = r.name()
	}
	if err != nil {
		return entry{}, err
	}
	var scratch [256]byte
	raw, compressed, err := r.text()
	if err != nil {
		return entry{}, err
	}
	e.value = ""
	if !compressed {
		e.valueLen, e.value = uint32(len(raw)), e.kind.value(raw)
		return e, nil
	}
	var room []byte
	if e.kind > requestKind {
		room = scratch[:0]
		if most := len(raw) * 8 / 5; most > len(scratch) {
			room = make([]byte, 0, most)
		}
	}
	decoded, n, ok := huffman(room, raw)
	if !ok {
		return entry{}, errInvalid
	}
	e.valueLen, e.value = uint32(n), e.kind.value(decoded)
	return e, nil
}

// name reads a name that is spelled out.
func (r *blockReader) name() (entry, error) {
	raw, compressed, err := r.text()
	if err != nil {
		return entry{}, err
	}
	n, ok := len(raw), true
	var scratch [longestName + 1]byte
	if compressed {
		raw, n, ok = huffman(scratch[:0], raw)
	}
	if !ok || n == 0 {
		return entry{}, errInvalid
	}
	e := entry{nameLen: uint32(n)}
	if n <= longestName {
		e.kind = kindOf(string(raw))
	}
	return e, nil
}

// text reads a string's bytes and whether they are Huffman-coded.
func (r *blockReader) text() (raw []byte, compressed bool, err error) {
	if len(r.rest) == 0 {
		return nil, false, errCut
	}
	compressed = r.rest[0]&0x80 != 0
	n, err := r.integer(7)
	if err != nil {
		return nil, false, err
	}
	if n > len(r.rest) {
		return nil, false, errCut
	}
	raw, r.rest = r.rest[:n], r.rest[n:]
	return raw, compressed, nil
}

// integer reads a number whose first bits are the lowest of the next byte (RFC
// 7541, section 5.1). Numbers of 2³¹ and more are invalid.
func (r *blockReader) integer(prefix uint) (int, error) {
	mask := 1<<prefix - 1
	n := int(r.rest[0]) & mask
	r.rest = r.rest[1:]
	if n < mask {
		return n, nil
	}
	for shift := 0; len(r.rest) > 0; shift += 7 {
		b := r.rest[0]
		r.rest = r.rest[1:]
		if n += int(b&0x7f) << shift; shift > 28 || n >= 1<<31 {
			return 0, errInvalid
		}
		if b&0x80 == 0 {
			return n, nil
		}
	}
	return 0, errCut
}

// fields are the wanted fields of one header block.
type fields struct {
	values [kinds]string
	seen   [kinds]bool
	// partial says that there are fields that are not known.
	partial bool
}

// get is a field's value, "" if the block has no such field, Unknown if that
// cannot be told.
func (f *fields) get(k kind) string {
	if !f.seen[k] && f.partial {
		return Unknown
	}
	return f.values[k]
}

// request says that the block has a field that only requests have.
func (f *fields) request() bool {
	return f.seen[requestKind] || f.seen[methodKind] || f.seen[pathKind]
}

// read reads a header block, of which complete says whether all bytes are here.
// What cannot be read leaves the table unknown, for the insertions after it are
// not seen. ok is false if the bytes are not a header block.
func (f *fields) read(t *table, block []byte, complete bool) (ok bool) {
	r := blockReader{table: t, rest: block}
	for size := 0; ; {
		e, err := r.next()
		switch {
		case err == io.EOF && complete:
			return true
		case (err == io.EOF || err == errCut) && !complete:
			f.partial = true
			t.forget()
			return true
		case err != nil:
			t.forget()
			return false
		}
		if size += e.size(); size > maxHeaderList {
			f.partial = true
			t.forget()
			return true
		}
		f.add(e)
	}
}

func (f *fields) add(e entry) {
	switch {
	case e.kind == unknownKind:
		f.partial = true
	case f.seen[e.kind] && e.kind > requestKind:
		f.values[e.kind] = Unknown // which one counts is the program's affair
	default:
		f.seen[e.kind], f.values[e.kind] = true, e.value
	}
}
