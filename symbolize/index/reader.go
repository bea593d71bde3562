// SPDX-License-Identifier: Apache-2.0

package index

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/lru"
)

// Cache keeps what readers have read, within a number of bytes. It is safe for concurrent use; lookups of all readers
// are made one after the other.
type Cache struct {
	limit int64

	mu     sync.Mutex
	pages  *lru.Cache[place, []byte] // of directories, by their number
	blocks *lru.Cache[place, *kept]  // by their offset
	spare  []byte                    // what a block was in that was let go of
	// texts are the strings, by their offset, that blocks have; if they take too much both go.
	texts     map[place]string
	textBytes int64
	window    []byte // what was read last of strings
	from      place  // where
	// Of the lookup under way.
	piece  piece
	levels []level
}

// place is where something is in a file.
type place struct {
	r  *Reader
	at uint32
}

const (
	// Parts of a cache.
	pageShare = 16
	textShare = 2

	// cached is what a thing that is kept takes besides its bytes, textCached what a string does.
	cached     = 200
	textCached = 48
	// windowBytes is how much is read for strings at a time: those that are used together are side by side.
	windowBytes = 4 << 10
)

// NewCache makes a cache of so many bytes.
func NewCache(limit int64) *Cache {
	c := &Cache{limit: limit, pages: lru.New[place, []byte](limit/pageShare, math.MaxInt, nil), texts: make(map[place]string)}
	c.blocks = lru.New[place](limit-limit/pageShare-limit/textShare, math.MaxInt, func(k *kept) { c.spare = k.content })
	return c
}

// Reader looks up addresses in one index. It is safe for concurrent use.
type Reader struct {
	r       io.ReaderAt
	cache   *Cache
	data    uint64   // where the directory begins, and all else ends
	root    []uint64 // where the pages of the directory begin
	entries int
}

// Open opens an index that is size bytes long. An error that wraps ErrCorrupt says that it is damaged or not of this key.
func Open(r io.ReaderAt, size int64, key Key, cache *Cache) (*Reader, error) {
	if size < int64(headerSize+sumSize+footerSize) || size > math.MaxUint32 {
		return nil, fmt.Errorf("%d bytes: %w", size, ErrCorrupt)
	}
	header, footer := make([]byte, headerSize), make([]byte, footerSize)
	if err := readAt(r, header, 0); err != nil {
		return nil, err
	}
	if err := readAt(r, footer, size-int64(footerSize)); err != nil {
		return nil, err
	}
	body, err := checked(footer)
	if err != nil {
		return nil, err
	}
	if string(header) != magic+string(key[:]) || string(body[20:]) != magic || binary.LittleEndian.Uint64(body[12:]) != uint64(size) {
		return nil, fmt.Errorf("header: %w", ErrCorrupt)
	}
	out := &Reader{r: r, cache: cache, entries: int(binary.LittleEndian.Uint32(body)), data: binary.LittleEndian.Uint64(body[4:])}
	pages := (out.entries + pageEntries - 1) / pageEntries
	left := uint64(size) - uint64(footerSize)
	directory := uint64(out.entries*entrySize + pages*sumSize)
	root := uint64(pages*8 + sumSize)
	if pages > maxPages || out.data < uint64(headerSize) || out.data > left || left-out.data != directory+root {
		return nil, fmt.Errorf("directory: %w", ErrCorrupt)
	}
	b := make([]byte, root)
	if err := readAt(r, b, int64(left-root)); err != nil {
		return nil, err
	}
	if b, err = checked(b); err != nil {
		return nil, err
	}
	for ; len(b) > 0; b = b[8:] {
		out.root = append(out.root, binary.LittleEndian.Uint64(b))
	}
	return out, nil
}

// Bytes is the memory of the reader without what is in the cache.
func (r *Reader) Bytes() int64 { return int64(8*cap(r.root)) + cached }

// Close lets go of what the cache has of the reader. Nobody may use it any more.
func (r *Reader) Close() {
	r.cache.mu.Lock()
	defer r.cache.mu.Unlock()
	of := func(p place) bool { return p.r == r }
	r.cache.pages.DeleteFunc(of)
	r.cache.blocks.DeleteFunc(of)
	maps.DeleteFunc(r.cache.texts, func(p place, text string) bool {
		if of(p) {
			r.cache.textBytes -= int64(len(text) + textCached)
		}
		return of(p)
	})
	if r.cache.from.r == r {
		r.cache.from = place{}
	}
}

// Lookup gives the frames of an address; none if nothing is known of it. The error is ErrNotIndexed, wraps ErrCorrupt, or
// says that the file cannot be read.
func (r *Reader) Lookup(addr uint64) ([]sample.Frame, error) {
	r.cache.mu.Lock()
	defer r.cache.mu.Unlock()
	e, ok, err := r.find(addr)
	if err != nil || !ok || addr-e.low > math.MaxUint32 {
		return nil, err
	}
	k, err := r.block(e)
	if err != nil {
		return nil, err
	}
	p := &r.cache.piece
	if err := p.decode(k.content); err != nil {
		return nil, err
	}
	i, ok := p.row(uint32(addr - e.low))
	if !ok {
		return nil, nil
	}
	switch p.at(rowScope, i) {
	case nothing:
		return nil, nil
	case notIndexed:
		return nil, ErrNotIndexed
	}
	return r.frames(p, i, k.texts)
}

// level is one function of a chain.
type level struct{ function, system, file, line uint32 }

// frames makes the frames of a row, with the strings of its block.
func (r *Reader) frames(p *piece, row int, texts []string) (all []sample.Frame, err error) {
	c := r.cache
	c.levels = c.levels[:0]
	scope, file, line := p.at(rowScope, row)-firstScope+1, p.at(rowFile, row), p.at(rowLine, row)
	for scope != 0 {
		if scope > uint32(p.scopes) || len(c.levels) == maxFrames {
			return nil, fmt.Errorf("scope: %w", ErrCorrupt)
		}
		n := int(scope - 1)
		c.levels = append(c.levels, level{p.at(scopeFunction, n), p.at(scopeSystem, n), file, line})
		scope, file, line = p.at(scopeParent, n), p.at(scopeFile, n), p.at(scopeLine, n)
	}
	all = make([]sample.Frame, len(c.levels))
	for i, l := range c.levels {
		f := &all[i]
		f.Line = int64(l.line)
		if f.Function, err = r.text(p, texts, l.function); err != nil {
			return nil, err
		}
		if f.SystemName, err = r.text(p, texts, l.system); err != nil {
			return nil, err
		}
		if f.File, err = r.text(p, texts, l.file); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// text gives a string of a block by its number.
func (r *Reader) text(p *piece, texts []string, n uint32) (string, error) {
	if n >= uint32(len(texts)) {
		return "", fmt.Errorf("string: %w", ErrCorrupt)
	}
	if text := texts[n]; text != "" || n == 0 {
		return text, nil
	}
	c, at := r.cache, place{r, p.at(stringOffset, int(n-1))}
	text, ok := c.texts[at]
	if !ok {
		var err error
		if text, err = r.read(uint64(at.at)); err != nil {
			return "", err
		}
		c.textBytes += int64(len(text) + textCached)
		if c.textBytes > c.limit/textShare {
			c.blocks.Clear()
			clear(c.texts)
			c.textBytes = int64(len(text) + textCached)
		}
		c.texts[at] = text
	}
	texts[n] = text
	return text, nil
}

// usual is the length that few strings exceed, in bytes.
const usual = 256

// read reads a string at an offset.
func (r *Reader) read(offset uint64) (string, error) {
	b, err := r.view(offset, usual)
	if err != nil {
		return "", err
	}
	n, head := binary.Uvarint(b)
	if head <= 0 || n == 0 || n > maxString {
		return "", fmt.Errorf("string: %w", ErrCorrupt)
	}
	whole := head + int(n) + sumSize
	if whole > len(b) {
		if b, err = r.view(offset, whole); err != nil {
			return "", err
		}
		if whole > len(b) {
			return "", fmt.Errorf("string: %w", ErrCorrupt)
		}
	}
	if _, err := checked(b[:whole]); err != nil {
		return "", err
	}
	text := string(b[head : head+int(n)])
	if !utf8.ValidString(text) {
		return "", fmt.Errorf("string: %w", ErrCorrupt)
	}
	return text, nil
}

// view gives n bytes or more from an offset on, fewer at the end. They are valid until the next call.
func (r *Reader) view(offset uint64, n int) ([]byte, error) {
	c := r.cache
	n = int(min(uint64(n), r.data-min(offset, r.data)))
	if start := uint64(c.from.at); c.from.r == r && offset >= start && offset-start+uint64(n) <= uint64(len(c.window)) {
		return c.window[offset-start:], nil
	}
	size := int(min(uint64(max(n, windowBytes)), r.data-min(offset, r.data)))
	c.from = place{}
	if cap(c.window) < size {
		c.window = make([]byte, max(size, windowBytes))
	}
	c.window = c.window[:size]
	if err := readAt(r.r, c.window, int64(offset)); err != nil {
		return nil, err
	}
	c.from = place{r, uint32(offset)}
	return c.window, nil
}

// find gives the last block that begins at an address or before it.
func (r *Reader) find(addr uint64) (e entry, ok bool, err error) {
	n, found := slices.BinarySearch(r.root, addr)
	if !found {
		n--
	}
	if n < 0 {
		return e, false, nil
	}
	page, err := r.page(n)
	if err != nil {
		return e, false, err
	}
	low, high := 0, len(page)/entrySize
	for low < high {
		if mid := (low + high) / 2; binary.LittleEndian.Uint64(page[mid*entrySize:]) <= addr {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == 0 {
		return e, false, nil
	}
	b := page[(low-1)*entrySize:]
	return entry{
		binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:]), binary.LittleEndian.Uint32(b[16:]),
	}, true, nil
}

// page gives the entries of a page of the directory.
func (r *Reader) page(n int) ([]byte, error) {
	key := place{r, uint32(n)}
	if b, ok := r.cache.pages.Get(key); ok {
		return b, nil
	}
	b := make([]byte, min(pageEntries, r.entries-n*pageEntries)*entrySize+sumSize)
	if err := readAt(r.r, b, int64(r.data)+int64(n)*int64(pageSize)); err != nil {
		return nil, err
	}
	b, err := checked(b)
	if err == nil {
		r.cache.pages.Put(key, b, int64(len(b)+cached))
	}
	return b, err
}

// block reads the block of an entry.
func (r *Reader) block(e entry) (*kept, error) {
	key := place{r, e.offset}
	if k, ok := r.cache.blocks.Get(key); ok {
		return k, nil
	}
	if e.length > maxBlock || uint64(e.offset)+uint64(e.length) > r.data {
		return nil, fmt.Errorf("block: %w", ErrCorrupt)
	}
	b := r.cache.room(int(e.length))
	if err := readAt(r.r, b, int64(e.offset)); err != nil {
		return nil, err
	}
	if sum(b) != e.sums {
		return nil, fmt.Errorf("block: %w", ErrCorrupt)
	}
	if err := r.cache.piece.decode(b); err != nil {
		return nil, err
	}
	k := &kept{b, make([]string, r.cache.piece.strings+1)}
	r.cache.blocks.Put(key, k, k.bytes()+cached)
	return k, nil
}

// room gives n bytes, where others were if they fit.
func (c *Cache) room(n int) []byte {
	b := c.spare
	if c.spare = nil; cap(b) >= n && cap(b) <= 2*n {
		return b[:n]
	}
	return make([]byte, n)
}

// checked gives what stands before a checksum.
func checked(b []byte) ([]byte, error) {
	n := len(b) - sumSize
	if sum(b[:n]) != binary.LittleEndian.Uint32(b[n:]) {
		return nil, fmt.Errorf("checksum: %w", ErrCorrupt)
	}
	return b[:n], nil
}

// readAt fills b. That the file ends before is damage.
func readAt(r io.ReaderAt, b []byte, offset int64) error {
	if n, err := r.ReadAt(b, offset); n < len(b) {
		if err == io.EOF {
			err = ErrCorrupt
		}
		return fmt.Errorf("read index: %w", err)
	}
	return nil
}
