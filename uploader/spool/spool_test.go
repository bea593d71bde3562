// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/uploader/spool"
)

func open(t testing.TB, dir string) (*spool.Spool, []spool.Record) {
	t.Helper()
	s, records, err := spool.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, records
}

// profile has i+1 samples, and exemplars if i is odd.
func profile(i int) sample.Profile {
	p := sample.Profile{
		Start: time.Unix(1764384433+int64(i), 123456789), Duration: 10 * time.Second, Samples: int64(i + 1),
		PProf: bytes.Repeat([]byte{byte(i)}, 100+i),
	}
	if i%2 == 1 {
		p.Exemplars = []byte("exemplars")
	}
	return p
}

func write(t testing.TB, s *spool.Spool, p sample.Profile) spool.Record {
	t.Helper()
	r, err := s.Write(p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func same(a, b sample.Profile) bool {
	return a.Start.Equal(b.Start) && a.Duration == b.Duration && a.Samples == b.Samples &&
		bytes.Equal(a.PProf, b.PProf) && bytes.Equal(a.Exemplars, b.Exemplars) && (a.Exemplars == nil) == (b.Exemplars == nil)
}

func expect(t testing.TB, s *spool.Spool, r spool.Record, want sample.Profile) {
	t.Helper()
	got, err := s.Read(r)
	if err != nil || !same(got, want) {
		t.Errorf("read %+v: %+v, %v; want %+v", r, got, err, want)
	}
}

func names(t testing.TB, dir string) (all []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		all = append(all, f.Name())
	}
	return all
}

func TestRecordsOutliveTheSpool(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	s, records := open(t, dir)
	if len(records) != 0 {
		t.Fatalf("a new spool has %v", records)
	}
	for i := range 20 {
		r := write(t, s, profile(i))
		if since := time.Since(r.Written); r.Samples != int64(i+1) || since < 0 || since > time.Minute {
			t.Errorf("record %+v", r)
		}
		records = append(records, r)
	}
	if err := s.Sync(records); err != nil {
		t.Error(err)
	}
	for _, i := range []int{0, 7, 19} {
		for range 2 { // the second time it is gone
			if err := s.Remove(records[i]); err != nil {
				t.Error(err)
			}
		}
	}
	s, left := open(t, dir)
	if len(left) != 17 {
		t.Fatalf("%d records are left", len(left))
	}
	for _, r := range left {
		i := int(r.Samples) - 1
		if r != records[i] {
			t.Errorf("%+v was written as %+v", r, records[i])
		}
		expect(t, s, r, profile(i))
	}
	r := write(t, s, profile(30))
	if r.Sequence <= left[16].Sequence {
		t.Errorf("a new record goes before an old one: %+v", r)
	}
	expect(t, s, r, profile(30))
}

// TestKilledWhileWriting leaves what a killed process leaves, and files of others.
func TestKilledWhileWriting(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	r := write(t, s, profile(1))
	torn := names(t, dir)[0] + ".tmp"
	for _, name := range []string{torn, "README", "1-2-3.profile", "000000000000000a-1-2.profile.tmp.x", "7fffffffffffffff-1-2.profile"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("fpspo"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "00000000000000ff-1-2.profile"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, records := open(t, dir)
	if len(records) != 1 {
		t.Fatalf("records %+v", records)
	}
	expect(t, s, r, profile(1))
	if got := names(t, dir); len(got) != 6 {
		t.Errorf("files %q", got)
	}
}

// TestDamage changes, cuts, lengthens or removes one record at random: that one is
// told to be damaged, and no other.
func TestDamage(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		dir := t.TempDir()
		s, _ := open(t, dir)
		for i := range 5 {
			write(t, s, profile(i))
		}
		victim := random.IntN(5)
		damage(t, filepath.Join(dir, names(t, dir)[victim]), random)
		s, records := open(t, dir)
		for i, r := range records {
			got, err := s.Read(r)
			if i != victim && (err != nil || !same(got, profile(i))) {
				t.Errorf("seed %d: record %d is %+v, %v", seed, i, got, err)
			}
			if i == victim && (!errors.Is(err, spool.ErrCorrupt) || r.Samples != int64(i+1)) {
				t.Errorf("seed %d: the damaged record is %+v, %v", seed, got, err)
			}
		}
		if len(records) != 5 {
			t.Errorf("seed %d: %d records", seed, len(records))
		}
	}
}

func damage(t *testing.T, path string, random *rand.Rand) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	switch at := random.IntN(len(b)); random.IntN(8) {
	case 0:
		b = b[:at]
	case 1:
		b = append(b, 0)
	case 2:
		clear(b) // as after a loss of power: the size is right, the content is not
	default:
		b[at] ^= 1 << random.IntN(8)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestGone(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	r := write(t, s, profile(0))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(r); !errors.Is(err, spool.ErrCorrupt) {
		t.Errorf("a file that is gone: %v", err)
	}
	expect(t, s, write(t, s, profile(1)), profile(1)) // the directory is made anew
}

func TestOpenRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := spool.Open(path); err == nil {
		t.Error("a file is opened as a spool")
	}
}

// FuzzOpen puts a file of any name and content among good records, and may make its checksum
// right.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	seed, _ := open(f, dir)
	r := write(f, seed, profile(3))
	p, err := seed.Read(r)
	if err != nil {
		f.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, names(f, dir)[0]))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("000000000000000a-1764384433120-2001.profile", []byte("fpspool1"), false)
	f.Add("000000000000000a-1764384433120-2001.profile", []byte{}, false)
	f.Add("000000000000000a-1764384433120-2001.profile", file, true)
	f.Add("000000000000000a-1764384433120-2001.profile", file[:len(file)-100], true)
	f.Add("3fffffffffffffff--1-9223372036854775807.profile", p.PProf, false)
	f.Add("0000000000000001-1-1.profile.tmp", []byte("fpspool1\x00\x00\x00\x00"), false)
	f.Add("0-0-0.profile", []byte("x"), false)
	f.Fuzz(func(t *testing.T, name string, content []byte, vouch bool) {
		if vouch && len(content) >= 12 {
			content = bytes.Clone(content)
			binary.LittleEndian.PutUint32(content[8:], crc32.Checksum(content[12:], crc32.MakeTable(crc32.Castagnoli)))
		}
		dir := t.TempDir()
		s, _ := open(t, dir)
		first := write(t, s, profile(3))
		if name != filepath.Base(name) || os.WriteFile(filepath.Join(dir, name), content, 0o600) != nil {
			return // no name of a file
		}
		s, records := open(t, dir)
		if len(records) > 2 || len(records) == 0 {
			t.Fatalf("records %+v", records)
		}
		for _, r := range records {
			_, err := s.Read(r)
			if err != nil && !errors.Is(err, spool.ErrCorrupt) {
				t.Errorf("%+v: %v", r, err)
			}
		}
		expect(t, s, first, profile(3))
		next := write(t, s, profile(4))
		if last := records[len(records)-1]; next.Sequence != last.Sequence+1 {
			t.Errorf("after %+v comes %+v", last, next)
		}
		expect(t, s, next, profile(4))
	})
}

// BenchmarkSpool is what a profile costs that is sent at once: written, read, removed.
func BenchmarkSpool(b *testing.B) {
	for _, size := range []int{20 << 10, 200 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s, _ := open(b, b.TempDir())
			p := sample.Profile{Start: time.Now(), Duration: 10 * time.Second, Samples: 2000, PProf: make([]byte, size)}
			b.ReportAllocs()
			for b.Loop() {
				r := write(b, s, p)
				if _, err := s.Read(r); err != nil {
					b.Fatal(err)
				}
				if err := s.Remove(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
