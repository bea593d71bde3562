// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/fleetprof/fleetprof/sample"
)

const (
	// maxKnown bounds the strings of which is remembered where they are, in bytes; others are written again.
	maxKnown      = 1 << 20
	knownOverhead = 64
)

// Writer writes an index. It keeps the directory, a block and a part of the strings in memory. It is not safe for
// concurrent use.
type Writer struct {
	w          *bufio.Writer
	at         int64
	limit      int64
	known      map[string]uint32 // where strings are
	knownBytes int
	directory  []entry
	block      *block
	err        error
}

// entry is a block in the directory.
type entry struct {
	low                  uint64
	offset, length, sums uint32
}

// NewWriter begins an index of at most limit bytes, of which 4 GiB is the most.
func NewWriter(w io.Writer, key Key, limit int64) *Writer {
	out := &Writer{w: bufio.NewWriterSize(w, 64<<10), limit: min(limit, math.MaxUint32), known: make(map[string]uint32)}
	out.write(append([]byte(magic), key[:]...))
	return out
}

// Add says that the addresses from low up to high have these frames, the innermost first; none means that nothing is
// known of them. Each address may be in one range only. Ranges that follow on each other take less room. Frames beyond
// what a block can hold are left to others.
func (w *Writer) Add(low, high uint64, frames []sample.Frame) error {
	for _, f := range frames {
		if max(len(f.Function), len(f.SystemName), len(f.File)) > maxString || f.Line < 0 || f.Line > math.MaxUint32 {
			return w.Skip(low, high)
		}
	}
	if len(frames) > maxFrames {
		return w.Skip(low, high)
	}
	return w.put(low, high, func(b *block) row { return w.row(b, frames) })
}

// Skip says that others know about the addresses from low up to high.
func (w *Writer) Skip(low, high uint64) error {
	return w.put(low, high, func(*block) row { return row{scope: notIndexed} })
}

// put adds a row to the block, or to a new one.
func (w *Writer) put(low, high uint64, of func(*block) row) error {
	if low >= high || w.err != nil {
		return w.err
	}
	if high-low > math.MaxUint32 {
		return w.fail(fmt.Errorf("range of %d bytes: %w", high-low, ErrTooLarge))
	}
	if w.block != nil && !w.block.takes(low, high) {
		w.flush()
	}
	if w.block == nil {
		w.block = newBlock(low)
	}
	r := of(w.block)
	r.address = uint32(low - w.block.low)
	w.block.append(r, high)
	return w.err
}

// row puts the functions of frames into the block.
func (w *Writer) row(b *block, frames []sample.Frame) row {
	if len(frames) == 0 {
		return row{scope: nothing}
	}
	var s scope
	for i := len(frames) - 1; i >= 0; i-- {
		f := frames[i]
		s.function, s.system = w.text(b, f.Function), w.text(b, f.SystemName)
		s = scope{parent: b.scope(s) + 1, file: w.text(b, f.File), line: uint32(f.Line)}
	}
	return row{scope: s.parent - 1 + firstScope, file: s.file, line: s.line}
}

// text gives the number of a string in the block, and writes it if it is not in the file yet.
func (w *Writer) text(b *block, text string) uint32 {
	if text == "" {
		return 0
	}
	offset, ok := w.known[text]
	if !ok {
		offset = uint32(w.at)
		piece := binary.AppendUvarint(make([]byte, 0, len(text)+2*sumSize), uint64(len(text)))
		piece = append(piece, text...)
		w.write(binary.LittleEndian.AppendUint32(piece, sum(piece)))
		if w.knownBytes > maxKnown {
			clear(w.known)
			w.knownBytes = 0
		}
		w.known[text] = offset
		w.knownBytes += len(text) + knownOverhead
	}
	return b.text(offset)
}

// flush writes the block.
func (w *Writer) flush() {
	content := w.block.encode()
	w.directory = append(w.directory, entry{w.block.low, uint32(w.at), uint32(len(content)), sum(content)})
	w.write(content)
	w.block = nil
	if len(w.directory) > maxPages*pageEntries {
		_ = w.fail(fmt.Errorf("%d blocks: %w", len(w.directory), ErrTooLarge))
	}
}

// Close writes what is left and the directory. The index is there if it gives no error.
func (w *Writer) Close() error {
	if w.block != nil {
		w.flush()
	}
	slices.SortFunc(w.directory, func(a, b entry) int { return cmp.Compare(a.low, b.low) })
	start, entries := w.at, len(w.directory)
	var root []byte
	for page := range slices.Chunk(w.directory, pageEntries) {
		root = binary.LittleEndian.AppendUint64(root, page[0].low)
		b := make([]byte, 0, pageSize)
		for _, e := range page {
			b = binary.LittleEndian.AppendUint64(b, e.low)
			b = binary.LittleEndian.AppendUint32(b, e.offset)
			b = binary.LittleEndian.AppendUint32(b, e.length)
			b = binary.LittleEndian.AppendUint32(b, e.sums)
		}
		w.write(binary.LittleEndian.AppendUint32(b, sum(b)))
	}
	w.write(binary.LittleEndian.AppendUint32(root, sum(root)))
	footer := binary.LittleEndian.AppendUint32(nil, uint32(entries))
	footer = binary.LittleEndian.AppendUint64(footer, uint64(start))
	footer = binary.LittleEndian.AppendUint64(footer, uint64(w.at)+uint64(footerSize))
	footer = append(footer, magic...)
	w.write(binary.LittleEndian.AppendUint32(footer, sum(footer)))
	if w.err == nil {
		w.err = w.w.Flush()
	}
	return w.err
}

// Size is what was written so far, in bytes.
func (w *Writer) Size() int64 { return w.at }

func (w *Writer) write(b []byte) {
	if w.err != nil {
		return
	}
	if w.at+int64(len(b)) > w.limit {
		w.err = fmt.Errorf("more than %d bytes: %w", w.limit, ErrTooLarge)
		return
	}
	n, err := w.w.Write(b)
	w.at += int64(n)
	w.err = err
}

// fail makes all that follows fail, too.
func (w *Writer) fail(err error) error {
	if w.err == nil {
		w.err = err
	}
	return w.err
}
