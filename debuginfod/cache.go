// SPDX-License-Identifier: Apache-2.0

package debuginfod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

const (
	// suffix ends the name of a file, after its build ID. An empty one says that nobody had the
	// file, or that it had to make room; its time of change is when to ask again.
	suffix = ".debug"
	// partial ends the name of a file that is being fetched.
	partial = ".part"
	// maxEntries bounds what is remembered, and with it the files.
	maxEntries = 4096
	// absentFor is how long is remembered that nobody has a file: distributions publish debug
	// files within hours of a package.
	absentFor = 6 * time.Hour
	// failedFor is how long is remembered, in memory, that a file could not be had.
	failedFor = 15 * time.Minute
)

// entry is what is known of a build ID.
type entry struct {
	size int64 // 0: the file is not there
	used time.Time
	// again is when to ask for a file that is not there.
	again time.Time
}

// cache keeps files in a directory within a number of bytes: those that were not used for the longest
// time make room for others. It is safe for concurrent use, but one only may write. No lock is held while the
// disk works.
type cache struct {
	root    *os.Root
	limit   int64
	now     func() time.Time
	evicted func()

	mu      sync.Mutex
	entries map[string]*entry
	bytes   int64
	files   int
}

// openCache takes a directory with what an earlier run left in it.
func openCache(path string, limit int64, evicted func()) (*cache, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	c := &cache{root: root, limit: limit, now: time.Now, evicted: evicted, entries: make(map[string]*entry)}
	if err := c.scan(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return c, nil
}

// scan reads the directory, and removes what was never fetched whole.
func (c *cache) scan() error {
	found, err := fs.ReadDir(c.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, f := range found {
		if id, ok := strings.CutSuffix(f.Name(), partial); ok && valid(id) {
			if err := c.root.Remove(f.Name()); err != nil {
				return err
			}
		}
		id, ok := strings.CutSuffix(f.Name(), suffix)
		info, err := f.Info()
		if err != nil || !ok || !valid(id) || !info.Mode().IsRegular() {
			continue // not ours, or gone
		}
		e := &entry{size: info.Size(), used: info.ModTime()}
		if e.size == 0 { // a clock may have been wrong
			e.again = sooner(info.ModTime(), c.now().Add(absentFor))
		}
		c.set(id, e)
	}
	c.makeRoom("", 0)
	return nil
}

func sooner(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// look tells whether a file is there, and if not whether it may be asked for now.
func (c *cache) look(id string) (there, ask bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[id]
	if e == nil {
		return false, true
	}
	return e.size > 0, e.size == 0 && !c.now().Before(e.again)
}

// open opens a file that is there. One that is no longer what it was is forgotten.
func (c *cache) open(id string) (*os.File, error) {
	c.mu.Lock()
	var size int64
	if e := c.entries[id]; e != nil {
		size, e.used = e.size, c.now()
	}
	c.mu.Unlock()
	if size == 0 {
		return nil, fmt.Errorf("debug file of %s: %w", id, fs.ErrNotExist)
	}
	f, err := c.root.OpenFile(id+suffix, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err == nil {
		if err = check(f, size, id); err != nil {
			f.Close()
		}
	}
	if err != nil {
		_ = c.root.Remove(id + suffix) // it may be what is gone
		c.set(id, &entry{used: c.now(), again: c.now().Add(failedFor)})
		return nil, fmt.Errorf("debug file of %s: %w", id, err)
	}
	now := c.now()
	_ = c.root.Chtimes(id+suffix, now, now) // a restart goes by the time before
	return f, nil
}

// errOther reports a file that is none of the build ID.
var errOther = errors.New("not the file with that build ID")

// check finds out whether a file is as long as it should be, and of a build ID.
func check(f *os.File, size int64, id string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != size {
		return errOther
	}
	elf, err := objfile.Open(f, size)
	if err != nil {
		return fmt.Errorf("%w: %w", errOther, err)
	}
	if elf.BuildID() != id {
		return errOther
	}
	return nil
}

// create begins a file, which is not there before keep; discard gives it up.
func (c *cache) create(id string) (*os.File, error) {
	return c.root.OpenFile(id+partial, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
}

func (c *cache) discard(id string, f *os.File) {
	f.Close()
	_ = c.root.Remove(id + partial) // the next start tries again
}

// keep puts a file that has been created in its place, and closes it.
func (c *cache) keep(id string, f *os.File, size int64) error {
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	c.makeRoom(id, size)
	if err := c.root.Rename(id+partial, id+suffix); err != nil {
		return err
	}
	if err := c.syncDir(); err != nil {
		return errors.Join(err, c.root.Remove(id+suffix))
	}
	c.set(id, &entry{size: size, used: c.now()})
	return nil
}

// syncDir makes names durable, fsync(2).
func (c *cache) syncDir() error {
	dir, err := c.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// miss remembers that a file was not to be had: nobody has it, or for the time being.
func (c *cache) miss(id string, nobody bool) {
	c.makeRoom(id, 0)
	if nobody {
		c.absent(id)
		return
	}
	c.set(id, &entry{used: c.now(), again: c.now().Add(failedFor)})
}

// absent remembers for a restart as well that there is no file.
func (c *cache) absent(id string) {
	again := c.now().Add(absentFor)
	c.set(id, &entry{used: c.now(), again: again})
	f, err := c.root.OpenFile(id+suffix, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return // it is remembered until the end of the agent
	}
	f.Close()
	_ = c.root.Chtimes(id+suffix, again, again) // else it is asked for sooner
}

// makeRoom makes others give way to a file of so many bytes. One that still opens them goes on reading.
func (c *cache) makeRoom(id string, size int64) {
	for {
		victim, whole := c.victim(id, size)
		if victim == "" {
			return
		}
		_ = c.root.Remove(victim + suffix) // the next start tries again
		if !whole {
			c.forget(victim)
			continue
		}
		// It is not fetched again at once, else files that do not fit together would be fetched in turns.
		c.absent(victim)
		c.evicted()
	}
}

// victim is what has to go first for a file of so many bytes, if anything has to: a file, or what is
// remembered of one.
func (c *cache) victim(id string, size int64) (victim string, whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := func(whole bool) (id string) {
		for other, e := range c.entries {
			if (e.size > 0) == whole && (id == "" || e.used.Before(c.entries[id].used)) {
				id = other
			}
		}
		return id
	}
	switch {
	case c.bytes+size > c.limit, c.files >= maxEntries-1:
		return oldest(true), true
	case len(c.entries) >= maxEntries && c.entries[id] == nil:
		return oldest(false), false
	}
	return "", false
}

// set replaces what is known of a build ID.
func (c *cache) set(id string, e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uncount(id)
	if e.size > 0 {
		c.bytes += e.size
		c.files++
	}
	c.entries[id] = e
}

func (c *cache) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uncount(id)
	delete(c.entries, id)
}

// uncount takes a file out of the sums. The caller holds mu.
func (c *cache) uncount(id string) {
	if e := c.entries[id]; e != nil && e.size > 0 {
		c.bytes -= e.size
		c.files--
	}
}

func (c *cache) usage() (bytes int64, files int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes, c.files
}

func (c *cache) close() error { return c.root.Close() }
