// SPDX-License-Identifier: Apache-2.0

// Package store keeps the profiles of a fleet on disk, as rows: when, of which type,
// with which labels, which stack, how much.
//
// What is appended goes into a log (package wal), which is on disk when Append
// returns, and into the head, in memory. From time to time the head is sealed: it
// becomes a block (package block), its logs are removed, and a new head begins. Blocks
// are merged soon, and as they age folded to windows of a minute and then of ten.
// Blocks too old or too many are removed. FORMAT.md describes the directory, which
// the store owns alone: a lock file sees to it.
//
// Documents of exemplars lie beside all that, as files.
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
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/cputime"
	"github.com/fleetprof/fleetprof/server/durable"
	"github.com/fleetprof/fleetprof/server/store/wal"
)

const (
	// DefaultMaxBytes and DefaultMaxAge apply where Options says nothing.
	DefaultMaxBytes = 10 << 30
	DefaultMaxAge   = 7 * 24 * time.Hour
	// maintainEvery is how often Run looks whether there is something to seal, to
	// fold or to remove.
	maintainEvery = time.Minute
	// diskBlock is what a file occupies at least, and in multiples of.
	diskBlock = 4096
)

var (
	// ErrFull says that the disk is full. The profile may be appended again later.
	ErrFull = errors.New("no space left for profiles")
	// ErrClosed says that the store is closing.
	ErrClosed = errors.New("the store is closed")
	// ErrRefused says that the store will never keep this profile.
	ErrRefused = errors.New("profile refused")
)

// Options for Open. Zero values mean the defaults.
type Options struct {
	// MaxBytes bounds the space taken on disk, directories and file system overhead
	// not counted. While blocks are merged it may be exceeded by what they take.
	MaxBytes int64
	// MaxAge bounds how long ago the window of a profile has ended. What is in one
	// block goes together: see the spans of levels in compact.go.
	MaxAge     time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Meter counts the CPU time of what Run does; it may be nil.
	Meter *cputime.Meter
}

// Store is safe for concurrent use. Its locks are taken in the order in which they
// stand here.
type Store struct {
	dir      string
	maxBytes int64
	maxAge   time.Duration
	log      *slog.Logger
	metrics  *metrics
	meter    *cputime.Meter
	lock     *os.File
	codec    codec
	wake     chan struct{} // asks Run to seal

	sealing    sync.Mutex // held while a head is sealed
	compacting sync.Mutex // held while blocks are merged

	queueMu sync.Mutex
	queue   []*appending

	// commit is held from the writing of records to their being in the head, so that
	// a head and its logs have the same records.
	commit sync.Mutex
	writer *wal.Writer // nil while there is no log to append to

	mu      sync.Mutex
	closed  bool
	head    *head
	frozen  *head // being sealed, or nil
	blocks  []*stored
	ids     *idSet
	files   index
	logs    map[uint64]logFile
	nextLog uint64
}

// Open takes the directory dir, which it makes if it is missing. A directory
// that holds anything else than a store is refused.
func Open(dir string, o Options) (_ *Store, err error) {
	s := &Store{
		dir: dir, maxBytes: o.MaxBytes, maxAge: o.MaxAge, log: o.Logger, meter: o.Meter,
		wake: make(chan struct{}, 1), ids: newIDSet(), logs: map[uint64]logFile{}, head: newHead(time.Now()),
	}
	if s.maxBytes == 0 {
		s.maxBytes = DefaultMaxBytes
	}
	if s.maxAge == 0 {
		s.maxAge = DefaultMaxAge
	}
	if s.maxBytes < 0 || s.maxAge < 0 {
		return nil, fmt.Errorf("open store %s: bounds of %d bytes and %v: want both above 0", dir, s.maxBytes, s.maxAge)
	}
	if s.codec, err = newCodec(); err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	if s.lock, err = claim(dir); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(o.Registerer, s); err == nil {
		err = s.load()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", dir, err), s.lock.Close())
	}
	s.Trim(time.Now())
	return s, nil
}

// load empties the directory of what is unfinished and reads what there is.
func (s *Store) load() error {
	if err := removeAllIn(s.path(tmpDir)); err != nil { // makes room, should the disk be full
		return err
	}
	for _, d := range []string{tmpDir, blocksDir, logsDir, exemplarsDir} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(s.dir); err != nil {
		return err
	}
	entries, foreign, err := scan(s.path(exemplarsDir), exemplarsSuffix)
	if err != nil {
		return err
	}
	if foreign > 0 {
		s.log.Warn("files in the data directory are not ours and were left alone", "dir", s.path(exemplarsDir), "files", foreign)
	}
	s.files.load(entries)
	sealed, unknown, err := s.loadBlocks()
	if err != nil {
		return err
	}
	if err := s.replay(sealed); err != nil {
		return err
	}
	if unknown > 0 {
		s.nextLog += maxAhead // should one of them be restored, logs to come are none of its
	}
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

// Run seals, folds and removes what is due, until ctx ends. It also takes over what a
// store of version 1 has left.
func (s *Store) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return s.every(ctx, s.wake, s.SealDue) })
	g.Go(func() error {
		s.meter.Do(func() { s.takeOver(ctx) })
		return s.every(ctx, nil, s.Compact)
	})
	return g.Wait()
}

// every calls f now, whenever it is woken, and once in maintainEvery.
func (s *Store) every(ctx context.Context, wake <-chan struct{}, f func(ctx context.Context, now time.Time)) error {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	for {
		s.meter.Do(func() { f(ctx, time.Now()) })
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-wake:
		}
	}
}

// Close gives up the directory. It is idempotent; everything else fails with ErrClosed
// from then on. Views must have been closed.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	s.sealing.Lock()
	defer s.sealing.Unlock()
	s.compacting.Lock()
	defer s.compacting.Unlock()
	s.commit.Lock()
	defer s.commit.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	for _, b := range s.blocks {
		errs = append(errs, b.Close())
	}
	return errors.Join(append(errs, s.lock.Close())...) // which releases the lock, see flock(2)
}

func (s *Store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Bounds gives the start of the oldest and the end of the newest profile.
// It reports false when there is none.
func (s *Store) Bounds() (oldest, newest time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first, last int64
	extend := func(start, end int64) {
		if !ok || start < first {
			first = start
		}
		last, ok = max(last, end), true
	}
	for _, b := range s.blocks {
		extend(b.Start, b.End)
	}
	for _, h := range []*head{s.head, s.frozen} {
		if h != nil && h.profiles > 0 {
			extend(h.start, h.end)
		}
	}
	return time.Unix(0, first), time.Unix(0, last), ok
}

// Writable reports whether a profile could be stored now, by writing a small file.
func (s *Store) Writable() error {
	if s.isClosed() {
		return ErrClosed
	}
	name, err := s.writeTemp(make([]byte, diskBlock))
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

// fullOr marks errors that mean a full disk or quota.
func fullOr(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

func onDisk(size int64) int64 {
	return (size + diskBlock - 1) / diskBlock * diskBlock
}
