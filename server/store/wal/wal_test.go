// SPDX-License-Identifier: Apache-2.0

package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fleetprof/fleetprof/server/store/wal"
)

var salt = []byte("8 bytes!")

// write makes a log of records and gives its bytes.
func write(t testing.TB, salt []byte, records ...[]byte) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	w, err := wal.Create(path, salt)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := w.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	size := w.Size()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(path)
	if err != nil || int64(len(log)) != size {
		t.Fatalf("%d bytes are there, %d were written: %v", len(log), size, err)
	}
	return log
}

// read gives copies of the records of a log.
func read(t testing.TB, log []byte) (records [][]byte, found wal.Found) {
	t.Helper()
	found, err := wal.Read(bytes.NewReader(log), int64(len(log)), salt, func(payload []byte) error {
		records = append(records, bytes.Clone(payload))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return records, found
}

func same(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

// some makes records of different lengths, none at all among them.
func some() (all [][]byte) {
	for i := range 8 {
		all = append(all, bytes.Repeat([]byte{'a' + byte(i)}, 13*i))
	}
	return all
}

// eager tells of the end together with the last bytes, as io.ReaderAt allows.
type eager struct{ b []byte }

func (e eager) ReadAt(p []byte, at int64) (int, error) {
	n := copy(p, e.b[min(at, int64(len(e.b))):])
	if at+int64(len(p)) >= int64(len(e.b)) {
		return n, io.EOF
	}
	return n, nil
}

// Whatever a log is read from, its last record is there, also if it has no bytes.
func TestReadToTheEnd(t *testing.T) {
	for _, last := range [][]byte{nil, []byte("last")} {
		want := [][]byte{[]byte("first"), last}
		log := write(t, salt, want...)
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, log, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for _, from := range []io.ReaderAt{file, bytes.NewReader(log), eager{log}} {
			var got [][]byte
			found, err := wal.Read(from, int64(len(log)), salt, func(payload []byte) error {
				got = append(got, bytes.Clone(payload))
				return nil
			})
			if err != nil || found != (wal.Found{}) || !same(got, want) {
				t.Errorf("%T: %q, %+v, %v; want %q", from, got, found, err, want)
			}
		}
	}
}

// Each byte of a log is damaged in turn: that costs the record it is in, which is counted, and
// no other.
func TestDamagedByte(t *testing.T) {
	want := some()
	log := write(t, salt, want...)
	record, ends := 0, make([]int, len(want))
	for i, r := range want {
		record += 16 + len(r)
		ends[i] = record
	}
	for at := range log {
		bad := bytes.Clone(log)
		bad[at] ^= byte(1 + rand.IntN(255))
		hit, _ := slices.BinarySearch(ends, at+1)
		got, found := read(t, bad)
		if !same(got, slices.Delete(slices.Clone(want), hit, hit+1)) {
			t.Fatalf("byte %d, of record %d: read are %q", at, hit, got)
		}
		if found.Damaged != 1 || found.Torn != 0 {
			t.Fatalf("byte %d, of record %d: found are %+v", at, hit, found)
		}
	}
}

// A log that was cut anywhere has its whole records, and one that is torn.
func TestTruncated(t *testing.T) {
	want := some()
	log := write(t, salt, want...)
	whole, end := 0, 0
	for size := range len(log) + 1 {
		for whole < len(want) && end+16+len(want[whole]) <= size {
			end += 16 + len(want[whole])
			whole++
		}
		got, found := read(t, log[:size])
		if !same(got, want[:whole]) || found != (wal.Found{Torn: int64(size - end)}) {
			t.Fatalf("cut to %d bytes: %d records of %d, %+v", size, len(got), whole, found)
		}
	}
	for zeros := range 40 { // as a file system may leave what was never written
		got, found := read(t, append(bytes.Clone(log), make([]byte, zeros)...))
		if !same(got, want) || found != (wal.Found{Torn: int64(zeros)}) {
			t.Fatalf("with %d zeros at the end: %d records, %+v", zeros, len(got), found)
		}
	}
}

// What only looks like a record is none: its header was made with another salt, or has a length
// that no record has.
func TestHostile(t *testing.T) {
	want := [][]byte{[]byte("before"), []byte("after")}
	first, last := write(t, salt, want[0]), write(t, salt, want[1])
	foreign := write(t, []byte("a guess!"), []byte("evil"), bytes.Repeat([]byte{1}, 100_000))
	inside := write(t, salt, foreign) // in a record it is only bytes
	if got, found := read(t, inside); !same(got, [][]byte{foreign}) || found != (wal.Found{}) {
		t.Errorf("%d records, %+v", len(got), found)
	}
	damaged := bytes.Clone(inside)
	damaged[5] ^= 1 // the header of what is around it is gone
	lengths := [][]byte{foreign, damaged, bytes.Repeat([]byte("FPR2"), 50_000)}
	for _, length := range []uint32{1, 1 << 20, wal.MaxRecord, wal.MaxRecord + 1, math.MaxInt32, math.MaxUint32} {
		lengths = append(lengths, append([]byte("FPR2"), byte(length), byte(length>>8), byte(length>>16), byte(length>>24), 0, 0, 0, 0, 0, 0, 0, 0))
	}
	for i, evil := range lengths {
		got, found := read(t, slices.Concat(first, evil, last))
		if !same(got, want) || found.Damaged != 1 || found.Torn != 0 {
			t.Errorf("case %d: read are %d records, %+v", i, len(got), found)
		}
	}
}

// Read ends with the first error of the function.
func TestReadEnds(t *testing.T) {
	log, calls, wanted := write(t, salt, some()...), 0, errors.New("enough")
	_, err := wal.Read(bytes.NewReader(log), int64(len(log)), salt, func([]byte) error {
		calls++
		return wanted
	})
	if !errors.Is(err, wanted) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// FuzzRead puts any bytes between two records: both are read, and what else is read is a record
// by its own checksums.
func FuzzRead(f *testing.F) {
	log := write(f, salt, some()...)
	f.Add([]byte{})
	f.Add(log)
	f.Add(log[:len(log)/2])
	f.Add(append([]byte("FPR2"), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0))
	f.Add(write(f, []byte("a guess!"), []byte("evil")))
	f.Add(make([]byte, 100))
	before, after := write(f, salt, []byte("before")), write(f, salt, []byte("after"))
	f.Fuzz(func(t *testing.T, middle []byte) {
		got, found := read(t, slices.Concat(before, middle, after))
		if len(got) < 1 || string(got[0]) != "before" {
			t.Fatalf("the first record is not read: %q, %+v", got, found)
		}
		// A whole header in the middle may claim what follows.
		if string(got[len(got)-1]) != "after" && found == (wal.Found{}) {
			t.Fatalf("the last record is missed in silence: %q", got)
		}
		sum := int64(0)
		for _, r := range got {
			sum += int64(len(r)) + 16
		}
		if room := int64(len(before) + len(middle) + len(after)); sum > room || sum < room && found == (wal.Found{}) {
			t.Fatalf("records take %d bytes of %d, %+v", sum, room, found)
		}
	})
}

// A record that is too large is refused, and nothing of it is written.
func TestTooLarge(t *testing.T) {
	w, err := wal.Create(filepath.Join(t.TempDir(), "log"), salt)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Append(make([]byte, wal.MaxRecord+1)); err == nil || w.Size() != 0 {
		t.Errorf("%d bytes, %v", w.Size(), err)
	}
	if _, err := wal.Create(fmt.Sprintf("%s/missing/log", t.TempDir()), salt); err == nil {
		t.Error("a log is made in no directory")
	}
}
