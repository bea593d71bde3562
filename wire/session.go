// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"github.com/fleetprof/fleetprof/server/columns"
)

// ErrSequence says that a push is not the next of its session: the agent has to begin
// a new one.
var ErrSequence = errors.New("the push is not the next of its session")

// Push is one push, unpacked and not yet understood.
type Push struct {
	Session  ID
	Sequence uint64 // 0 begins the session
	Profile  ID
	rest     []byte
}

// Unpacker unpacks pushes. It is safe for concurrent use.
type Unpacker struct{ zip *zstd.Decoder }

// NewUnpacker makes one, which lives as long as it is used.
func NewUnpacker() (*Unpacker, error) {
	zip, err := zstd.NewReader(nil, zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(MaxBytes), zstd.WithDecoderMaxWindow(MaxBytes))
	if err != nil {
		return nil, fmt.Errorf("make zstd decoder: %w", err)
	}
	return &Unpacker{zip}, nil
}

// Unpack decompresses a push and reads how it begins. The error is ErrTooLarge where
// it is larger than MaxBytes.
func (u *Unpacker) Unpack(body []byte) (*Push, error) {
	raw, err := u.zip.DecodeAll(body, nil)
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return nil, ErrTooLarge
	case err != nil:
		return nil, fmt.Errorf("unpack push: %w", err)
	}
	p, r := new(Push), reader{buf: raw}
	if begin := r.take(uint64(len(magic))); !bytes.Equal(begin, magic[:]) {
		return nil, fmt.Errorf("read push: it begins with %q, want %q", begin, magic[:])
	}
	copy(p.Session[:], r.take(uint64(len(p.Session))))
	p.Sequence = r.uvarint()
	copy(p.Profile[:], r.take(uint64(len(p.Profile))))
	p.rest = r.buf
	return p, r.err
}

// table is the entries of one kind, one after another as they were sent.
type table struct {
	text []byte
	ends []uint32
}

func (t *table) len() int { return len(t.ends) }

func (t *table) entry(i uint32) []byte {
	start := uint32(0)
	if i > 0 {
		start = t.ends[i-1]
	}
	return t.text[start:t.ends[i]]
}

func (t *table) add(b []byte) {
	t.text = append(t.text, b...)
	t.ends = append(t.ends, uint32(len(t.text)))
}

func (t *table) cut(n int) {
	t.ends = t.ends[:n]
	size := uint32(0)
	if n > 0 {
		size = t.ends[n-1]
	}
	t.text = t.text[:size]
}

// Session is the server's end of a session. Its zero value has begun nothing.
type Session struct {
	next   uint64 // the sequence number to come
	sender *columns.Sender
	tables [kinds]table
	before [kinds]int // entries when the push under way began
}

// Size is about how many bytes of memory the session takes.
func (s *Session) Size() int64 {
	size := 512
	for k := range s.tables {
		size += cap(s.tables[k].text) + 4*cap(s.tables[k].ends)
	}
	return int64(size)
}

// Decode reads the profile of a push, of which no memory is kept. Commit or Rollback
// must be called before the next, Rollback only if the profile is not stored: its Origin has
// numbers of the session. The error is ErrSequence where the push is not the
// next; others are about what it says.
func (s *Session) Decode(p *Push) (*columns.Profile, error) {
	for k := range s.tables {
		s.before[k] = s.tables[k].len()
	}
	if p.Sequence != s.next {
		return nil, fmt.Errorf("%w: it is number %d, want %d", ErrSequence, p.Sequence, s.next)
	}
	if s.sender == nil {
		s.sender = new(columns.Sender)
	}
	r := &reader{buf: p.rest}
	if s.tables[kindString].len() == 0 {
		s.tables[kindString].add(nil)
	}
	for k := range s.tables {
		s.take(r, k)
	}
	if r.err != nil {
		return nil, r.err
	}
	return newResolution(s).profile(r)
}

// Commit is called once the profile has been stored.
func (s *Session) Commit() { s.next++ }

// Rollback forgets what the last push brought.
func (s *Session) Rollback() {
	for k := range s.tables {
		s.tables[k].cut(s.before[k])
	}
}

// take reads the new entries of a kind, and checks what they refer to, so that it is
// there whenever they are used.
func (s *Session) take(r *reader, kind int) {
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		entry := r.take(r.uvarint())
		if r.err != nil {
			return
		}
		r.fail(s.check(kind, entry))
		s.tables[kind].add(entry)
		entries, size := 0, 0
		for k := range s.tables {
			entries += s.tables[k].len()
			size += len(s.tables[k].text)
		}
		// The empty string is not counted, as it is not sent.
		if entries-1 > MaxSessionEntries || size > MaxSessionBytes {
			r.fail(fmt.Errorf("read push: more than %d entries or %d bytes in the session", MaxSessionEntries, MaxSessionBytes))
		}
	}
}

// check reads an entry for its mistakes.
func (s *Session) check(kind int, entry []byte) error {
	r := &reader{buf: entry}
	switch kind {
	case kindString:
		if !utf8.Valid(entry) {
			return errors.New("read string: invalid UTF-8")
		}
		return nil
	case kindMapping:
		s.mapping(r)
	case kindFunction:
		s.function(r)
	case kindLocation:
		s.location(r, nil)
	case kindStack:
		for r.more() {
			r.ref("location", s.tables[kindLocation].len())
		}
	case kindLabelSet:
		for r.more() {
			s.label(r)
		}
	}
	if r.err == nil && len(r.buf) > 0 {
		r.fail(errors.New("read push: an entry is longer than what is in it"))
	}
	return r.err
}

func (s *Session) string(r *reader) uint32 { return r.ref("string", s.tables[kindString].len()) }

// The following read one entry; strings, functions and mappings in it are numbers of
// the session.

func (s *Session) mapping(r *reader) columns.Mapping {
	return columns.Mapping{
		Start: r.uvarint(), Limit: r.uvarint(), Offset: r.uvarint(),
		File: s.string(r), BuildID: s.string(r), Resolved: columns.Resolved(r.uvarint() & 0xf),
	}
}

func (s *Session) function(r *reader) columns.Function {
	return columns.Function{Name: s.string(r), SystemName: s.string(r), File: s.string(r), StartLine: r.varint()}
}

func (s *Session) location(r *reader, lines []columns.Line) (columns.Location, []columns.Line) {
	head := r.uvarint()
	l := columns.Location{Folded: head&1 != 0, Address: r.uvarint()}
	if m := head >> 1; m > uint64(s.tables[kindMapping].len()) {
		r.fail(fmt.Errorf("find mapping %d: the session has %d", m-1, s.tables[kindMapping].len()))
	} else {
		l.Mapping = uint32(m)
	}
	for r.more() {
		f := r.uvarint()
		line := columns.Line{Line: r.varint()}
		if f&1 != 0 {
			line.Column = r.varint()
		}
		if f>>1 >= uint64(s.tables[kindFunction].len()) {
			r.fail(fmt.Errorf("find function %d: the session has %d", f>>1, s.tables[kindFunction].len()))
		} else {
			line.Function = uint32(f >> 1)
		}
		lines = append(lines, line)
	}
	return l, lines
}

func (s *Session) label(r *reader) columns.Label {
	key := r.uvarint()
	var l columns.Label
	if n := s.tables[kindString].len(); key>>1 >= uint64(n) {
		r.fail(fmt.Errorf("find string %d: the session has %d", key>>1, n))
	} else {
		l.Key = uint32(key >> 1)
	}
	if key&1 != 0 {
		l.Number, l.Unit = r.varint(), s.string(r)
	} else {
		l.Text = s.string(r)
	}
	return l
}
