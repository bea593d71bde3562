// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/sample"
)

// maxFiles bounds the descriptors held for objects of the current window.
const maxFiles = 512

// Files holds the ELF files of sampled objects open from the first sample in a
// window until that window is encoded: by then the process, its mount
// namespace, or the file's name may be gone. Safe for concurrent use.
type Files struct {
	proc  procfs.FS
	stats *stats

	mu     sync.Mutex
	window uint64
	held   map[*sample.Object]*heldFile
}

// heldFile is an open object, or the reason why it is not.
type heldFile struct {
	file   *os.File
	err    error
	window uint64 // the last in which it was sampled
}

func newFiles(proc procfs.FS, stats *stats) *Files {
	return &Files{proc: proc, stats: stats, held: make(map[*sample.Object]*heldFile)}
}

// hold opens the object of a region, through the process that runs it.
func (f *Files) hold(pid uint32, r *region) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.held[r.object]; h != nil && (h.err == nil || h.window == f.window) {
		h.window = f.window
		return
	}
	h := &heldFile{window: f.window}
	if len(f.held) >= maxFiles {
		h.err = errors.New("too many different files in one window")
	} else {
		h.file, h.err = f.open(pid, r)
	}
	if h.err != nil {
		f.stats.fileErrors.Inc()
		if len(f.held) >= 2*maxFiles {
			return
		}
	}
	f.held[r.object] = h
}

// open tries the link that leads to the mapped file itself whatever has become
// of its name (proc_pid_map_files(5)), then the path in the process's own
// root, then in ours; the last two only if the file proves to be the same.
func (f *Files) open(pid uint32, r *region) (*os.File, error) {
	exact := f.proc.Path(pid, "map_files", fmt.Sprintf("%x-%x", r.start, r.limit))
	file, err := openRegular(exact)
	if err == nil {
		return file, nil
	}
	for _, name := range []string{f.proc.Path(pid, "root") + r.object.Path, r.object.Path} {
		file, pathErr := openRegular(name)
		if pathErr != nil {
			err = errors.Join(err, pathErr)
			continue
		}
		if isObject(file, r.object) {
			return file, nil
		}
		file.Close()
		err = errors.Join(err, fmt.Errorf("open %s: another file than the one that was mapped", name))
	}
	return nil, err
}

// openRegular opens a file of somebody else's choosing for reading: never
// blocking on a FIFO, never anything but a regular file.
func openRegular(name string) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// isObject tells whether a file found by its name is the one that was mapped.
// Where a file system shows different devices in maps and stat (overlayfs,
// btrfs) the answer is no: no name is better than a wrong one.
func isObject(file *os.File, o *sample.Object) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return false
	}
	if o.BuildID != "" {
		elf, err := objfile.Open(file, st.Size)
		return err == nil && elf.BuildID() == o.BuildID
	}
	return st.Ino == o.Inode && st.Dev == o.Device
}

// Open gives a descriptor of its own for an object sampled in the current
// window or in one not yet closed; the caller closes it.
func (f *Files) Open(o *sample.Object) (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.held[o]
	if h == nil {
		return nil, fmt.Errorf("open %s: not sampled in this window", o.Path)
	}
	if h.err != nil {
		return nil, h.err
	}
	fd, err := unix.FcntlInt(h.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate descriptor of %s: %w", o.Path, err)
	}
	return os.NewFile(uintptr(fd), o.Path), nil
}

// NextWindow says that samples from now on belong to a new window and returns
// the function to call when the one that ends has been encoded: it closes the
// files that no later sample needs.
func (f *Files) NextWindow() (encoded func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ending := f.window
	f.window++
	return func() { f.closeUpTo(ending) }
}

func (f *Files) closeUpTo(window uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for o, h := range f.held {
		if h.window < window || (h.window == window && h.err != nil) {
			delete(f.held, o)
			if h.file != nil {
				h.file.Close()
			}
		}
	}
}

func (f *Files) close() { f.closeUpTo(^uint64(0)) }
