// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"os"
	"time"
)

// Trim removes what ended more than the maximum age before now, then the oldest
// profiles until the rest is within the maximum of bytes.
func (s *Store) Trim(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cutoff := now.Add(-s.maxAge).UnixMilli()
	for !s.closed {
		e, ok := s.index.oldest()
		switch {
		case !ok:
			return
		case e.End <= cutoff:
			s.metrics.removedAge.Inc()
		case s.index.bytes > s.maxBytes:
			s.metrics.removedBytes.Inc()
		default:
			return
		}
		s.index.removeOldest()
		s.remove(e)
	}
}

// remove deletes the file, and the directory of its day with the last one.
func (s *Store) remove(e Entry) {
	if err := os.Remove(s.entryPath(e)); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.metrics.removeFailed.Inc()
		s.log.Error("stored profile cannot be removed", "file", s.entryPath(e), "error", err)
	}
	// Fails, rightly, while the directory holds other profiles. The lock is
	// held, so no new one comes in between.
	_ = os.Remove(s.path(profilesDir, e.day()))
}
