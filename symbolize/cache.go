// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/lru"
)

const (
	// maxTables bounds the tables kept, and with them the open files.
	maxTables = 256
	// maxObjects bounds the objects of which is remembered which table is
	// theirs, or that they cannot be read.
	maxObjects = 4096
	// retryInterval is how long an object that could not be opened stays
	// unopened: it may be mapped again by another process.
	retryInterval = time.Minute
)

// errUnreadable stands for an earlier failure that has been counted.
var errUnreadable = errors.New("object was unreadable before")

// identity tells files apart by content. Build ID, size and a digest of all
// ELF headers hold across containers, where the same library has many inodes,
// and differ between a stripped file and its original. Files without a build
// ID are told apart by inode and time of change as well.
//
// This trusts files to carry the build ID of their content. One that is made
// to look like another in all of this can lend that one wrong names.
type identity struct {
	buildID string
	size    int64
	digest  [sha256.Size]byte
	itself  stored
	// debug is the debug file: one that a container has names nothing of others. supplement and pkg
	// are those that belong to the debug information.
	debug, supplement, pkg stored
	// fetched is set if the debug file is one of DebugFiles: there is one for a build ID.
	fetched bool
}

// stored tells files of file systems apart.
type stored struct {
	device, inode uint64
	changed       syscall.Timespec
}

func storedOf(info os.FileInfo) (s stored) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		s = stored{stat.Dev, stat.Ino, stat.Ctim}
	}
	return s
}

// openedTable is a table with the files it reads names from.
type openedTable struct {
	*table
	file *os.File
	// debug, supplement and pkg say more of it; nil for none.
	debug, supplement, pkg *os.File
	// object is the last one that the table was asked for.
	object atomic.Pointer[sample.Object]
	id     identity
	// users counts the cache itself and the lookups under way; the file is
	// closed when it drops to 0. Guarded by cache.mu.
	users int
}

// object is what is known of a sample.Object.
type object struct {
	id identity
	// retry is set if the object is unreadable: when to try again. A table that was read before serves
	// meanwhile.
	retry time.Time
}

// cache finds the table of an object. It is safe for concurrent use.
type cache struct {
	files      Files
	debugFiles DebugFiles // may be nil
	loading    loading
	indexes    *indexes // nil for none
	now        func() time.Time
	metrics    *metrics

	mu      sync.Mutex
	objects *lru.Cache[*sample.Object, object]
	tables  *lru.Cache[identity, *openedTable]
	closed  bool

	// reading lets one table at a time be read, so that only one is in the
	// making beyond the cache's bound.
	reading sync.Mutex
}

// newCache bounds all tables to limit bytes.
func newCache(files Files, debugFiles DebugFiles, l loading, limit int64, m *metrics) *cache {
	c := &cache{files: files, debugFiles: debugFiles, loading: l, now: time.Now, metrics: m}
	c.objects = lru.New[*sample.Object, object](maxObjects, maxObjects, nil)
	c.tables = lru.New[identity](limit, maxTables, c.drop)
	return c
}

// get returns the table of an object; the caller must release it.
func (c *cache) get(o *sample.Object) (*openedTable, error) {
	t, err := c.find(o)
	if t != nil {
		t.object.Store(o)
	}
	return t, err
}

func (c *cache) find(o *sample.Object) (*openedTable, error) {
	if t, err := c.known(o); t != nil || err != nil {
		return t, err
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	if t, err := c.known(o); t != nil || err != nil { // meanwhile
		return t, err
	}
	t, id, err := c.load(o)
	c.mu.Lock()
	defer c.mu.Unlock()
	before, _ := c.objects.Get(o)
	if err != nil {
		c.objects.Put(o, object{before.id, c.now().Add(retryInterval)}, 1)
		if t := c.use(before.id); t != nil {
			return t, nil
		}
		return nil, err
	}
	if before.id != id {
		c.tables.Delete(before.id)
	}
	c.objects.Put(o, object{id: id}, 1)
	return t, nil
}

// known returns the table of an object if it is in memory, an error if the
// object is unreadable, and neither if it must be loaded.
func (c *cache) known(o *sample.Object) (*openedTable, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, os.ErrClosed
	}
	known, ok := c.objects.Get(o)
	if !ok {
		return nil, nil
	}
	t := c.use(known.id)
	switch {
	case c.now().Before(known.retry):
		if t == nil {
			return nil, errUnreadable
		}
	case t != nil && t.awaits && c.debugFiles.Available(t.buildID):
		c.drop(t)
		return nil, nil
	}
	return t, nil
}

// use returns the table of that identity, or nil. The caller holds mu.
func (c *cache) use(id identity) *openedTable {
	t, ok := c.tables.Get(id)
	if !ok {
		return nil
	}
	t.users++
	return t
}

// load opens an object and reads its table, unless the same file's is there
// under another object. The caller holds reading.
func (c *cache) load(o *sample.Object) (*openedTable, identity, error) {
	f, err := c.files.Open(o)
	if err != nil {
		c.metrics.failures.WithLabelValues(reasonOpen).Inc()
		return nil, identity{}, fmt.Errorf("open object: %w", err)
	}
	elf, id, err := identify(f)
	if err != nil {
		f.Close()
		c.metrics.failures.WithLabelValues(reasonHeaders).Inc()
		return nil, identity{}, fmt.Errorf("read object: %w", err)
	}
	t := &openedTable{file: f, users: 2} // the cache and the caller
	t.object.Store(o)
	b, awaits := c.openBesides(o, elf, t, &id)
	c.mu.Lock()
	known := c.use(id)
	c.mu.Unlock()
	if known != nil {
		t.close()
		return known, id, nil
	}
	start := time.Now()
	var problems []problem
	x := c.indexes.open(id, o.Path)
	t.id = id
	t.table, problems = c.loading.loadTable(elf, b, x)
	t.reopen = func() *dwarfsym.Table { return c.reopen(t) }
	t.lost = func(err error) {
		c.indexes.refuse(id, o.Path, err)
		c.indexes.want(id)
	}
	t.awaits = awaits
	c.metrics.loadSeconds.Observe(time.Since(start).Seconds())
	c.metrics.report(o.Path, problems)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.tables.Put(id, t, t.bytes())
	if c.closed {
		c.tables.Clear()
	}
	if t.unindexed() != nil && len(problems) == 0 { // else there may be more to know with more memory
		c.indexes.want(id)
	}
	return t, id, nil
}

func identify(f *os.File) (*objfile.File, identity, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, identity{}, err
	}
	if !info.Mode().IsRegular() {
		return nil, identity{}, fmt.Errorf("mode is %s: not a regular file", info.Mode())
	}
	elf, err := objfile.Open(f, info.Size())
	if err != nil {
		return nil, identity{}, err
	}
	id := identity{buildID: elf.BuildID(), size: info.Size(), digest: elf.Digest}
	if id.buildID == "" {
		id.itself = storedOf(info)
	}
	return elf, id, nil
}

func (c *cache) release(t *openedTable) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.repriced.Swap(false) {
		if kept, ok := c.tables.Get(t.id); ok && kept == t {
			c.tables.Price(t.id, t.bytes())
		}
	}
	c.drop(t)
}

// drop gives up one use of a table. The caller holds mu.
func (c *cache) drop(t *openedTable) {
	if t.users--; t.users == 0 {
		t.close()
	}
}

// close closes the files, which were opened for reading: nothing can be lost.
func (t *openedTable) close() {
	if t.table != nil {
		t.table.close()
	}
	t.file.Close()
	for _, f := range []*os.File{t.debug, t.supplement, t.pkg} {
		if f != nil {
			f.Close()
		}
	}
}

// forget lets go of the table of an object.
func (c *cache) forget(o *sample.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.objects.Get(o); ok {
		c.tables.Delete(known.id)
		c.objects.Delete(o)
	}
}

// usage is the memory and the number of the tables.
func (c *cache) usage() (bytes int64, tables int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tables.Cost(), c.tables.Len()
}

func (c *cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.tables.Clear()
	c.objects.Clear()
}
