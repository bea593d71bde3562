// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

const (
	suffix    = ".pb.gz"
	dayLayout = "2006-01-02"
	// maxDuration bounds the window of one profile; the search by time relies
	// on it.
	maxDuration = time.Hour + time.Second
	// lastMilli is the latest time whose nanoseconds fit an int64, in the year
	// 2262.
	lastMilli = (1<<63 - 1) / int64(time.Millisecond)
)

// Entry is one stored profile. It is comparable, and equal entries have equal
// bytes.
type Entry struct {
	// Start and End bound the window, in milliseconds since the Unix epoch,
	// widened to whole milliseconds.
	Start, End int64
	// Size is the space on disk, in bytes.
	Size int64
	// Hash is the first half of the SHA-256 of the file.
	Hash [16]byte
}

func entryOf(start, end time.Time, gz []byte) (Entry, error) {
	sum := sha256.Sum256(gz)
	e := Entry{
		Start: start.UnixMilli(),
		End:   end.Add(time.Millisecond - 1).UnixMilli(),
		Size:  onDisk(int64(len(gz))),
	}
	copy(e.Hash[:], sum[:])
	return e, e.check()
}

func (e Entry) check() error {
	if e.Start < 0 || e.End > lastMilli || e.Start >= e.End || e.End-e.Start > maxDuration.Milliseconds() {
		return fmt.Errorf("window from %d to %d ms: want at most an hour between 1970 and 2262", e.Start, e.End)
	}
	return nil
}

func onDisk(size int64) int64 {
	return (size + blockBytes - 1) / blockBytes * blockBytes
}

// day is the directory of the entry, the UTC day its window starts.
func (e Entry) day() string { return time.UnixMilli(e.Start).UTC().Format(dayLayout) }

func (e Entry) name() string {
	return fmt.Sprintf("%013d-%013d-%x%s", e.Start, e.End, e.Hash, suffix)
}

var namePattern = regexp.MustCompile(`^(\d{13})-(\d{13})-([0-9a-f]{32})\.pb\.gz$`)

// parseEntry reads the name of a file; false means that it is not a profile.
func parseEntry(day, name string, size int64) (Entry, bool) {
	m := namePattern.FindStringSubmatch(name)
	if m == nil {
		return Entry{}, false
	}
	e := Entry{Size: onDisk(size)}
	var errs [3]error
	e.Start, errs[0] = strconv.ParseInt(m[1], 10, 64)
	e.End, errs[1] = strconv.ParseInt(m[2], 10, 64)
	_, errs[2] = hex.Decode(e.Hash[:], []byte(m[3]))
	ok := errors.Join(errs[:]...) == nil && e.check() == nil && e.day() == day
	return e, ok
}

// scan lists the profiles below dir and counts the files that are none.
func scan(dir string) (entries []Entry, foreign int, err error) {
	days, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0, err
	}
	for _, day := range days {
		if !day.IsDir() {
			foreign++
			continue
		}
		files, err := os.ReadDir(filepath.Join(dir, day.Name()))
		if err != nil {
			return nil, 0, err
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil {
				return nil, 0, err
			}
			e, ok := parseEntry(day.Name(), f.Name(), info.Size())
			if !ok || !info.Mode().IsRegular() {
				foreign++
				continue
			}
			entries = append(entries, e)
		}
	}
	return entries, foreign, nil
}
