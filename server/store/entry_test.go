// SPDX-License-Identifier: Apache-2.0

package store

import (
	"testing"
	"time"
)

func TestEntryName(t *testing.T) {
	start := time.Date(2026, 11, 22, 23, 59, 59, 999_999_999, time.FixedZone("", 3600))
	e, err := entryOf(Profile, start, start.Add(10*time.Second), []byte("test"))
	if err != nil {
		t.Fatal(err)
	}
	const want = "1795388399999-1795388410000-9f86d081884c7d659a2feaa0c55ad015.pb.gz"
	if e.name() != want || e.day() != "2026-11-22" || e.Size != 4096 {
		t.Errorf("%s in %s of %d bytes, want %s", e.name(), e.day(), e.Size, want)
	}
	if got, ok := parseEntry(e.day(), e.name(), 4); !ok || got != e {
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
		e, ok := parseEntry(day, name, size)
		if ok && (e.day() != day || e.name() != name || e.check() != nil) {
			t.Errorf("%q/%q is read as %s/%s", day, name, e.day(), e.name())
		}
	})
}
