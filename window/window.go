// SPDX-License-Identifier: Apache-2.0

// Package window collects the samples of one interval and encodes them as one
// pprof profile. Samples with the same stack and the same labels are one line
// with a count. Names are asked for once a window and location, when it is
// encoded. It does no I/O.
package window

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// Symbolizer names locations. It never returns an empty list of frames.
type Symbolizer interface {
	Symbolize(sample.Location) sample.Symbolized
}

// Collector groups samples into windows. Safe for concurrent use.
type Collector struct {
	mu  sync.Mutex
	cur *Window
}

// Window is the samples of one interval. Once cut from its Collector it does
// not change any more.
type Window struct {
	start, end time.Time
	lines      map[string]*line
	// ids number the objects of this window, so that a stack makes a short key.
	ids   map[*sample.Object]uint64
	total int64
}

// line is all samples with one stack and one set of labels.
type line struct {
	labels sample.Labels
	stack  sample.Stack
	count  int64
}

// lostObject marks samples of which nothing is known but that they happened.
var lostObject = &sample.Object{Kind: sample.Marker, Path: "[lost samples]"}

// NewCollector starts with a window that begins now.
func NewCollector(now time.Time) *Collector {
	return &Collector{cur: newWindow(now)}
}

func newWindow(start time.Time) *Window {
	return &Window{
		start: start,
		lines: make(map[string]*line),
		ids:   make(map[*sample.Object]uint64),
	}
}

// Add counts n samples. The stack is kept; the caller must not change it.
func (c *Collector) Add(stack sample.Stack, labels sample.Labels, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cur.add(stack, labels, n)
}

// AddLost counts n samples that were taken but did not reach user space; they
// show as a frame of their own.
func (c *Collector) AddLost(n int64) {
	c.Add(sample.Stack{{Object: lostObject}}, sample.Labels{}, n)
}

// Cut ends the current window now and begins the next one.
func (c *Collector) Cut(now time.Time) *Window {
	c.mu.Lock()
	defer c.mu.Unlock()
	done := c.cur
	done.end = now
	c.cur = newWindow(now)
	return done
}

func (w *Window) add(stack sample.Stack, labels sample.Labels, n int64) {
	w.total += n
	var buf [1024]byte
	key := w.key(buf[:0], stack, labels)
	if l := w.lines[string(key)]; l != nil {
		l.count += n
		return
	}
	w.lines[string(key)] = &line{labels: labels, stack: stack, count: n}
}

// key spells labels and stack so that different ones never look alike: label
// values are NUL-terminated (no value holds a NUL: they come from C strings),
// then pairs of self-delimiting varints follow.
func (w *Window) key(key []byte, stack sample.Stack, labels sample.Labels) []byte {
	for _, value := range [...]string{labels.Executable, labels.PID, labels.Thread, labels.Container} {
		key = append(append(key, value...), 0)
	}
	for _, loc := range stack {
		id, ok := w.ids[loc.Object]
		if !ok {
			id = uint64(len(w.ids))
			w.ids[loc.Object] = id
		}
		key = binary.AppendUvarint(key, id)
		key = binary.AppendUvarint(key, loc.Offset)
	}
	return key
}

// Samples is the number of samples in the window.
func (w *Window) Samples() int64 { return w.total }
