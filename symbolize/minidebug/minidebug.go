// SPDX-License-Identifier: Apache-2.0

// Package minidebug reads MiniDebugInfo: the symbols of functions that a stripped file does not
// export, in an ELF file within the file, compressed by xz, in the section .gnu_debugdata.
// Fedora and its kin have it in all packages.
// https://sourceware.org/gdb/current/onlinedocs/gdb.html/MiniDebugInfo.html
package minidebug

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/therootcompany/xz"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

var (
	// ErrNone reports a file that has none.
	ErrNone = errors.New("no section .gnu_debugdata")
	// ErrTooLarge reports one that is larger than the caller allows.
	ErrTooLarge = errors.New("too large")
)

// maxDictionary is the memory in bytes that decompression may take besides its result: that of
// xz's default level, by which such sections are made.
const maxDictionary = 8 << 20

// Open gives the inner file. It is in memory and takes size bytes, at most limit. Addresses in
// it are those of f; it has no code.
func Open(f *objfile.File, limit int64) (inner *objfile.File, size int64, err error) {
	section, ok := f.Section(".gnu_debugdata")
	if !ok {
		return nil, 0, ErrNone
	}
	content, err := decompress(f.Reader(section), limit)
	if err != nil {
		return nil, 0, fmt.Errorf("decompress .gnu_debugdata: %w", err)
	}
	inner, err = objfile.Open(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, 0, fmt.Errorf("read .gnu_debugdata: %w", err)
	}
	return inner, int64(cap(content)), nil
}

// decompress guards against mistakes of the library: files may have been made by anybody.
func decompress(r io.Reader, limit int64) (content []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			content, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	z, err := xz.NewReader(r, maxDictionary)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if n, err := io.CopyN(&out, z, limit+1); n > limit {
		return nil, fmt.Errorf("more than %d bytes: %w", limit, ErrTooLarge)
	} else if err != io.EOF {
		return nil, err
	}
	return bytes.Clone(out.Bytes()), nil
}
