// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/sample"
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
	buildID       string
	size          int64
	digest        [sha256.Size]byte
	device, inode uint64
	changed       syscall.Timespec
}

// openedTable is a table with the file it reads names from.
type openedTable struct {
	*table
	file *os.File
	// users counts the cache itself and the lookups under way; the file is
	// closed when it drops to 0. Guarded by cache.mu.
	users int
}

// object is what is known of a sample.Object.
type object struct {
	id identity
	// retry is set if the object is unreadable: when to try again.
	retry time.Time
}

// cache finds the table of an object. It is safe for concurrent use.
type cache struct {
	files   Files
	limit   int64 // of one table, in bytes
	now     func() time.Time
	metrics *metrics

	mu      sync.Mutex
	objects *lru[*sample.Object, object]
	tables  *lru[identity, *openedTable]
	closed  bool

	// loading lets one table at a time be read, so that only one is in the
	// making beyond the cache's bound.
	loading sync.Mutex
}

// newCache bounds all tables to limit bytes, and one of them to half of that.
func newCache(files Files, limit int64, m *metrics) *cache {
	c := &cache{files: files, limit: limit / 2, now: time.Now, metrics: m}
	c.objects = newLRU[*sample.Object, object](maxObjects, maxObjects, nil)
	c.tables = newLRU[identity](limit, maxTables, c.drop)
	return c
}

// get returns the table of an object; the caller must release it.
func (c *cache) get(o *sample.Object) (*openedTable, error) {
	if t, err := c.known(o); t != nil || err != nil {
		return t, err
	}
	c.loading.Lock()
	defer c.loading.Unlock()
	if t, err := c.known(o); t != nil || err != nil { // meanwhile
		return t, err
	}
	t, id, err := c.load(o)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.objects.put(o, object{retry: c.now().Add(retryInterval)}, 1)
		return nil, err
	}
	c.objects.put(o, object{id: id}, 1)
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
	known, ok := c.objects.get(o)
	if !ok {
		return nil, nil
	}
	if !known.retry.IsZero() {
		if c.now().Before(known.retry) {
			return nil, errUnreadable
		}
		return nil, nil
	}
	return c.use(known.id), nil
}

// use returns the table of that identity, or nil. The caller holds mu.
func (c *cache) use(id identity) *openedTable {
	t, ok := c.tables.get(id)
	if !ok {
		return nil
	}
	t.users++
	return t
}

// load opens an object and reads its table, unless the same file's is there
// under another object. The caller holds loading.
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
	c.mu.Lock()
	t := c.use(id)
	c.mu.Unlock()
	if t != nil {
		f.Close()
		return t, id, nil
	}
	start := time.Now()
	loaded, problems := loadTable(elf, c.limit)
	c.metrics.loadSeconds.Observe(time.Since(start).Seconds())
	c.metrics.report(o.Path, problems)

	t = &openedTable{table: loaded, file: f, users: 2} // the cache and the caller
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tables.put(id, t, loaded.bytes())
	if c.closed {
		c.tables.clear()
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
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && id.buildID == "" {
		id.device, id.inode, id.changed = stat.Dev, stat.Ino, stat.Ctim
	}
	return elf, id, nil
}

func (c *cache) release(t *openedTable) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(t)
}

// drop gives up one use of a table. The caller holds mu.
func (c *cache) drop(t *openedTable) {
	if t.users--; t.users == 0 {
		t.file.Close() // opened for reading: nothing can be lost
	}
}

// usage is the memory and the number of the tables.
func (c *cache) usage() (bytes int64, tables int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tables.cost, c.tables.len()
}

func (c *cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.tables.clear()
	c.objects.clear()
}
