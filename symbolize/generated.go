// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/codemap"
	"github.com/fleetprof/fleetprof/symbolize/jitdump"
	"github.com/fleetprof/fleetprof/symbolize/lru"
	"github.com/fleetprof/fleetprof/symbolize/perfmap"
)

const (
	// maxGenerated bounds the processes whose generated code is kept named, each with an open file.
	maxGenerated = 128
	// freshFor is how long after a look at a file it is taken for as it was. All code of a window is
	// named within that, mostly.
	freshFor = time.Second
	// unusedFor is how long a file stays open that nothing was looked for in: it may have been deleted.
	unusedFor = time.Minute
)

// codeTable is the generated code of one process.
type codeTable interface {
	// Update reads what the file has more since the last time, up to its size. After an error
	// that wraps codemap.ErrTooLarge the table is of no use.
	Update(size int64) error
	// Lookup names an address; the function is empty if there is none.
	Lookup(addr uint64) (sample.Frame, error)
	// Bytes is the memory that the table holds.
	Bytes() int64
}

// generatedCode is what is known of the code that one process generates.
type generatedCode struct {
	table codeTable // nil if there is none
	file  *os.File
	// again is when the file is to be looked at again.
	again time.Time
}

// generated names code that processes generate, by the files in which they tell of it. Safe for
// concurrent use.
type generated struct {
	files   Files
	limit   int64
	now     func() time.Time
	metrics *metrics

	mu     sync.Mutex
	codes  *lru.Cache[*sample.Object, *generatedCode]
	closed bool
}

// newGenerated bounds all tables to limit bytes.
func newGenerated(files Files, limit int64, m *metrics) *generated {
	g := &generated{files: files, limit: limit, now: time.Now, metrics: m}
	g.codes = lru.New[*sample.Object](limit, maxGenerated, (*generatedCode).close)
	return g
}

// frame is what the process tells of the code at an address; without function if it does not.
func (g *generated) frame(o *sample.Object, addr uint64) (f sample.Frame) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return f
	}
	code, known := g.codes.Get(o)
	if !known {
		code = new(generatedCode)
		g.codes.Put(o, code, tableOverhead)
	}
	if now := g.now(); !now.Before(code.again) {
		code.again = now.Add(freshFor)
		g.update(o, code)
		g.codes.Price(o, tableOverhead+code.bytes())
		g.codes.DropOldest(func(c *generatedCode) bool { return c.again.Before(now.Add(-unusedFor)) })
	}
	if code.table == nil {
		return f
	}
	f, err := code.table.Lookup(addr)
	if err != nil {
		g.report(o, problem{reasonGenerated, err})
	}
	return f
}

// update looks at the file of an object.
func (g *generated) update(o *sample.Object, code *generatedCode) {
	file, err := g.files.Open(o)
	if err != nil {
		if code.table == nil && !errors.Is(err, os.ErrNotExist) {
			g.fail(o, code, problem{reasonGenerated, err})
		}
		return // what was read before is still right
	}
	info, err := file.Stat()
	if err == nil && code.file != nil {
		var before os.FileInfo
		if before, err = code.file.Stat(); err == nil && os.SameFile(before, info) {
			file.Close()
			file = code.file
		}
	}
	if err != nil {
		file.Close()
		g.fail(o, code, problem{reasonGenerated, err})
		return
	}
	if file != code.file {
		code.close()
		code.file = file
	}
	if code.table == nil {
		code.table = openGenerated(file, g.limit)
	}
	if code.table == nil {
		return
	}
	err = code.table.Update(info.Size())
	switch {
	case errors.Is(err, codemap.ErrTooLarge):
		g.fail(o, code, problem{reasonOversized, err})
	case err != nil:
		g.report(o, problem{reasonGenerated, err})
	}
}

// openGenerated makes the table of a file by its format; nil if it has too little yet to tell.
func openGenerated(file io.ReaderAt, limit int64) codeTable {
	var head [4]byte
	n, _ := file.ReadAt(head[:], 0)
	switch {
	case n < len(head):
		return nil
	case jitdump.Is(head[:]):
		return jitdump.Open(file, limit)
	}
	return perfmap.Open(file, limit)
}

// fail gives a file up for some time.
func (g *generated) fail(o *sample.Object, code *generatedCode, p problem) {
	code.close()
	code.again = g.now().Add(retryInterval)
	g.report(o, p)
}

// report counts what could not be read. Files that are written to are looked at again and again, so the
// log is told in detail only.
func (g *generated) report(o *sample.Object, p problem) {
	g.metrics.failures.WithLabelValues(p.reason).Inc()
	g.metrics.log.Debug("generated code has only a part of its names", "object_path", o.Path, "error", p.err)
}

func (c *generatedCode) bytes() int64 {
	if c.table == nil {
		return 0
	}
	return c.table.Bytes()
}

func (c *generatedCode) close() {
	if c.file != nil {
		c.file.Close()
	}
	c.file, c.table = nil, nil
}

// usage is the memory and the number of the tables.
func (g *generated) usage() (bytes int64, tables int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.codes.Cost(), g.codes.Len()
}

func (g *generated) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.codes.Clear()
}

// generatedCode names code without a file. Its address says nothing elsewhere and is left out.
// Results are not cached: a lookup mostly searches memory, and code moves.
func (s *Symbolizer) generatedCode(loc sample.Location) sample.Symbolized {
	f := s.generated.frame(loc.Object, loc.Offset)
	if f.Function == "" {
		return s.unplaced(anonymous)
	}
	s.metrics.named.Inc()
	return sample.Symbolized{Frames: []sample.Frame{readable(f)}, Segment: sample.Segment{File: anonymous}}
}

// anonymous stands for code without a file.
const anonymous = "[anon]"
