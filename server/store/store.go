// SPDX-License-Identifier: Apache-2.0

// Package store keeps profiles on disk: one gzip pprof file for each profile,
// as it arrived, found again by the time it covers. FORMAT.md beside this file
// describes the directory.
//
// The store owns its directory alone (a lock file sees to it), bounds it by age
// and by bytes, and knows nothing of what is inside a profile. A profile that
// Put has acknowledged survives a crash of the process and of the machine.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

const (
	// DefaultMaxBytes and DefaultMaxAge apply where Options says nothing.
	DefaultMaxBytes = 10 << 30
	DefaultMaxAge   = 7 * 24 * time.Hour
	// trimEvery is how often Run looks for profiles that are too old.
	trimEvery = time.Minute
	// blockBytes is what a file occupies at least, and in multiples of.
	blockBytes = 4096
)

var (
	// ErrFull says that the disk is full. The profile may be put again later.
	ErrFull = errors.New("no space left for profiles")
	// ErrClosed says that the store is closing.
	ErrClosed = errors.New("the store is closed")
	// ErrRefused says that the store will never keep this profile.
	ErrRefused = errors.New("profile refused")
)

// Options for Open. Zero values mean the defaults.
type Options struct {
	// MaxBytes bounds the space the profiles take on disk, directories and
	// file system overhead not counted.
	MaxBytes int64
	// MaxAge bounds how long ago the window of a profile has ended.
	MaxAge     time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Store is safe for concurrent use.
type Store struct {
	dir      string
	maxBytes int64
	maxAge   time.Duration
	log      *slog.Logger
	metrics  *metrics
	lock     *os.File

	mu     sync.Mutex
	closed bool
	index  index
}

// Open takes the directory dir, which it makes if it is missing. A directory
// that holds anything else than a store of this version is refused.
func Open(dir string, o Options) (*Store, error) {
	s := &Store{dir: dir, maxBytes: o.MaxBytes, maxAge: o.MaxAge, log: o.Logger}
	if s.maxBytes == 0 {
		s.maxBytes = DefaultMaxBytes
	}
	if s.maxAge == 0 {
		s.maxAge = DefaultMaxAge
	}
	if s.maxBytes < 0 || s.maxAge < 0 {
		return nil, fmt.Errorf("open store %s: bounds of %d bytes and %v: want both above 0", dir, s.maxBytes, s.maxAge)
	}
	lock, err := claim(dir)
	if err != nil {
		return nil, err
	}
	s.lock = lock
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", dir, err), lock.Close())
	}
	if s.metrics, err = newMetrics(o.Registerer, s); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", dir, err), lock.Close())
	}
	s.Trim(time.Now())
	return s, nil
}

// load empties the directory of unfinished files and reads the index.
func (s *Store) load() error {
	if err := removeAllIn(s.path(tmpDir)); err != nil { // makes room, should the disk be full
		return err
	}
	for _, d := range []string{tmpDir, profilesDir} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return err
		}
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	entries, foreign, err := scan(s.path(profilesDir))
	if err != nil {
		return err
	}
	if foreign > 0 {
		s.log.Warn("files in the data directory are not profiles and were left alone", "dir", s.dir, "files", foreign)
	}
	s.index.load(entries)
	return nil
}

// removeAllIn empties a directory, which may be missing.
func removeAllIn(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, f := range files {
		if err := os.RemoveAll(filepath.Join(dir, f.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Run removes profiles as they grow too old, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.Trim(now)
		}
	}
}

// Close gives up the directory. It is idempotent; Put and Read fail with
// ErrClosed from then on.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.lock.Close() // which releases the lock, see flock(2)
}

// Select gives the profiles whose windows overlap [from, to), oldest first.
func (s *Store) Select(from, to time.Time) []Entry { return s.selectKind(Profile, from, to) }

// SelectExemplars does so for documents of exemplars.
func (s *Store) SelectExemplars(from, to time.Time) []Entry {
	return s.selectKind(Exemplars, from, to)
}

func (s *Store) selectKind(kind Kind, from, to time.Time) []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.overlapping(kind, from.UnixMilli(), to.UnixMilli())
}

// Bounds gives the start of the oldest and the end of the newest profile.
// It reports false when there is none.
func (s *Store) Bounds() (oldest, newest time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, last, ok := s.index.bounds()
	return time.UnixMilli(first), time.UnixMilli(last), ok
}

// Read gives the file as it was put. The error is fs.ErrNotExist when it has
// been removed since it was selected.
func (s *Store) Read(e Entry) ([]byte, error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	return os.ReadFile(s.entryPath(e))
}

// Damaged tells the store that e cannot be decoded. The store counts and logs
// it and does not select it again. The file stays, to be looked at, until it
// is too old.
func (s *Store) Damaged(e Entry, cause error) {
	s.mu.Lock()
	first := s.index.markDamaged(e)
	s.mu.Unlock()
	if first {
		s.metrics.damaged.Inc()
		s.log.Error("stored profile is damaged and is skipped", "file", s.entryPath(e), "error", cause)
	}
}

// Writable reports whether a profile could be put now, by writing a small file.
func (s *Store) Writable() error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return ErrClosed
	}
	name, err := s.writeTemp(make([]byte, blockBytes))
	if err != nil {
		return fullOr(err)
	}
	return os.Remove(name)
}

// Beside is the path of another part's directory in the data directory, which is
// this process's alone as long as the store is open.
func (s *Store) Beside(name string) string { return s.path(name) }

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func (s *Store) entryPath(e Entry) string { return s.path(profilesDir, e.day(), e.name()) }

// fullOr marks errors that mean a full disk or quota.
func fullOr(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
