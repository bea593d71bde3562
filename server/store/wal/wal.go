// SPDX-License-Identifier: Apache-2.0

// Package wal writes records to a log on disk and reads them back. A record stands
// for itself: whatever else is damaged, it is found and read. See "wal" in FORMAT.md
// of package store for the bytes.
package wal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

const (
	// MaxRecord bounds the payload of one record, in bytes.
	MaxRecord = 256 << 20
	// Salt is how many bytes of chance a log has.
	Salt = 8

	headerSize = 16
	magic      = "FPR2"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Writer appends to a new log. It is not safe for concurrent use.
type Writer struct {
	f    *os.File
	salt []byte
	size int64
	buf  []byte
}

// Create makes a log; the file must not be there yet. The salt keeps whoever
// chooses what is in records from writing something that looks like a record: the
// caller keeps it outside the log.
func Create(path string, salt []byte) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &Writer{f: f, salt: salt}, nil
}

// Append writes records, down to the disk. After an error none of them is there,
// unless not even that could be achieved; nothing more must be appended then.
func (w *Writer) Append(payloads ...[]byte) error {
	w.buf = w.buf[:0]
	for _, p := range payloads {
		if len(p) > MaxRecord {
			return fmt.Errorf("write record: %d bytes, want at most %d", len(p), MaxRecord)
		}
		w.buf = appendRecord(w.buf, w.salt, p)
	}
	_, err := w.f.WriteAt(w.buf, w.size)
	if err == nil {
		err = w.f.Sync()
	}
	if err != nil {
		return errors.Join(err, w.f.Truncate(w.size))
	}
	w.size += int64(len(w.buf))
	if cap(w.buf) > 1<<20 {
		w.buf = nil
	}
	return nil
}

// Size is the length of the log in bytes.
func (w *Writer) Size() int64 { return w.size }

// Close closes the file.
func (w *Writer) Close() error { return w.f.Close() }

// appendRecord appends a record: the magic, the length of the payload, its CRC-32C,
// the CRC-32C of salt and header so far, and the payload.
func appendRecord(to, salt, payload []byte) []byte {
	at := len(to)
	to = append(to, magic...)
	to = binary.LittleEndian.AppendUint32(to, uint32(len(payload)))
	to = binary.LittleEndian.AppendUint32(to, crc32.Checksum(payload, castagnoli))
	to = binary.LittleEndian.AppendUint32(to, headerSum(salt, to[at:]))
	return append(to, payload...)
}

func headerSum(salt, header []byte) uint32 {
	return crc32.Update(crc32.Checksum(salt, castagnoli), castagnoli, header)
}

// Found says what Read has met besides records.
type Found struct {
	// Damaged is how many records, or runs of bytes that are none, were passed over.
	Damaged int
	// Torn is the length of a last record that was never written whole, which is how
	// a log ends when its writer is killed.
	Torn int64
}

// Read calls f for each record of a log in order. It passes over what is damaged, and
// ends with the error of f. The payload is f's only until it returns.
func Read(r io.ReaderAt, size int64, salt []byte, f func(payload []byte) error) (found Found, err error) {
	var payload []byte
	for at := int64(0); at < size; {
		length, sum, ok := readHeader(r, size, at, salt)
		if !ok {
			next, err := findHeader(r, size, at+1, salt)
			if err != nil {
				return found, err
			}
			if next == size && torn(r, size, at) {
				found.Torn = size - at
				return found, nil
			}
			found.Damaged++
			at = next
			continue
		}
		if length > size-at-headerSize {
			found.Torn = size - at
			return found, nil
		}
		payload = append(payload[:0], make([]byte, length)...)
		if err := readAt(r, payload, at+headerSize); err != nil {
			return found, fmt.Errorf("read record at %d: %w", at, err)
		}
		at += headerSize + length
		if crc32.Checksum(payload, castagnoli) != sum {
			found.Damaged++
			continue
		}
		if err := f(payload); err != nil {
			return found, err
		}
	}
	return found, nil
}

// readAt fills b. Some readers tell of their end together with the last bytes, or where
// none are asked for.
func readAt(r io.ReaderAt, b []byte, at int64) error {
	if n, err := r.ReadAt(b, at); n < len(b) {
		return err
	}
	return nil
}

// torn reports whether what is left at the end of a log may be the beginning of a
// header, or zeros that the file system has put where nothing was written yet.
func torn(r io.ReaderAt, size, at int64) bool {
	rest := make([]byte, min(size-at, headerSize))
	if readAt(r, rest, at) != nil {
		return false
	}
	if size-at < headerSize && bytes.HasPrefix([]byte(magic), rest[:min(len(rest), len(magic))]) {
		return true
	}
	return bytes.Count(rest, []byte{0}) == len(rest)
}

// readHeader reads the header at an offset; false means that there is none.
func readHeader(r io.ReaderAt, size, at int64, salt []byte) (length int64, sum uint32, ok bool) {
	var h [headerSize]byte
	if size-at < headerSize {
		return 0, 0, false
	}
	if readAt(r, h[:], at) != nil || string(h[:4]) != magic {
		return 0, 0, false
	}
	length = int64(binary.LittleEndian.Uint32(h[4:]))
	ok = headerSum(salt, h[:12]) == binary.LittleEndian.Uint32(h[12:]) && length <= MaxRecord
	return length, binary.LittleEndian.Uint32(h[8:]), ok
}

// findHeader gives the offset of the next header from an offset on, or the size.
func findHeader(r io.ReaderAt, size, from int64, salt []byte) (int64, error) {
	b := bufio.NewReaderSize(io.NewSectionReader(r, from, size-from), 64<<10)
	for at := from; ; {
		window, err := b.Peek(b.Size())
		if err != nil && !errors.Is(err, io.EOF) {
			return size, fmt.Errorf("look for a record from %d: %w", at, err)
		}
		i := bytes.Index(window, []byte(magic))
		if i >= 0 {
			if _, _, ok := readHeader(r, size, at+int64(i), salt); ok {
				return at + int64(i), nil
			}
			i++
		} else if i = len(window) - len(magic) + 1; i <= 0 || len(window) < b.Size() {
			return size, nil
		}
		if _, err := b.Discard(i); err != nil {
			return size, fmt.Errorf("look for a record from %d: %w", at, err)
		}
		at += int64(i)
	}
}
