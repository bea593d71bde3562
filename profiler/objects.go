// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"runtime"
	"strings"
	"sync"
	"weak"

	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/sample"
)

// The objects that are the same for every process.
var (
	kernelObject  = &sample.Object{Kind: sample.Kernel, Path: "[kernel.kallsyms]"}
	unknownObject = &sample.Object{Kind: sample.Unknown, Path: "[unknown]"}
	// kernelCutObject marks where frames of the kernel are missing.
	kernelCutObject = &sample.Object{Kind: sample.Marker, Path: "[truncated: kernel stack too deep]"}
)

// markers are the objects of the remarks that close a cut stack.
var markers = func() map[sample.Stop]*sample.Object {
	m := make(map[sample.Stop]*sample.Object)
	for stop := range sample.Stops() {
		if stop.Truncated() {
			m[stop] = &sample.Object{Kind: sample.Marker, Path: "[truncated: " + stop.String() + "]"}
		}
	}
	return m
}()

// objects interns sample.Object values: equal content, equal pointer. It holds
// them weakly, so that an object that no process and no sample refers to any
// more costs nothing. Safe for concurrent use.
type objects struct {
	mu  sync.Mutex
	all map[sample.Object]weak.Pointer[sample.Object]
}

func newObjects() *objects {
	return &objects{all: make(map[sample.Object]weak.Pointer[sample.Object])}
}

func (o *objects) intern(value sample.Object) *sample.Object {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.all[value].Value(); p != nil {
		return p
	}
	value.Path = strings.Clone(value.Path) // not a whole file's text with it
	p := &value
	o.all[value] = weak.Make(p)
	runtime.AddCleanup(p, o.forget, value)
	return p
}

func (o *objects) forget(value sample.Object) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all[value].Value() == nil { // else interned anew meanwhile
		delete(o.all, value)
	}
}

func (o *objects) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.all)
}

// fromProc makes the region of one line of /proc/PID/maps.
func (o *objects) fromProc(m procfs.Mapping) region {
	return region{m.Start, m.Limit, m.Offset, o.intern(objectOf(m, ""))}
}

// fromRecord makes the region of one MMAP2 record.
func (o *objects) fromRecord(r mapRecord) region {
	m := procfs.Mapping{
		Start: r.start, Limit: r.start + r.length, Offset: r.offset,
		Device: r.device, Inode: r.inode, Path: r.path, Deleted: r.deleted,
	}
	return region{m.Start, m.Limit, m.Offset, o.intern(objectOf(m, r.buildID))}
}

func objectOf(m procfs.Mapping, buildID string) sample.Object {
	backing := m.Backing()
	if buildID != "" && backing == procfs.Anonymous {
		backing = procfs.File // a record with a build ID has no inode
	}
	switch backing {
	case procfs.VDSO:
		return sample.Object{Kind: sample.VDSO, Path: "[vdso]"}
	case procfs.Memfd:
		if m.Path == dotnetCode {
			break
		}
		fallthrough
	case procfs.File:
		return sample.Object{Path: m.Path, BuildID: buildID, Device: m.Device, Inode: m.Inode}
	}
	return sample.Object{Kind: sample.Anonymous, Path: m.Path}
}

// dotnetCode is what .NET calls the memory that it generates code in, by default mapped twice, to be
// written to and to be executed.
const dotnetCode = "/memfd:doublemapper"
