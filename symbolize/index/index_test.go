// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// span is a range as it is added; skip is one that is left to others.
type span struct {
	low, high uint64
	frames    []sample.Frame
	skip      bool
}

// invent makes ranges of a program that is not there: runs of them, with inlined calls, and runs out of order.
func invent(random *rand.Rand, n int) (all []span) {
	for _, run := range random.Perm(n) {
		at := uint64(run)<<20 + random.Uint64N(1<<18)
		for range 1 + random.IntN(2000) {
			s := span{low: at, high: at + 1 + random.Uint64N(60)}
			at = s.high
			switch random.IntN(20) {
			case 0:
			case 1:
				s.skip = true
			default:
				for depth := range 1 + random.IntN(5) {
					name := fmt.Sprintf("function%d", random.IntN(300)+depth)
					f := sample.Frame{Function: name, File: fmt.Sprintf("/src/%d.c", random.IntN(20)), Line: random.Int64N(1 << (1 + random.IntN(32)))}
					if random.IntN(2) == 0 {
						f.SystemName = "_Z" + name + strings.Repeat("x", random.IntN(300))
					}
					s.frames = append(s.frames, f)
				}
			}
			all = append(all, s)
		}
	}
	return all
}

func write(t testing.TB, key Key, all []span) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out, key, 1<<30)
	for _, s := range all {
		add := func() error { return w.Add(s.low, s.high, s.frames) }
		if s.skip {
			add = func() error { return w.Skip(s.low, s.high) }
		}
		if err := add(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Size() != int64(out.Len()) {
		t.Errorf("size is %d, want %d", w.Size(), out.Len())
	}
	return out.Bytes()
}

func open(t testing.TB, content []byte, key Key, cache *Cache) *Reader {
	t.Helper()
	r, err := Open(bytes.NewReader(content), int64(len(content)), key, cache)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// expect looks up addresses of ranges, and some beside them.
func expect(t *testing.T, r *Reader, random *rand.Rand, all []span, n int) {
	t.Helper()
	for range n {
		s := all[random.IntN(len(all))]
		at := s.low + random.Uint64N(s.high-s.low)
		got, err := r.Lookup(at)
		if s.skip != errors.Is(err, ErrNotIndexed) || err != nil && !s.skip {
			t.Fatalf("%#x: %v", at, err)
		}
		if len(got)+len(s.frames) > 0 && !reflect.DeepEqual(got, s.frames) {
			t.Fatalf("%#x is\n\t%v\nwant\n\t%v", at, got, s.frames)
		}
	}
	for _, at := range []uint64{0, 1<<20 - 1, uint64(len(all)) << 20, ^uint64(0)} {
		if got, err := r.Lookup(at); got != nil || err != nil {
			t.Errorf("%#x is %v, %v", at, got, err)
		}
	}
}

// TestWhatIsWrittenIsRead has caches with room for all, for little, and for nothing.
func TestWhatIsWrittenIsRead(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	all := invent(random, 200)
	content := write(t, Key{1}, all)
	for _, bytes := range []int64{64 << 20, 64 << 10, 0} {
		cache := NewCache(bytes)
		r := open(t, content, Key{1}, cache)
		expect(t, r, random, all, 10000)
		kept := cache.blocks.Cost() + cache.pages.Cost() + cache.textBytes
		if bytes > 0 && kept > bytes+32<<10 { // what was read last stays in any case
			t.Errorf("%d bytes are kept, want %d at most", kept, bytes)
		}
		r.Close()
		if n := cache.blocks.Len() + cache.pages.Len() + len(cache.texts); n > 0 || cache.textBytes != 0 {
			t.Errorf("%d things and %d bytes of strings are kept after the end", n, cache.textBytes)
		}
	}
	if pages := len(open(t, content, Key{1}, NewCache(0)).root); pages < 5 {
		t.Errorf("the directory has %d pages: too few to test it", pages)
	}
}

// TestSharedCache has readers of two files with one cache.
func TestSharedCache(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	cache := NewCache(1 << 20)
	first, second := invent(random, 20), invent(random, 20)
	one, two := open(t, write(t, Key{1}, first), Key{1}, cache), open(t, write(t, Key{2}, second), Key{2}, cache)
	for range 50 {
		expect(t, one, random, first, 20)
		expect(t, two, random, second, 20)
	}
	one.Close()
	expect(t, two, random, second, 2000)
}

// TestEmpty is an index of nothing.
func TestEmpty(t *testing.T) {
	r := open(t, write(t, Key{}, nil), Key{}, NewCache(1<<20))
	if got, err := r.Lookup(5); got != nil || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// TestBeyond leaves to others what no index can hold, and keeps the rest.
func TestBeyond(t *testing.T) {
	usual := []sample.Frame{{Function: "f", Line: 1}}
	for name, frames := range map[string][]sample.Frame{
		"string": {{Function: strings.Repeat("x", maxString+1)}},
		"frames": make([]sample.Frame, maxFrames+1),
		"line":   {{Function: "f", Line: 1 << 32}},
		"before": {{Function: "f", Line: -1}},
	} {
		r := open(t, write(t, Key{}, []span{{0, 10, usual, false}, {10, 20, frames, false}, {20, 30, usual, false}}), Key{}, NewCache(1<<20))
		if _, err := r.Lookup(15); !errors.Is(err, ErrNotIndexed) {
			t.Errorf("%s: %v", name, err)
		}
		for _, at := range []uint64{5, 25} {
			if got, err := r.Lookup(at); !reflect.DeepEqual(got, usual) {
				t.Errorf("%s: beside it %v, %v", name, got, err)
			}
		}
	}
	most := []sample.Frame{{Function: strings.Repeat("x", maxString), Line: 1<<32 - 1}}
	for len(most) < maxFrames {
		most = append(most, sample.Frame{Function: fmt.Sprint(len(most)), File: fmt.Sprint("file", len(most)), SystemName: fmt.Sprint("_Z", len(most))})
	}
	r := open(t, write(t, Key{}, []span{{0, 10, usual, false}, {10, 20, most, false}, {20, 30, most, false}}), Key{}, NewCache(1<<20))
	if got, err := r.Lookup(15); !reflect.DeepEqual(got, most) {
		t.Errorf("the most that there may be is %d frames, %v", len(got), err)
	}
}

// TestLimits ends with an error that says so.
func TestLimits(t *testing.T) {
	all := invent(rand.New(rand.NewPCG(5, 6)), 50)
	size := int64(len(write(t, Key{}, all)))
	var out bytes.Buffer
	w := NewWriter(&out, Key{}, size/2)
	for _, s := range all {
		_ = w.Add(s.low, s.high, s.frames) // Close tells
	}
	if err := w.Close(); !errors.Is(err, ErrTooLarge) || int64(out.Len()) > size/2 {
		t.Errorf("%d bytes of %d: %v", out.Len(), size/2, err)
	}
	if err := NewWriter(&out, Key{}, 1<<30).Add(0, 1<<40, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a terabyte of code: %v", err)
	}
	w, at := NewWriter(&out, Key{}, 1<<30), uint64(0)
	var err error
	for err == nil && at < 1<<20 {
		err = w.Add(at, at+1, nil)
		at += 2
	}
	if !errors.Is(err, ErrTooLarge) || len(w.directory) > 2*maxPages*pageEntries {
		t.Errorf("after %d blocks: %v", len(w.directory), err)
	}
}

// failing writes so many bytes.
type failing struct{ left int }

var errFull = errors.New("disk full")

func (f *failing) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestDiskFull(t *testing.T) {
	w := NewWriter(&failing{100 << 10}, Key{}, 1<<30)
	for _, s := range invent(rand.New(rand.NewPCG(7, 8)), 50) {
		_ = w.Add(s.low, s.high, s.frames) // Close tells
	}
	if err := w.Close(); !errors.Is(err, errFull) {
		t.Error(err)
	}
}

// TestDamage flips each byte of a small index, and cuts it everywhere: what is then read is right or an error.
func TestDamage(t *testing.T) {
	all := []span{
		{100, 110, []sample.Frame{{Function: "inner", SystemName: "_Zinner", File: "a.c", Line: 7}, {Function: "outer", File: "b.c", Line: 300}}, false},
		{110, 150, []sample.Frame{{Function: "outer", File: "b.c", Line: 301}}, false},
		{150, 160, nil, true},
		{1000, 1010, []sample.Frame{{Function: "other"}}, false},
	}
	content := write(t, Key{9}, all)
	try := func(what string, damaged []byte) {
		r, err := Open(bytes.NewReader(damaged), int64(len(damaged)), Key{9}, NewCache(1<<20))
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v", what, err)
			}
			return
		}
		for _, s := range all {
			got, err := r.Lookup(s.low)
			switch {
			case errors.Is(err, ErrCorrupt):
			case s.skip != errors.Is(err, ErrNotIndexed), !s.skip && !reflect.DeepEqual(got, s.frames):
				t.Errorf("%s: %d is %v, %v", what, s.low, got, err)
			}
		}
	}
	for i := range content {
		damaged := bytes.Clone(content)
		damaged[i] ^= 1 << (i % 8)
		try(fmt.Sprint("byte ", i), damaged)
		try(fmt.Sprint("cut at ", i), content[:i])
	}
	if _, err := Open(bytes.NewReader(content), int64(len(content)), Key{8}, NewCache(0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another key: %v", err)
	}
}

// FuzzReader looks up in indexes of any content. Checksums are made right, else hardly anything would be read.
func FuzzReader(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	f.Add(write(f, Key{}, nil), uint64(0))
	f.Add(write(f, Key{}, invent(random, 1)[:50]), uint64(1<<10))
	f.Add(write(f, Key{}, []span{{1, 9, []sample.Frame{{Function: "a", SystemName: "b", File: "c", Line: 1}, {Function: "d"}}, false}, {9, 12, nil, true}}), uint64(2))
	f.Fuzz(func(t *testing.T, content []byte, addr uint64) {
		if len(content) > 64<<10 {
			return
		}
		mend(content)
		r, err := Open(bytes.NewReader(content), int64(len(content)), Key{}, NewCache(64<<10))
		if err != nil {
			return
		}
		if r.Bytes() > int64(len(content))+cached {
			t.Errorf("%d bytes of %d are kept", r.Bytes(), len(content))
		}
		for i := range uint64(100) {
			frames, err := r.Lookup(addr + i*i)
			if len(frames) > maxFrames || err != nil && len(frames) > 0 {
				t.Fatalf("%d frames, %v", len(frames), err)
			}
		}
	})
}

// mend makes right the checksums of an index as far as they are found.
func mend(b []byte) {
	put := func(at, n uint64) { // the sum of n bytes
		if size := uint64(len(b)); at <= size && n <= size-at && size-at-n >= sumSize {
			binary.LittleEndian.PutUint32(b[at+n:], sum(b[at:at+n]))
		}
	}
	if len(b) < headerSize+sumSize+footerSize {
		return
	}
	footer := b[len(b)-footerSize:]
	put(uint64(len(b)-footerSize), uint64(footerSize-sumSize))
	entries, data := uint64(binary.LittleEndian.Uint32(footer)), binary.LittleEndian.Uint64(footer[4:])
	pages := (entries + pageEntries - 1) / pageEntries
	put(data+entries*entrySize+pages*sumSize, pages*8)
	for at := data; entries > 0 && at < uint64(len(b)); at += pageSize {
		n := min(entries, pageEntries)
		entries -= n
		for i := range n {
			if e := at + i*entrySize; e+entrySize <= uint64(len(b)) {
				offset, length := uint64(binary.LittleEndian.Uint32(b[e+8:])), uint64(binary.LittleEndian.Uint32(b[e+12:]))
				if offset+length <= uint64(len(b)) {
					binary.LittleEndian.PutUint32(b[e+16:], sum(b[offset:offset+length]))
				}
			}
		}
		put(at, n*entrySize)
	}
	for at := uint64(headerSize); at < min(data, uint64(len(b))); { // strings, up to the first block
		n, head := binary.Uvarint(b[at:])
		if head <= 0 || n > maxString {
			break
		}
		put(at, uint64(head)+n)
		at += uint64(head) + n + sumSize
	}
}

// TestFormat fails when files are no longer what FORMAT.md says and earlier agents wrote: then magic has to be another.
func TestFormat(t *testing.T) {
	content := write(t, Key{7}, invent(rand.New(rand.NewPCG(9, 9)), 3))
	const want = "7287fc434a403be19b2d12d5a0bb19253903c24bdc328ff185fcd56e23012deb"
	if got := fmt.Sprintf("%x", sha256.Sum256(content)); got != want {
		t.Errorf("the file of %s has the hash %s, want %s", magic, got, want)
	}
}
