// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/fleetprof/fleetprof/server/columns"
)

// key stands for an entry. It is made of two 64-bit hashes with random seeds of
// which nobody else knows, so no program can choose names that collide, and that any
// two of the 131,072 entries of a session do has a probability of 2⁻⁹⁵. An entry that
// was sent is thus not kept, which saves most of the memory.
type key [16]byte

// Encoder is the agent's end of a session.
type Encoder struct {
	session  ID
	sequence uint64
	seeds    [2]maphash.Seed
	known    [kinds]map[key]uint32
	entries  int // of all kinds
	bytes    int // of all entries

	pending []added       // by the push that is under way
	out     [kinds][]byte // new entries, each with its length before it
	scratch [kinds][]byte // the entry that is being made
	zip     *zstd.Encoder
}

// added is an entry that the server may not know yet.
type added struct {
	kind int
	key  key
	size int
}

// NewEncoder makes an Encoder that begins a session.
func NewEncoder() (*Encoder, error) {
	// A push is a few hundred kB at most and seldom more than ten.
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
		zstd.WithWindowSize(1<<20), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, fmt.Errorf("make zstd encoder: %w", err)
	}
	e := &Encoder{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, zip: zip}
	e.Reset()
	return e, nil
}

// Reset begins a new session, in which nothing has been sent.
func (e *Encoder) Reset() {
	_, _ = rand.Read(e.session[:]) // never fails: crypto/rand.Read
	e.sequence, e.entries, e.bytes, e.pending = 0, 0, 0, nil
	for k := range e.known {
		e.known[k] = map[key]uint32{}
	}
	e.add(kindString, nil) // the empty string is number 0 without being sent
	e.pending, e.bytes = nil, 0
}

// Encode makes the push of one profile. Commit or Rollback must be called before
// the next. The error is ErrTooLarge where the profile does not even fit into a
// session of its own.
func (e *Encoder) Encode(p *columns.Profile, id ID) ([]byte, error) {
	for {
		raw, err := e.encode(p, id)
		if err != nil {
			e.Rollback()
			return nil, err
		}
		full := e.entries > MaxSessionEntries || e.bytes > MaxSessionBytes
		if !full {
			body := e.zip.EncodeAll(raw, nil)
			if len(raw) > MaxBytes || len(body) > MaxBody {
				e.Rollback()
				return nil, ErrTooLarge
			}
			return body, nil
		}
		if e.Rollback(); e.sequence == 0 {
			return nil, ErrTooLarge
		}
		e.Reset()
	}
}

// Commit is called once the server has taken the push.
func (e *Encoder) Commit() {
	e.pending = nil
	e.sequence++
	for k := range e.out {
		e.out[k] = nil // the first push is large, those to come are not
	}
}

// Rollback is called where the server may not have taken the push. If it has after
// all, its answer to the next will be that the sequence is wrong.
func (e *Encoder) Rollback() {
	for _, a := range e.pending {
		delete(e.known[a.kind], a.key)
		e.bytes -= a.size
	}
	e.entries -= len(e.pending)
	e.pending = e.pending[:0]
}

// add gives the number of an entry, which is sent if it is a new one.
func (e *Encoder) add(kind int, entry []byte) uint32 {
	var k key
	binary.LittleEndian.PutUint64(k[:8], maphash.Bytes(e.seeds[0], entry))
	binary.LittleEndian.PutUint64(k[8:], maphash.Bytes(e.seeds[1], entry))
	if n, ok := e.known[kind][k]; ok {
		return n
	}
	n := uint32(len(e.known[kind]))
	e.known[kind][k] = n
	e.pending = append(e.pending, added{kind, k, len(entry)})
	e.entries++
	e.bytes += len(entry)
	e.out[kind] = append(binary.AppendUvarint(e.out[kind], uint64(len(entry))), entry...)
	return n
}

// encode makes the push before compression.
func (e *Encoder) encode(p *columns.Profile, id ID) ([]byte, error) {
	before := [kinds]int{}
	for k := range kinds {
		before[k], e.out[k] = len(e.known[k]), e.out[k][:0]
	}
	t := newTranslation(e, p)
	head, rows := t.head(), t.rows()
	out := append(slices.Clone(magic[:]), e.session[:]...)
	out = binary.AppendUvarint(out, e.sequence)
	out = append(out, id[:]...)
	for k := range kinds {
		out = binary.AppendUvarint(out, uint64(len(e.known[k])-before[k]))
		out = append(out, e.out[k]...)
	}
	return append(append(out, head...), rows...), nil
}
