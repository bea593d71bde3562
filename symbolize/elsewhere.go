// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"math"
	"sync"
	"time"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/debugfile"
	"github.com/fleetprof/fleetprof/symbolize/lru"
)

const (
	// placedOverhead is about what is kept of an object that is named elsewhere, besides its segments.
	placedOverhead = 512
	segmentBytes   = 48
	// tellAgain is when an object that is still met is told of once more: the store may have let go of
	// what names it.
	tellAgain = 6 * time.Hour
)

// elsewhere places code that others name: of the files only the headers are read. It is safe for
// concurrent use.
type elsewhere struct {
	files Files
	met   func(o *sample.Object, buildID string)
	now   func() time.Time

	mu     sync.Mutex
	placed *lru.Cache[*sample.Object, placed]
}

// placed is what is known of an object.
type placed struct {
	file    *objfile.File // without sections, and closed; nil if the object is to be named here
	buildID string
	// again is when to look again at an object of which the file could not be read.
	again time.Time
	// told is when the object was told of.
	told time.Time
}

// newElsewhere gives nil without met.
func newElsewhere(files Files, met func(*sample.Object, string), limit int64) *elsewhere {
	if met == nil {
		return nil
	}
	return &elsewhere{files: files, met: met, now: time.Now, placed: lru.New[*sample.Object, placed](limit, math.MaxInt, nil)}
}

// place gives address and segment of code that is named elsewhere; it is false for code that
// is to be named here.
func (e *elsewhere) place(loc sample.Location) (s sample.Symbolized, ok bool) {
	if e == nil || loc.Object.Kind != sample.File {
		return s, false
	}
	p := e.get(loc.Object)
	if p.file == nil {
		return s, false
	}
	s.Address, s.Segment, ok = segmentOf(p.file, p.buildID, loc)
	return s, ok
}

func (e *elsewhere) get(o *sample.Object) placed {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, known := e.placed.Get(o)
	fresh := known && e.now().Sub(p.told) < tellAgain
	if fresh || known && p.file == nil && e.now().Before(p.again) {
		return p
	}
	if !known || p.file == nil {
		p = e.read(o)
	}
	cost := int64(placedOverhead)
	if p.file != nil {
		cost += segmentBytes * int64(len(p.file.Segments))
		p.told = e.now()
		e.met(o, p.buildID)
	}
	e.placed.Put(o, p, cost)
	return p
}

// read reads the headers of an object. That they cannot be read is counted when it is named here.
func (e *elsewhere) read(o *sample.Object) placed {
	later := placed{again: e.now().Add(retryInterval)}
	f, err := e.files.Open(o)
	if err != nil {
		return later
	}
	defer f.Close()
	elf, _, err := identify(f)
	if err != nil {
		return later
	}
	id := debugfile.ID(elf)
	if id == "" {
		return later
	}
	elf.Sections = nil
	return placed{file: elf, buildID: id}
}
