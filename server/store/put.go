// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// Put stores one profile whose window is [start, end). When it returns nil the
// profile is on disk for good. Putting the same bytes again changes nothing, so
// a sender that missed the answer may simply repeat itself.
//
// Errors that wrap ErrFull or ErrClosed may pass; one that wraps ErrRefused is
// final. After an error nothing half-written is left.
func (s *Store) Put(ctx context.Context, start, end time.Time, gz []byte) error {
	return s.putKind(ctx, Profile, start, end, gz)
}

// PutExemplars stores a document of exemplars in the same way. It counts against the
// same bounds as the profiles.
func (s *Store) PutExemplars(ctx context.Context, start, end time.Time, gz []byte) error {
	return s.putKind(ctx, Exemplars, start, end, gz)
}

func (s *Store) putKind(ctx context.Context, kind Kind, start, end time.Time, gz []byte) error {
	e, err := s.newEntry(kind, start, end, gz)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.put(e, gz); err != nil {
		s.metrics.failed.Inc()
		return fmt.Errorf("store %s: %w", e.name(), fullOr(err))
	}
	s.Trim(time.Now())
	return nil
}

func (s *Store) newEntry(kind Kind, start, end time.Time, gz []byte) (Entry, error) {
	e, err := entryOf(kind, start, end, gz)
	switch {
	case err != nil:
		return e, fmt.Errorf("%w: %w", ErrRefused, err)
	case e.Size > s.maxBytes:
		return e, fmt.Errorf("%w: it has %d bytes and the store may hold %d", ErrRefused, len(gz), s.maxBytes)
	case e.End <= time.Now().Add(-s.maxAge).UnixMilli():
		return e, fmt.Errorf("%w: it ends at %s and the store keeps %v", ErrRefused, end.UTC().Format(time.RFC3339), s.maxAge)
	}
	return e, nil
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
	return syncDir(s.path(profilesDir, e.day()))
}

// publish gives the finished file its name and enters it in the index. A file
// of that name holds the same bytes, since the name has their hash.
func (s *Store) publish(e Entry, temp string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.makeDay(e.day()); err != nil {
		return err
	}
	if err := os.Rename(temp, s.entryPath(e)); err != nil {
		return err
	}
	if s.index.add(e) {
		s.metrics.stored.Inc()
	} else {
		s.metrics.duplicates.Inc()
	}
	return nil
}

func (s *Store) makeDay(day string) error {
	err := os.Mkdir(s.path(profilesDir, day), 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(s.path(profilesDir))
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

// syncDir makes the names in a directory durable, see fsync(2).
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
