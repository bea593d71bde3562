// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/fleetprof/fleetprof/server/columns"
)

// takeOver moves what a store of version 1 has left, one gzip pprof file for each
// profile, into this one. It may be cut short anywhere and goes on at the next start:
// a file is removed once its profile is stored, and a profile that was stored already
// is known by its id. A file that cannot be decoded stays where it is.
func (s *Store) takeOver(ctx context.Context) {
	exemplars, _, err := scan(s.path(oldDir), exemplarsSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	profiles, _, errProfiles := scan(s.path(oldDir), profileSuffix)
	if err := errors.Join(err, errProfiles); err != nil {
		s.log.Error("profiles of an earlier version cannot be listed", "dir", s.path(oldDir), "error", err)
		return
	}
	s.log.Info("profiles of an earlier version are being taken over", "dir", s.path(oldDir), "profiles", len(profiles), "exemplars", len(exemplars))
	left := 0
	take := func(entries []Entry, suffix string, one func(e Entry, gz []byte) error) {
		for _, e := range entries {
			if ctx.Err() != nil {
				return
			}
			if err := s.takeOne(e, suffix, one); err != nil {
				left++
				s.log.Error("profile of an earlier version stays where it is", "file", s.oldPath(e, suffix), "error", err)
			}
		}
	}
	take(profiles, profileSuffix, func(e Entry, gz []byte) error { return s.takeProfile(ctx, e, gz) })
	take(exemplars, exemplarsSuffix, func(e Entry, gz []byte) error {
		return s.PutExemplars(ctx, time.UnixMilli(e.Start), time.UnixMilli(e.End), gz)
	})
	if ctx.Err() != nil || left > 0 {
		return
	}
	_ = os.Remove(s.path(oldDir)) // fails, rightly, while something else is in it
	s.log.Info("profiles of an earlier version have been taken over")
}

func (s *Store) oldPath(e Entry, suffix string) string {
	return s.path(oldDir, e.day(), e.name(suffix))
}

// takeOne stores a file of version 1 by its function and removes it. What is too old
// is removed only.
func (s *Store) takeOne(e Entry, suffix string, store func(e Entry, gz []byte) error) error {
	path := s.oldPath(e, suffix)
	gz, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	err = store(e, gz)
	if errors.Is(err, ErrRefused) {
		s.metrics.removedAge.Inc()
		err = nil
	}
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	_ = os.Remove(s.path(oldDir, e.day())) // fails, rightly, before the last file
	return nil
}

func (s *Store) takeProfile(ctx context.Context, e Entry, gz []byte) error {
	p, err := columns.Read(gz)
	if err != nil {
		s.metrics.damaged.Inc()
		return fmt.Errorf("it is damaged: %w", err)
	}
	return s.Append(ctx, p, e.Hash)
}
