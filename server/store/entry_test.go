// SPDX-License-Identifier: Apache-2.0

package store

import (
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
)

func TestEntryName(t *testing.T) {
	start := time.Date(2026, 11, 22, 23, 59, 59, 999_000_000, time.FixedZone("", 3600))
	e := Entry{Start: start.UnixMilli(), End: start.UnixMilli() + 10_001, Size: 4096, Hash: IDOf([]byte("test"))}
	const want = "1795388399999-1795388410000-9f86d081884c7d659a2feaa0c55ad015.pb.gz"
	if e.name(profileSuffix) != want || e.day() != "2026-11-22" || e.Size != 4096 {
		t.Errorf("%s in %s of %d bytes, want %s", e.name(profileSuffix), e.day(), e.Size, want)
	}
	if got, ok := parseEntry(e.day(), e.name(profileSuffix), profileSuffix, 4); !ok || got != e {
		t.Errorf("reads as %+v, want %+v", got, e)
	}
}

// FuzzParseEntry expects of any name that is taken for a profile's that the
// profile has just that name: else it would be read or removed elsewhere.
func FuzzParseEntry(f *testing.F) {
	f.Add("2026-11-22", "1795353600000-1795353610000-9f86d081884c7d659a2feaa0c55ad015.pb.gz", int64(5000))
	f.Add("2026-11-22", "1795353600000-1795353600000-9f86d081884c7d659a2feaa0c55ad015.pb.gz", int64(0))
	f.Add("1970-01-01", "0000000000000-0000000000001-9f86d081884c7d659a2feaa0c55ad015.pb.gz", int64(1))
	f.Add("..", "passwd", int64(1))
	f.Fuzz(func(t *testing.T, day, name string, size int64) {
		e, ok := parseEntry(day, name, profileSuffix, size)
		if ok && (e.day() != day || e.name(profileSuffix) != name || e.check() != nil) {
			t.Errorf("%q/%q is read as %s/%s", day, name, e.day(), e.name(profileSuffix))
		}
	})
}

// FuzzRecord expects of any bytes that they are no record, or one that is taken into a head.
func FuzzRecord(f *testing.F) {
	start := time.Unix(1_795_353_600, 0)
	for n := range 3 {
		p, err := columns.Read(profiletest.Gzip(f, profiletest.Random(uint64(n), "host", start, 5*n)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encodeProfile(p))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := decodeProfile(raw)
		if err != nil {
			return
		}
		h := newHead(start)
		h.add(p, [16]byte{}, 0)
		again, err := decodeProfile(encodeProfile(p))
		if err != nil {
			t.Fatalf("what was read is not read again: %v", err)
		}
		if again.Len() != p.Len() || again.Start != p.Start {
			t.Errorf("read again are %d samples, want %d", again.Len(), p.Len())
		}
	})
}
