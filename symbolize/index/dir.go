// SPDX-License-Identifier: Apache-2.0

package index

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// suffix ends the name of a file, after its key in hex.
	suffix = ".names"
	// partial ends the name of one that is being written.
	partial = ".part"
	// fileShare is which part of the directory's bytes one index may take.
	fileShare = 4
	// sector is what files take on disk a whole number of, in bytes.
	sector = 4 << 10
)

// onDisk is the room that a file of so many bytes takes.
func onDisk(size int64) int64 { return (size + sector - 1) / sector * sector }

// Dir keeps indexes in a directory within a number of bytes: those that were not opened for the longest time make
// room for others. One that has gone is still read by those who have it open. It is safe for concurrent use, but one only
// may write, and the directory belongs to one process.
type Dir struct {
	root  *os.Root
	limit int64

	mu      sync.Mutex
	files   map[Key]stored
	bytes   int64
	evicted int64
}

// stored is a file of the directory.
type stored struct {
	size int64
	used time.Time
}

// OpenDir takes a directory with what an earlier run left in it, and makes it if need be. The caller closes it.
func OpenDir(path string, limit int64) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of indexes: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open directory of indexes: %w", err)
	}
	d := &Dir{root: root, limit: limit, files: make(map[Key]stored)}
	if err := d.scan(); err != nil {
		return nil, errors.Join(fmt.Errorf("read directory of indexes: %w", err), root.Close())
	}
	return d, nil
}

// scan reads the directory, and removes what was never written to its end.
func (d *Dir) scan() error {
	found, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, f := range found {
		if strings.HasSuffix(f.Name(), suffix+partial) {
			if err := d.root.Remove(f.Name()); err != nil {
				return err
			}
		}
		key, ours := keyOf(f.Name())
		if info, err := f.Info(); ours && err == nil && info.Mode().IsRegular() {
			d.set(key, stored{info.Size(), info.ModTime()})
		}
	}
	d.makeRoom(0)
	return nil
}

func (k Key) file() string { return hex.EncodeToString(k[:]) + suffix }

// keyOf gives the key of a file by its name.
func keyOf(name string) (k Key, ok bool) {
	text, ours := strings.CutSuffix(name, suffix)
	b, err := hex.DecodeString(text)
	return k, ours && err == nil && copy(k[:], b) == len(k) && k.file() == name
}

// FileBytes is what one index may take.
func (d *Dir) FileBytes() int64 { return d.limit / fileShare }

// Open opens the index of a key; an error that wraps fs.ErrNotExist says that there is none. The caller closes the file.
func (d *Dir) Open(key Key) (f *os.File, size int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.files[key]
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	f, err = d.root.OpenFile(key.file(), os.O_RDONLY|syscall.O_NONBLOCK, 0) // no pipe holds it up
	if err != nil {
		d.forget(key)
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		d.forget(key)
		return nil, 0, fmt.Errorf("%w: no file", ErrCorrupt)
	}
	known.used = time.Now()
	d.files[key] = known
	_ = d.root.Chtimes(key.file(), known.used, known.used) // a restart goes by the time before
	return f, info.Size(), nil
}

// Create begins the file of an index. It is there when Keep was called; the caller calls that or Discard.
func (d *Dir) Create(key Key) (*os.File, error) {
	return d.root.OpenFile(key.file()+partial, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
}

// Discard gives up a file that was created.
func (d *Dir) Discard(key Key) {
	_ = d.root.Remove(key.file() + partial) // else the next start does
}

// Keep puts a file that was created, and has been written, into its place.
func (d *Dir) Keep(key Key, f *os.File, size int64) error {
	if err := f.Sync(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.makeRoom(size)
	if err := d.root.Rename(key.file()+partial, key.file()); err != nil {
		return err
	}
	d.set(key, stored{size, time.Now()})
	return d.sync()
}

// sync makes names durable, fsync(2).
func (d *Dir) sync() error {
	dir, err := d.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Remove removes an index, such as one that is damaged.
func (d *Dir) Remove(key Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remove(key)
}

// Usage is what the directory has, and how many files have had to make room.
func (d *Dir) Usage() (bytes int64, files int, evicted int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bytes, len(d.files), d.evicted
}

// Close closes the directory, but no files. It is idempotent.
func (d *Dir) Close() error { return d.root.Close() }

// makeRoom makes others give way to so many bytes. The caller holds mu, as of what follows.
func (d *Dir) makeRoom(size int64) {
	for len(d.files) > 0 && d.bytes+onDisk(size) > d.limit {
		var oldest *Key
		for key, f := range d.files {
			if oldest == nil || f.used.Before(d.files[*oldest].used) {
				oldest = &key
			}
		}
		d.remove(*oldest)
		d.evicted++
	}
}

func (d *Dir) set(key Key, s stored) {
	d.forget(key)
	d.files[key] = s
	d.bytes += onDisk(s.size)
}

func (d *Dir) forget(key Key) {
	d.bytes -= onDisk(d.files[key].size)
	delete(d.files, key)
}

func (d *Dir) remove(key Key) {
	d.forget(key)
	_ = d.root.Remove(key.file()) // else the next start counts it
}
