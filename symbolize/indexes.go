// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/fleetprof/fleetprof/internal/cputime"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/index"
	"github.com/fleetprof/fleetprof/symbolize/lru"
)

const (
	// indexFormat is a part of all keys: another number makes all indexes anew. It is raised when the
	// same file gets other names than before, or index.Writer writes otherwise.
	indexFormat = 1
	// buildTime bounds the CPU time that one index takes. A second of it is 5 to 30 MB of .debug_info.
	buildTime = 2 * time.Minute
	// buildSlice is after how much CPU time it is asked whether there is more.
	buildSlice = 5 * time.Millisecond
	// rebuildAfter is how long an index that could not be made is not tried again.
	rebuildAfter = time.Hour
	// maxWanted bounds the indexes that wait to be made, and those that are remembered as impossible.
	maxWanted = 1024
	// lowestPriority is that of setpriority(2).
	lowestPriority = 19
)

// Results in the metric of builds.
const (
	buildWritten    = "written"
	buildTooLarge   = "too_large"
	buildTooSlow    = "too_slow"
	buildUnreadable = "unreadable"
	buildUnwritable = "unwritable"
	buildIncomplete = "incomplete"
	buildForgotten  = "forgotten"
)

var (
	// errTooSlow reports an index that takes too long to make.
	errTooSlow = errors.New("index takes too long to make")
	// errIncomplete reports debug information of which split units are missing. They may come yet.
	errIncomplete = errors.New("split units are missing")
)

// indexes are what has been found out of objects with debug information, on disk. Safe for concurrent use; a nil one
// has none and makes none.
type indexes struct {
	dir     *index.Dir
	pages   *index.Cache
	names   *readableNames
	units   *dwarfsym.Units
	metrics *metrics

	mu     sync.Mutex
	wanted []identity
	failed *lru.Cache[identity, time.Time] // when it was
	more   chan struct{}
}

func newIndexes(dir *index.Dir, pageBytes int64, l loading, m *metrics) *indexes {
	return &indexes{
		dir: dir, pages: index.NewCache(pageBytes), names: l.names, units: l.units, metrics: m,
		failed: lru.New[identity, time.Time](maxWanted, maxWanted, nil), more: make(chan struct{}, 1),
	}
}

// openedIndex is an index with its file.
type openedIndex struct {
	*index.Reader
	file *os.File
}

func (x *openedIndex) close() {
	x.Reader.Close()
	x.file.Close()
}

// key is that of the index of a file with this debug file, in this style.
func (x *indexes) key(id identity) (k index.Key) {
	return sha256.Sum256(fmt.Appendf(nil, "%d %s %v", indexFormat, x.names.style, id))
}

// open gives the index of a file that has been found by a path, or nil.
func (x *indexes) open(id identity, path string) *openedIndex {
	if x == nil {
		return nil
	}
	key := x.key(id)
	f, size, err := x.dir.Open(key)
	if err == nil {
		var r *index.Reader
		if r, err = index.Open(f, size, key, x.pages); err == nil {
			return &openedIndex{r, f}
		}
		f.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		x.refuse(id, path, err)
	}
	return nil
}

// refuse gives up an index that is damaged. Another is made when debug information is open.
func (x *indexes) refuse(id identity, path string, err error) {
	x.metrics.failures.WithLabelValues(reasonIndex).Inc()
	x.metrics.log.Warn("index of names is made anew", "object_path", path, "error", err)
	x.dir.Remove(x.key(id))
}

// want has the index of a file made.
func (x *indexes) want(id identity) {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	at, ok := x.failed.Get(id)
	if ok && time.Since(at) < rebuildAfter {
		return
	}
	if len(x.wanted) == maxWanted {
		x.metrics.builds.WithLabelValues(buildForgotten).Inc()
		return
	}
	x.wanted = append(x.wanted, id)
	select {
	case x.more <- struct{}{}:
	default:
	}
}

// next waits for a file of which an index is wanted.
func (x *indexes) next(ctx context.Context) (identity, error) {
	for {
		x.mu.Lock()
		if len(x.wanted) > 0 {
			id := x.wanted[0]
			x.wanted = x.wanted[1:]
			x.mu.Unlock()
			return id, ctx.Err()
		}
		x.mu.Unlock()
		select {
		case <-ctx.Done():
			return identity{}, ctx.Err()
		case <-x.more:
		}
	}
}

// run makes indexes until ctx ends, one at a time, with the time for debug information that lookups leave.
func (x *indexes) run(ctx context.Context, c *cache) {
	runtime.LockOSThread() // for good: the thread ends with the goroutine, and its priority with it
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), lowestPriority); err != nil {
		x.metrics.log.Debug("indexes are made at the usual priority", "error", err)
	}
	for {
		id, err := x.next(ctx)
		if err != nil {
			return
		}
		c.mu.Lock()
		t := c.use(id)
		c.mu.Unlock()
		if t == nil { // it comes again if it is needed again
			x.metrics.builds.WithLabelValues(buildForgotten).Inc()
			continue
		}
		x.make(ctx, id, t)
		c.release(t)
	}
}

// make makes the index of a table, which then goes by it.
func (x *indexes) make(ctx context.Context, id identity, t *openedTable) {
	debug := t.unindexed()
	if debug == nil {
		return // it has been wanted twice
	}
	begin := cputime.Thread()
	size, err := x.write(ctx, id, t.table, debug)
	x.metrics.buildSeconds.Add((cputime.Thread() - begin).Seconds())
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		x.metrics.log.Debug("names are kept for a restart", "object_path", t.object.Load().Path, "bytes", size)
		if made := x.open(id, t.object.Load().Path); made != nil {
			t.goBy(made)
		}
	} else {
		x.metrics.log.Warn("names are not kept for a restart", "object_path", t.object.Load().Path, "error", err)
		x.mu.Lock()
		x.failed.Put(id, time.Now(), 1)
		x.mu.Unlock()
	}
	x.metrics.builds.WithLabelValues(buildResult(err)).Inc()
}

// buildResult is what came of an index, for the metric.
func buildResult(err error) string {
	switch {
	case err == nil:
		return buildWritten
	case errors.Is(err, index.ErrTooLarge):
		return buildTooLarge
	case errors.Is(err, errTooSlow):
		return buildTooSlow
	case errors.Is(err, errIncomplete):
		return buildIncomplete
	case errors.Is(err, errIndexed):
		return buildUnreadable
	}
	return buildUnwritable
}

// write writes the index of a table into the directory.
func (x *indexes) write(ctx context.Context, id identity, t *table, debug *dwarfsym.Table) (size int64, err error) {
	key := x.key(id)
	f, err := x.dir.Create(key)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	to := index.NewWriter(&synced{f: f}, key, x.dir.FileBytes())
	p := pace{ctx: ctx, units: x.units, most: buildTime, at: cputime.Thread()}
	if err = write(to, t, debug, p, x.names); err == nil && debug.Incomplete() {
		err = errIncomplete
	}
	if err == nil {
		err = x.dir.Keep(key, f, to.Size())
	}
	if err != nil {
		x.dir.Discard(key)
	}
	return to.Size(), err
}

// synced has a file written to disk a piece at a time, so that little is left to wait for at its end.
type synced struct {
	f     *os.File
	dirty int
}

// dirtyBytes is how much may wait to be written.
const dirtyBytes = 4 << 20

func (s *synced) Write(b []byte) (int, error) {
	n, err := s.f.Write(b)
	if s.dirty += n; err == nil && s.dirty > dirtyBytes {
		s.dirty = 0
		err = s.f.Sync()
	}
	return n, err
}

// pace makes the making of an index wait for its time.
type pace struct {
	ctx   context.Context
	units *dwarfsym.Units
	most  time.Duration // CPU time in all
	at    time.Duration // of the thread, when it waited last
	spent time.Duration
	steps int
}

// turn waits until there is time to go on.
func (p *pace) turn() error {
	d := cputime.Thread() - p.at
	if d < buildSlice && p.spent > 0 {
		return nil
	}
	if p.spent += d; p.spent > p.most {
		return errTooSlow
	}
	if err := p.units.Pause(p.ctx, d); err != nil {
		return err
	}
	p.at = cputime.Thread()
	return nil
}

// step is turn, once in a while.
func (p *pace) step() error {
	if p.steps++; p.steps%64 != 0 {
		return nil
	}
	return p.turn()
}
