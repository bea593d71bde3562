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
	"slices"
	"strconv"
	"time"
)

// Kind is what a file is.
type Kind uint8

const (
	// Profile is a window's profile.
	Profile Kind = iota
	// Exemplars are some of the window's requests, see server/exemplars.
	Exemplars
)

// suffixes end the names of files, by kind.
var suffixes = [...]string{Profile: ".pb.gz", Exemplars: ".exemplars.json.gz"}

const (
	dayLayout = "2006-01-02"
	// maxDuration bounds the window of one file; the search by time relies
	// on it.
	maxDuration = time.Hour + time.Second
	// lastMilli is the latest time whose nanoseconds fit an int64, in the year
	// 2262.
	lastMilli = (1<<63 - 1) / int64(time.Millisecond)
)

// Entry is one stored file. It is comparable, and equal entries have equal bytes.
type Entry struct {
	Kind Kind
	// Start and End bound the window, in milliseconds since the Unix epoch,
	// widened to whole milliseconds.
	Start, End int64
	// Size is the space on disk, in bytes.
	Size int64
	// Hash is the first half of the SHA-256 of the file.
	Hash [16]byte
}

func entryOf(kind Kind, start, end time.Time, gz []byte) (Entry, error) {
	sum := sha256.Sum256(gz)
	e := Entry{
		Kind:  kind,
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
	return fmt.Sprintf("%013d-%013d-%x%s", e.Start, e.End, e.Hash, suffixes[e.Kind])
}

var namePattern = regexp.MustCompile(`^(\d{13})-(\d{13})-([0-9a-f]{32})(\.[a-z.]+)$`)

// parseEntry reads the name of a file; false means that it is none of ours.
func parseEntry(day, name string, size int64) (Entry, bool) {
	m := namePattern.FindStringSubmatch(name)
	if m == nil {
		return Entry{}, false
	}
	kind := slices.Index(suffixes[:], m[4])
	if kind < 0 {
		return Entry{}, false
	}
	e := Entry{Kind: Kind(kind), Size: onDisk(size)}
	var errs [3]error
	e.Start, errs[0] = strconv.ParseInt(m[1], 10, 64)
	e.End, errs[1] = strconv.ParseInt(m[2], 10, 64)
	_, errs[2] = hex.Decode(e.Hash[:], []byte(m[3]))
	ok := errors.Join(errs[:]...) == nil && e.check() == nil && e.day() == day
	return e, ok
}

// scan lists our files below dir and counts the others.
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
