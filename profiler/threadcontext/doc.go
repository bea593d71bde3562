// SPDX-License-Identifier: Apache-2.0

// Package threadcontext reads what OpenTelemetry SDKs publish about the request that a
// thread executes: where the threads of a process keep it, and what its attributes are
// called. FORMAT.md has the way through the memory of a process.
//
// All of it is the process's own memory and may have been made to hurt its reader: it
// is read through an [io.ReaderAt], a bounded number of bytes at a time, and every
// loop over it is bounded.
package threadcontext

import (
	"encoding/binary"
	"errors"
	"io"
)

var (
	// ErrNone reports an ELF image that does not define the thread's variable, or a
	// process context that does not speak of threads.
	ErrNone = errors.New("no thread context")
	// ErrUnsupported reports a way to the thread's variable, or a schema, that is not
	// known.
	ErrUnsupported = errors.New("unsupported thread context")
	// ErrDamaged reports memory that does not hold what it has to.
	ErrDamaged = errors.New("damaged thread context")
)

// memory is that of a process, little-endian.
type memory struct{ io.ReaderAt }

func (m memory) bytes(at uint64, n int) ([]byte, error) {
	b := make([]byte, n)
	if n == 0 {
		return b, nil
	}
	_, err := m.ReadAt(b, int64(at))
	return b, err
}

func (m memory) word(at uint64) (uint64, error) {
	b, err := m.bytes(at, 8)
	return binary.LittleEndian.Uint64(b), err
}

func (m memory) half(at uint64) (uint32, error) {
	b, err := m.bytes(at, 4)
	return binary.LittleEndian.Uint32(b), err
}
