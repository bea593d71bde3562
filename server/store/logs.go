// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/fleetprof/fleetprof/server/durable"
	"github.com/fleetprof/fleetprof/server/store/block"
	"github.com/fleetprof/fleetprof/server/store/wal"
)

// maxAhead is how far ahead of what is known the last log of a damaged block may be. One is
// begun for every head, and for every profile that a full disk does not take.
const maxAhead = 1 << 32

// logFile is a log on disk. Logs are numbered in the order in which they were begun.
type logFile struct {
	number uint64
	salt   []byte
	bytes  int64
}

func (l logFile) name() string { return fmt.Sprintf("%016d-%x.log", l.number, l.salt) }

var logPattern = regexp.MustCompile(`^(\d{16})-([0-9a-f]{16})\.log$`)

// listLogs gives the logs in the order of their numbers.
func (s *Store) listLogs() (all []logFile, err error) {
	files, err := os.ReadDir(s.path(logsDir))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		m := logPattern.FindStringSubmatch(f.Name())
		if m == nil {
			s.log.Warn("file in the data directory is not ours and was left alone", "file", s.path(logsDir, f.Name()))
			continue
		}
		info, err := f.Info()
		if err != nil {
			return nil, err
		}
		l := logFile{bytes: info.Size()}
		if l.number, err = strconv.ParseUint(m[1], 10, 64); err != nil {
			return nil, fmt.Errorf("read name of log %s: %w", f.Name(), err)
		}
		if l.salt, err = hex.DecodeString(m[2]); err != nil {
			return nil, fmt.Errorf("read name of log %s: %w", f.Name(), err)
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b logFile) int { return cmp.Compare(a.number, b.number) })
	return all, nil
}

// replay reads into the head what is in logs that have not been sealed, which are
// those after number sealed.
func (s *Store) replay(sealed uint64) error {
	logs, err := s.listLogs()
	if err != nil {
		return err
	}
	s.nextLog = sealed + 1
	for _, l := range logs {
		s.logs[l.number] = l
		if l.number <= sealed {
			continue
		}
		s.nextLog = l.number + 1
		if err := s.replayLog(l); err != nil {
			return err
		}
		s.head.log = l.number
		s.head.logBytes += l.bytes
	}
	s.removeLogs(sealed)
	return nil
}

func (s *Store) replayLog(l logFile) error {
	path := s.path(logsDir, l.name())
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	bad := 0
	found, err := wal.Read(f, l.bytes, l.salt, func(record []byte) error {
		p, id, stored, err := s.codec.decode(record)
		switch {
		case err != nil:
			bad++
		case !s.ids.has(id):
			s.head.add(p, id, stored)
			s.remember(block.ID{ID: id, Stored: stored})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if lost := found.Damaged + bad; lost > 0 {
		s.metrics.damaged.Add(float64(lost))
		s.log.Error("records of a log are damaged and were passed over", "file", path, "records", lost)
	}
	if found.Torn > 0 {
		s.metrics.torn.Inc()
		s.log.Warn("log ends in a record that was never written whole, and so never acknowledged", "file", path, "bytes", found.Torn)
	}
	return nil
}

// beginLog begins a log. The lock commit is held.
func (s *Store) beginLog() error {
	l := logFile{salt: make([]byte, wal.Salt)}
	_, _ = rand.Read(l.salt) // never fails
	s.mu.Lock()
	l.number = s.nextLog
	s.nextLog++
	s.mu.Unlock()
	path := s.path(logsDir, l.name())
	w, err := wal.Create(path, l.salt)
	if err != nil {
		return err
	}
	if err := durable.SyncDir(s.path(logsDir)); err != nil {
		return errors.Join(err, w.Close(), os.Remove(path))
	}
	s.writer = w
	s.mu.Lock()
	s.logs[l.number] = l
	s.head.log = l.number
	s.mu.Unlock()
	return nil
}

// closeLog closes the log that is appended to. The lock commit is held.
func (s *Store) closeLog() {
	if err := s.writer.Close(); err != nil {
		s.log.Warn("log cannot be closed", "error", err)
	}
	s.writer = nil
}

// endLog closes the log after an error, and removes it if it has no record: each further
// try begins another one. The lock commit is held.
func (s *Store) endLog() {
	empty := s.writer.Size() == 0
	s.closeLog()
	if !empty {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeLog(s.logs[s.head.log])
}

// removeLogs removes the logs up to a number: all that they say is in blocks.
func (s *Store) removeLogs(last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for number, l := range s.logs {
		if number <= last {
			s.removeLog(l)
		}
	}
}

// removeLog removes one; the lock mu is held.
func (s *Store) removeLog(l logFile) {
	if err := os.Remove(s.path(logsDir, l.name())); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.metrics.removeFailed.Inc()
		s.log.Error("log cannot be removed", "file", s.path(logsDir, l.name()), "error", err)
		return
	}
	delete(s.logs, l.number)
}

// The head is sealed when it has so many rows, or takes about so many bytes of memory,
// or is so old. A hundred hosts fill it in some three minutes.
const (
	maxHeadRows  = 4 << 20
	maxHeadBytes = 160 << 20
	maxHeadAge   = 30 * time.Minute
)

// due reports whether the head should be sealed.
func (h *head) due(now time.Time, maxBytes int64) bool {
	if h.profiles == 0 {
		return false
	}
	return h.rows >= maxHeadRows || h.size() >= maxHeadBytes || now.Sub(h.begun) >= maxHeadAge || h.logBytes >= maxBytes/4
}
