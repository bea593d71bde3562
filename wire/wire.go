// SPDX-License-Identifier: Apache-2.0

// Package wire is the format in which an agent sends profiles to a fleetprof
// server (FORMAT.md): what was sent once in a session, a string or a whole stack,
// is called by its number from then on.
//
// An Encoder is the agent's end of a session, a Session the server's. Both number
// what is sent in the order in which it is sent, and both go on only once a push
// is known to be taken: Commit, or Rollback. Neither is safe for concurrent use.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// ContentType is that of a push.
	ContentType = "application/x-fleetprof"
	// Path is where a server takes them.
	Path = "/api/v1/push"
	// MaxBody bounds a push as it is sent, in bytes.
	MaxBody = 8 << 20
	// MaxBytes bounds a push before compression.
	MaxBytes = 16 << 20
	// MaxSessionBytes and MaxSessionEntries bound what a session numbers. Hosts that
	// run the same programs for days stay below; others begin a new session now and then.
	MaxSessionBytes   = 4 << 20
	MaxSessionEntries = 1 << 17
)

// ID is what a session or a profile is called.
type ID = [16]byte

// Kinds of entries that a session numbers, in their order in a push: an entry
// refers only to others of kinds before its own.
const (
	kindString = iota
	kindMapping
	kindFunction
	kindLocation
	kindStack
	kindLabelSet
	kinds
)

// magic begins a push; the last byte is the version.
var magic = [4]byte{'f', 'p', 'w', 1}

// ErrTooLarge says that a profile is beyond the limits of a push or of a session.
var ErrTooLarge = errors.New("the profile does not fit into a push")

// errCut says that a push ends too early.
var errCut = errors.New("read push: it ends too early or a number is longer than 64 bits")

// reader reads numbers and bytes one after another. The first error stays, and
// what is read after it is 0.
type reader struct {
	buf []byte
	err error
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.buf)
	if n <= 0 {
		r.fail(errCut)
		r.buf = nil
		return 0
	}
	r.buf = r.buf[n:]
	return v
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// take gives the next n bytes, which stay those of the push.
func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.buf)) {
		r.fail(errCut)
		r.buf = nil
		return nil
	}
	b := r.buf[:n]
	r.buf = r.buf[n:]
	return b
}

// ref reads the number of something of which there are n.
func (r *reader) ref(what string, n int) uint32 {
	v := r.uvarint()
	if v >= uint64(n) {
		r.fail(fmt.Errorf("find %s %d: the session has %d", what, v, n))
		return 0
	}
	return uint32(v)
}

// more reports whether there is something left to read.
func (r *reader) more() bool { return r.err == nil && len(r.buf) > 0 }

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}
