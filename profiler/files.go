// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/sample"
)

const (
	// maxFiles bounds the descriptors held for objects of the current window.
	maxFiles = 512
	// maxPerfMaps bounds the perf maps among them, beside these: most processes that could have one do not.
	maxPerfMaps = 256
	// maxOpening bounds the opens under way, each of which takes a thread: one may
	// hang for ever on a file system that does not answer. Others wait.
	maxOpening = 8
	// maxTries is how many processes are asked for an object in one window.
	maxTries = 3
	// openWait is how long Open waits for an open that is under way.
	openWait = 200 * time.Millisecond
)

// Files holds the files of sampled objects, and of code that was generated, open from the first sample in a
// window until that window is encoded: by then the process, its mount
// namespace, or the file's name may be gone. Files are opened beside the
// sampling, which never waits for one. Safe for concurrent use.
type Files struct {
	proc    procfs.FS
	stats   *stats
	opening chan struct{} // holds a token for each open under way

	mu     sync.Mutex
	window uint64
	closed bool
	held   map[*sample.Object]*heldFile
	// perfMaps is how many in held stand for perf maps, openMaps how many of these are open.
	perfMaps, openMaps int
}

// heldFile is an open object, or the reason why it is not.
type heldFile struct {
	ready  chan struct{} // closed when file or err is set
	file   *os.File
	err    error
	window uint64 // the last in which it was sampled
	tries  int
	// perfMap says that it stands for a perf map, see region.isPerfMap.
	perfMap bool
	tasks   []uint32 // those asked for it last
}

// errTooManyFiles reports a window with more objects than can be held.
var errTooManyFiles = errors.New("too many different files in one window")

func newFiles(proc procfs.FS, stats *stats) *Files {
	return &Files{
		proc: proc, stats: stats,
		opening: make(chan struct{}, maxOpening),
		held:    make(map[*sample.Object]*heldFile),
	}
}

// hold sees to it that the object of a region is open, through one of the
// tasks given: the one that runs it, or one that had the same files before.
func (f *Files) hold(r *region, tasks ...uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.held[r.object]
	if h == nil {
		others := len(f.held) - f.perfMaps
		if r.isPerfMap() {
			others = f.perfMaps
		}
		if f.closed || others >= 2*maxFiles {
			f.stats.fileErrors.Inc()
			return
		}
		h = &heldFile{perfMap: r.isPerfMap()}
		f.held[r.object] = h
		if h.perfMap {
			f.perfMaps++
		}
	}
	anew := false
	if h.window != f.window {
		h.window, h.tries = f.window, 0
		anew = h.perfMap
	}
	if (h.file == nil || anew) && h.tries < maxTries && !h.pending() {
		h.tries++
		f.start(h, *r, tasks)
	}
}

// pending tells whether an open is under way.
func (h *heldFile) pending() bool {
	if h.ready == nil {
		return false
	}
	select {
	case <-h.ready:
		return false
	default:
		return true
	}
}

// start opens in a goroutine of its own. f.mu is held.
func (f *Files) start(h *heldFile, r region, tasks []uint32) {
	if !h.perfMap && len(f.held)-f.perfMaps > maxFiles {
		f.fail(h, errTooManyFiles)
		return
	}
	h.ready, h.tasks = make(chan struct{}), tasks
	go func() {
		f.opening <- struct{}{}
		file, err := f.open(tasks, &r)
		<-f.opening
		f.mu.Lock()
		defer f.mu.Unlock()
		if file != nil && f.held[r.object] != h { // given up meanwhile
			file.Close()
			file, err = nil, os.ErrClosed
		}
		f.opened(h, file, err)
		close(h.ready)
	}()
}

// opened takes what an open has led to. f.mu is held.
func (f *Files) opened(h *heldFile, file *os.File, err error) {
	switch {
	case err == nil && h.file != nil:
		h.file.Close() // there may be another of its name now
		h.file = file
	case err == nil && h.perfMap && f.openMaps >= maxPerfMaps:
		file.Close()
		f.fail(h, errTooManyFiles)
	case err == nil:
		h.file = file
		if h.perfMap {
			f.openMaps++
		}
	case h.file == nil:
		f.fail(h, err)
	}
}

func (f *Files) fail(h *heldFile, err error) {
	h.err = err
	if !errors.Is(err, errNoPerfMap) {
		f.stats.fileErrors.Inc()
	}
}

// Open gives a descriptor of its own for an object sampled in the current
// window or in one not yet closed; the caller closes it.
func (f *Files) Open(o *sample.Object) (*os.File, error) {
	h := f.get(o)
	if h == nil {
		return nil, fmt.Errorf("open %s: not sampled in this window", o.Path)
	}
	f.await(h)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case h.file != nil:
	case h.err != nil:
		return nil, fmt.Errorf("open %s: %w", o.Path, h.err)
	default:
		return nil, fmt.Errorf("open %s: %w", o.Path, os.ErrDeadlineExceeded)
	}
	fd, err := unix.FcntlInt(h.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate descriptor of %s: %w", o.Path, err)
	}
	return os.NewFile(uintptr(fd), o.Path), nil
}

func (f *Files) get(o *sample.Object) *heldFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held[o]
}

// await returns when an open has ended, or has taken too long.
func (f *Files) await(h *heldFile) {
	f.mu.Lock()
	ready := h.ready
	f.mu.Unlock()
	if ready == nil {
		return
	}
	select {
	case <-ready:
	case <-time.After(openWait):
	}
}

// NextWindow says that samples from now on belong to a new window and returns
// the function to call when the one that ends has been encoded: it closes the
// files that no later sample needs.
func (f *Files) NextWindow() (encoded func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ending := f.window
	f.window++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for o, h := range f.held {
			if h.window < ending {
				f.drop(o, h)
			}
		}
	}
}

// drop forgets an object; an open under way closes its file by itself.
func (f *Files) drop(o *sample.Object, h *heldFile) {
	delete(f.held, o)
	if h.perfMap {
		f.perfMaps--
	}
	if h.perfMap && h.file != nil {
		f.openMaps--
	}
	if h.file != nil {
		h.file.Close()
		h.file = nil
		h.err = os.ErrClosed
	}
}

func (f *Files) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for o, h := range f.held {
		f.drop(o, h)
	}
}
