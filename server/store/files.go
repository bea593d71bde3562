// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/fleetprof/fleetprof/server/durable"
)

// Documents of exemplars (package exemplars) are files, as they came, found again by
// the time that they cover.

const (
	exemplarsSuffix = ".exemplars.json.gz"
	profileSuffix   = ".pb.gz" // of version 1

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
	// Start and End bound the window, in milliseconds since the Unix epoch,
	// widened to whole milliseconds.
	Start, End int64
	// Size is the space on disk, in bytes.
	Size int64
	// Hash is the first half of the SHA-256 of the file.
	Hash [16]byte
}

func (e Entry) check() error {
	if e.Start < 0 || e.End > lastMilli || e.Start >= e.End || e.End-e.Start > maxDuration.Milliseconds() {
		return fmt.Errorf("window from %d to %d ms: want at most an hour between 1970 and 2262", e.Start, e.End)
	}
	return nil
}

// day is the directory of the entry, the UTC day its window starts.
func (e Entry) day() string { return time.UnixMilli(e.Start).UTC().Format(dayLayout) }

func (e Entry) name(suffix string) string {
	return fmt.Sprintf("%013d-%013d-%x%s", e.Start, e.End, e.Hash, suffix)
}

func (s *Store) entryPath(e Entry) string {
	return s.path(exemplarsDir, e.day(), e.name(exemplarsSuffix))
}

var namePattern = regexp.MustCompile(`^(\d{13})-(\d{13})-([0-9a-f]{32})$`)

// parseEntry reads the name of a file; false means that it is none of ours.
func parseEntry(day, name, suffix string, size int64) (Entry, bool) {
	stem, ok := strings.CutSuffix(name, suffix)
	m := namePattern.FindStringSubmatch(stem)
	if !ok || m == nil {
		return Entry{}, false
	}
	e := Entry{Size: onDisk(size)}
	var errs [3]error
	e.Start, errs[0] = strconv.ParseInt(m[1], 10, 64)
	e.End, errs[1] = strconv.ParseInt(m[2], 10, 64)
	_, errs[2] = hex.Decode(e.Hash[:], []byte(m[3]))
	return e, errors.Join(errs[:]...) == nil && e.check() == nil && e.day() == day
}

// scan lists our files below dir and counts the others.
func scan(dir, suffix string) (entries []Entry, foreign int, err error) {
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
			e, ok := parseEntry(day.Name(), f.Name(), suffix, info.Size())
			if !ok || !info.Mode().IsRegular() {
				foreign++
				continue
			}
			entries = append(entries, e)
		}
	}
	return entries, foreign, nil
}

// PutExemplars stores a document whose window is [start, end). When it returns nil the
// document is on disk for good. Putting the same bytes again changes nothing. Errors are
// those of Append; after one nothing half-written is left.
func (s *Store) PutExemplars(ctx context.Context, start, end time.Time, gz []byte) error {
	e := Entry{Start: start.UnixMilli(), End: end.Add(time.Millisecond - 1).UnixMilli(), Size: onDisk(int64(len(gz))), Hash: IDOf(gz)}
	err := e.check()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case e.Size > s.maxBytes:
		return fmt.Errorf("%w: it has %d bytes and the store may hold %d", ErrRefused, len(gz), s.maxBytes)
	case e.End <= time.Now().Add(-s.maxAge).UnixMilli():
		return fmt.Errorf("%w: it ends at %s and the store keeps %v", ErrRefused, end.UTC().Format(time.RFC3339), s.maxAge)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.put(e, gz); err != nil {
		s.metrics.failed.Inc()
		return fmt.Errorf("store %s: %w", e.name(exemplarsSuffix), fullOr(err))
	}
	s.Trim(time.Now())
	return nil
}

// put writes the file and makes it durable: the bytes first, then the name.
func (s *Store) put(e Entry, gz []byte) error {
	temp, err := s.writeTemp(gz)
	if err != nil {
		return err
	}
	if err := s.publish(e, temp); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return durable.SyncDir(s.path(exemplarsDir, e.day()))
}

// publish gives the finished file its name and enters it in the index. A file
// of that name holds the same bytes, since the name has their hash.
func (s *Store) publish(e Entry, temp string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	err := os.Mkdir(s.path(exemplarsDir, e.day()), 0o700)
	if err == nil {
		err = durable.SyncDir(s.path(exemplarsDir))
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := os.Rename(temp, s.entryPath(e)); err != nil {
		return err
	}
	if s.files.add(e) {
		s.metrics.stored.Inc()
	} else {
		s.metrics.duplicates.Inc()
	}
	return nil
}

// writeTemp writes b to a new file, down to the disk, and gives its path.
func (s *Store) writeTemp(b []byte) (path string, err error) {
	f, err := os.CreateTemp(s.path(tmpDir), "put-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// removeFile deletes the file, and the directory of its day with the last one; the lock
// mu is held.
func (s *Store) removeFile(e Entry) {
	if err := os.Remove(s.entryPath(e)); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.metrics.removeFailed.Inc()
		s.log.Error("exemplars cannot be removed", "file", s.entryPath(e), "error", err)
	}
	// Fails, rightly, while the directory holds other files.
	_ = os.Remove(s.path(exemplarsDir, e.day()))
}

// SelectExemplars gives the documents whose windows overlap [from, to), those that end
// first in front.
func (s *Store) SelectExemplars(from, to time.Time) []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files.overlapping(from.UnixMilli(), to.UnixMilli())
}

// Read gives the file as it was put. The error is fs.ErrNotExist when it has
// been removed since it was selected.
func (s *Store) Read(e Entry) ([]byte, error) {
	if s.isClosed() {
		return nil, ErrClosed
	}
	return os.ReadFile(s.entryPath(e))
}

// Damaged tells the store that e cannot be decoded. The store counts and logs
// it and does not select it again. The file stays, to be looked at, until it
// is too old.
func (s *Store) Damaged(e Entry, cause error) {
	s.mu.Lock()
	first := s.files.markDamaged(e)
	s.mu.Unlock()
	if first {
		s.metrics.damaged.Inc()
		s.log.Error("stored exemplars are damaged and are skipped", "file", s.entryPath(e), "error", cause)
	}
}

// index is the list of all files, by the end of their windows. It has no
// lock of its own.
type index struct {
	entries []Entry
	bytes   int64
	damaged map[Entry]struct{}
}

func compare(a, b Entry) int {
	return cmp.Or(cmp.Compare(a.End, b.End), cmp.Compare(a.Start, b.Start), bytes.Compare(a.Hash[:], b.Hash[:]))
}

func (x *index) load(entries []Entry) {
	slices.SortFunc(entries, compare)
	x.entries, x.bytes, x.damaged = entries, 0, map[Entry]struct{}{}
	for _, e := range entries {
		x.bytes += e.Size
	}
}

// add reports whether e is new. If it was damaged, it no longer is.
func (x *index) add(e Entry) bool {
	delete(x.damaged, e)
	i, found := slices.BinarySearchFunc(x.entries, e, compare)
	if found {
		return false
	}
	x.entries = slices.Insert(x.entries, i, e)
	x.bytes += e.Size
	return true
}

func (x *index) oldest() (Entry, bool) {
	if len(x.entries) == 0 {
		return Entry{}, false
	}
	return x.entries[0], true
}

func (x *index) removeOldest() {
	e := x.entries[0]
	x.entries = x.entries[1:]
	x.bytes -= e.Size
	delete(x.damaged, e)
}

// markDamaged reports whether e is there and was not marked before.
func (x *index) markDamaged(e Entry) bool {
	_, found := slices.BinarySearchFunc(x.entries, e, compare)
	_, marked := x.damaged[e]
	if !found || marked {
		return false
	}
	x.damaged[e] = struct{}{}
	return true
}

// overlapping copies the sound entries that overlap [from, to), both in milliseconds.
func (x *index) overlapping(from, to int64) []Entry {
	first := sort.Search(len(x.entries), func(i int) bool { return x.entries[i].End > from })
	var found []Entry
	for _, e := range x.entries[first:] {
		if e.End >= to+maxDuration.Milliseconds() {
			break // no window is long enough to reach back into the range
		}
		if _, bad := x.damaged[e]; e.Start < to && !bad {
			found = append(found, e)
		}
	}
	return found
}
