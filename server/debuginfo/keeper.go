// SPDX-License-Identifier: Apache-2.0

// Package debuginfo keeps the debug information of what the fleet runs, one ELF file for each build
// ID, and names code by it of which profiles have only the address.
//
//	GET /api/v1/debuginfo/{build_id}   what there is of it
//	PUT /api/v1/debuginfo/{build_id}   a part of the file
//
// See docs/ingest.md for the protocol. Files come from whoever may push, so they are foreign: they take
// a bounded space, they are whole, of the SHA-256 that was announced and of that build ID before they
// are used, and they are read by package symbolize, which bounds whatever it reads.
//
// In the directory BUILD_ID.debug is a file that is whole; its time of change is when it was last used.
// BUILD_ID.part is one that is being sent, and is removed at the next start.
package debuginfo

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize"
	"github.com/fleetprof/fleetprof/symbolize/debugfile"
)

const (
	// LeastBytes is the least Options.Bytes but 0.
	LeastBytes = 64 << 20
	// oneShare is the part of all bytes that one file may have.
	oneShare = 4
	// reserveShare is the part of the disk that is left to profiles, which lie there too.
	reserveShare = 20
	// keptFor is how long a file is not evicted that was sent or used: a fleet that has more than there
	// is room for would otherwise send the same files again and again.
	keptFor = time.Hour
	// expireAfter is how long an upload may stand still.
	expireAfter = time.Hour
	// maintainEvery is how often Run looks after both.
	maintainEvery = time.Minute
	// maxFiles bounds the files, those that are being sent included: small ones would take more memory than
	// space on disk.
	maxFiles = 1 << 15
	// maxIDBytes is what a build ID may have; that of the Go linker has 83 bytes.
	maxIDBytes = 96

	wholeSuffix = ".debug"
	partSuffix  = ".part"

	// tableBytes is the memory for what is read of the files, results how many names are kept.
	tableBytes = 128 << 20
	results    = 65536
)

// Options for Open.
type Options struct {
	// Dir is made if it is missing. Nobody else may write there.
	Dir string
	// Bytes bounds the space on disk; 0 is no file at all. One file may have a quarter of it.
	Bytes int64
	// Client tells clients apart; nil is to have all for one. Of the parts that are being received at a time one
	// client may have half.
	Client     func(*http.Request) string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Keeper keeps the files. It is safe for concurrent use.
type Keeper struct {
	dir        string
	limit      int64 // bytes
	log        *slog.Logger
	metrics    *metrics
	symbolizer *symbolize.Symbolizer
	client     func(*http.Request) string
	now        func() time.Time
	// spare reports whether the disk has so many bytes and leaves enough to others.
	spare func(bytes int64) bool

	mu      sync.Mutex
	files   map[string]*file
	uploads map[string]*upload
	bytes   int64 // on disk, and of parts being received
	// parts is how many parts are being received of each client, receiving of all.
	parts     map[string]int
	receiving int
}

// file is one that is whole.
type file struct {
	object *sample.Object // of the build ID; another one each time that a file comes
	size   int64
	used   time.Time
	// touched is the time of use that the file on disk says.
	touched time.Time
	// starts are the pages at which segments begin in memory, as linked; nil until they are needed.
	starts []uint64
}

// upload is a file that comes in parts.
type upload struct {
	size, received int64
	sum            [sha256.Size]byte // of the whole, as announced
	hash           hash.Hash         // of what was received
	last           time.Time         // when it began, or something of it arrived
	// claimed is until when it is taken to be sent on: who sends too little or nothing has it no longer,
	// and who has something else of that build ID may begin anew.
	claimed time.Time
	busy    bool // a part is being received
}

// held reports whether somebody is sending it.
func (u *upload) held(now time.Time) bool { return u.busy || now.Before(u.claimed) }

// Open reads which files there are.
func Open(o Options) (*Keeper, error) {
	k := &Keeper{
		dir: o.Dir, limit: o.Bytes, log: o.Logger, client: o.Client, now: time.Now,
		files: map[string]*file{}, uploads: map[string]*upload{}, parts: map[string]int{},
	}
	k.spare = k.hasSpare
	if k.client == nil {
		k.client = func(*http.Request) string { return "" }
	}
	var err error
	if k.metrics, err = newMetrics(o.Registerer, k); err != nil {
		return nil, fmt.Errorf("register metrics of debug information: %w", err)
	}
	if k.symbolizer, err = symbolize.New(symbolize.Options{
		Files: stored(o.Dir), TableBytes: tableBytes, Results: results, Unhurried: true,
		MetricsPrefix: "fleetprof_naming_", Logger: o.Logger, Registerer: o.Registerer,
	}); err != nil {
		return nil, err
	}
	if err := k.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open directory of debug information: %w", err), k.symbolizer.Close())
	}
	return k, nil
}

// load finds the files of an earlier run, and removes those beyond the limit.
func (k *Keeper) load() error {
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), partSuffix); ok && validID(id) {
			if err := os.Remove(filepath.Join(k.dir, e.Name())); err != nil {
				return err
			}
		}
		id, ok := strings.CutSuffix(e.Name(), wholeSuffix)
		info, err := e.Info()
		if !ok || !validID(id) || err != nil || !info.Mode().IsRegular() {
			continue
		}
		used := info.ModTime()
		if now := k.now(); used.After(now) { // by a clock that was wrong; it would never be evicted
			used = now
		}
		k.files[id] = newFile(id, info.Size(), used)
		k.bytes += info.Size()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.evict(k.limit, maxFiles, 0)
	return nil
}

func newFile(id string, size int64, used time.Time) *file {
	return &file{object: &sample.Object{Kind: sample.File, Path: id + wholeSuffix, BuildID: id}, size: size, used: used, touched: used}
}

// validID reports whether a text is a build ID as profiles have it, and one of a kind. It is then the name
// of a file and nothing else.
func validID(id string) bool {
	return len(id) >= debugfile.MinID && len(id) <= 2*maxIDBytes && len(id)%2 == 0 && strings.Trim(id, "0123456789abcdef") == ""
}

func (k *Keeper) path(id, suffix string) string { return filepath.Join(k.dir, id+suffix) }

// Run lets go of uploads that stand still, and notes on disk which files were used, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			k.maintain()
			return nil
		case <-tick.C:
			k.maintain()
		}
	}
}

func (k *Keeper) maintain() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	for id, u := range k.uploads {
		if !u.busy && now.Sub(u.last) > expireAfter {
			k.drop(id, u)
			k.metrics.expired.Inc()
		}
	}
	for id, f := range k.files {
		if f.used.Equal(f.touched) {
			continue
		}
		if err := os.Chtimes(k.path(id, wholeSuffix), time.Time{}, f.used); err != nil {
			k.log.Warn("use of debug information is not noted on disk", "build_id", id, "error", err)
		}
		f.touched = f.used
	}
}

// Close closes the files that are open.
func (k *Keeper) Close() error { return k.symbolizer.Close() }

// drop throws an upload away. The caller holds mu.
func (k *Keeper) drop(id string, u *upload) {
	if err := os.Remove(k.path(id, partSuffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
		k.log.Warn("a part of debug information stays on disk", "build_id", id, "error", err)
	}
	k.bytes -= u.received
	delete(k.uploads, id)
}

// evict removes files until at most so many bytes are taken by at most so many files: first uploads that nobody
// goes on with, then those that were not used for the longest time, but none that were used within
// unused, if that is not 0. It reports whether that did. The caller holds mu.
func (k *Keeper) evict(bytes int64, files int, unused time.Duration) bool {
	fits := func() bool { return k.bytes <= bytes && len(k.files)+len(k.uploads) <= files }
	for !fits() && k.dropIdle() {
	}
	if fits() {
		return true
	}
	now := k.now()
	var old []string
	for id, f := range k.files {
		if unused == 0 || now.Sub(f.used) >= unused {
			old = append(old, id)
		}
	}
	slices.SortFunc(old, func(a, b string) int {
		return cmp.Or(k.files[a].used.Compare(k.files[b].used), strings.Compare(a, b))
	})
	for _, id := range old {
		if fits() {
			break
		}
		if k.remove(id, k.files[id]) {
			k.metrics.evicted.Inc()
		}
	}
	return fits()
}

// dropIdle throws away the upload that has stood still for the longest time. It is false if all are going
// on. The caller holds mu.
func (k *Keeper) dropIdle() bool {
	idle, now := "", k.now()
	for id, u := range k.uploads {
		if !u.held(now) && (idle == "" || u.last.Before(k.uploads[idle].last)) {
			idle = id
		}
	}
	if idle == "" {
		return false
	}
	k.drop(idle, k.uploads[idle])
	k.metrics.expired.Inc()
	return true
}

// remove removes a file. It is false, and the file counts on, if it cannot be. The caller holds mu.
func (k *Keeper) remove(id string, f *file) bool {
	if err := os.Remove(k.path(id, wholeSuffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
		k.log.Warn("debug information stays on disk", "build_id", id, "error", err)
		return false
	}
	k.bytes -= f.size
	delete(k.files, id)
	k.symbolizer.Forget(f.object)
	return true
}

// hasSpare is spare of a file system that says what it has.
func (k *Keeper) hasSpare(bytes int64) bool {
	var s syscall.Statfs_t
	if err := syscall.Statfs(k.dir, &s); err != nil {
		return true // writing will tell
	}
	return int64(s.Bavail)*s.Bsize-bytes >= int64(s.Blocks)*s.Bsize/reserveShare
}

// hasRoom reports whether there are so many bytes, or could be if files were evicted. The caller holds mu.
func (k *Keeper) hasRoom(bytes int64) bool {
	now, free := k.now(), k.limit-k.bytes
	for _, u := range k.uploads {
		if !u.held(now) {
			free += u.received
		}
	}
	for _, f := range k.files {
		if free >= bytes { // most often at once: it is asked for by all hosts
			break
		}
		if now.Sub(f.used) >= keptFor {
			free += f.size
		}
	}
	return free >= bytes
}

// stored opens the files of a directory.
type stored string

// Open opens the file of an object.
func (s stored) Open(o *sample.Object) (*os.File, error) {
	return os.Open(filepath.Join(string(s), o.Path))
}

// OpenBeside has nothing: a file is all that there is of a build ID.
func (stored) OpenBeside(*sample.Object, string) (*os.File, error) { return nil, os.ErrNotExist }
