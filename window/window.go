// SPDX-License-Identifier: Apache-2.0

// Package window collects the samples of one interval and encodes them as one
// pprof profile. Samples with the same stack and the same labels are one line
// with a count. Names are asked for once a window and location, when it is
// encoded. It does no I/O.
//
// What is sampled may be made to fill a window: return addresses are whatever a
// program leaves on its stack, threads have any name, processes come and go. So
// all that a window keeps is bounded. A sample that does not fit is counted
// with less of its stack or fewer labels, never dropped.
package window

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// The bounds of a window. They hold one to 25 MiB with the longest labels that
// the kernel lets programs have, and what encoding needs besides to as much,
// with names of any length. 128 busy CPUs sampled 19 times a second for ten
// seconds make 25,000 samples, which mostly share their locations.
const (
	// maxLocations bounds the distinct locations. Each may have a name and an
	// object of its own, so they cost the most when encoded.
	maxLocations = 50_000
	// maxFrames bounds the frames of all lines together, 4 bytes each.
	maxFrames = 1_000_000
	// maxLines bounds the lines, and with them the distinct sets of labels.
	maxLines = 30_000
	// spareLines is how many more lines there may be that have no label but the
	// executable, and then again that have none.
	spareLines = 5_000
	// maxMoreBytes bounds Labels.More of all distinct sets of labels together.
	maxMoreBytes = 4 << 20
)

// Collector groups samples into windows. Safe for concurrent use.
type Collector struct {
	mu  sync.Mutex
	cur *Window
}

// Window is the samples of one interval. Once cut from its Collector nothing is added
// to it any more.
type Window struct {
	start, end time.Time
	// lines has the values of each stack with each set of labels. The key
	// is the numbers of the stack's locations, innermost first, and then that
	// of the labels: idBytes each, big-endian, so that keys sort as stacks do.
	lines         map[string]*values
	locations     numbered[sample.Location]
	labels        numbered[sample.Labels]
	frames        int // the length of all stacks in lines
	total, folded int64
	// periods counts the ticks by their period in nanoseconds. Rates change seldom, so
	// there are few.
	periods map[uint32]int64
}

// values are what a profile says of a line: samples/count and cpu/nanoseconds.
type values struct{ ticks, nanoseconds int64 }

func valuesOf(w sample.Weight) values {
	return values{int64(w.Ticks), w.CPU().Nanoseconds()}
}

// idBytes is the size of a number in the key of a line.
const idBytes = 4

var (
	// lostObject marks samples of which nothing is known but that they happened.
	lostObject = &sample.Object{Kind: sample.Marker, Path: "[lost samples]"}
	// fullObject stands for the part of a stack that a window had no room for.
	fullObject = &sample.Object{Kind: sample.Marker, Path: "[truncated: window full]"}
)

// NewCollector starts with a window that begins now.
func NewCollector(now time.Time) *Collector {
	return &Collector{cur: newWindow(now)}
}

func newWindow(start time.Time) *Window {
	return &Window{
		start:     start,
		lines:     make(map[string]*values),
		periods:   make(map[uint32]int64),
		locations: make(numbered[sample.Location]),
		labels:    make(numbered[sample.Labels]),
	}
}

// Add adds a sample. The stack is not kept.
func (c *Collector) Add(stack sample.Stack, labels sample.Labels, w sample.Weight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cur.periods[w.Period] += int64(w.Ticks)
	c.cur.add(stack, labels, valuesOf(w))
}

// AddLost adds that many ticks, of so much CPU time in all, that did not reach user
// space; they show as a frame of their own.
func (c *Collector) AddLost(ticks int64, cpu time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cur.total += ticks
	c.cur.mark(lostObject, values{ticks, cpu.Nanoseconds()})
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

// add adds values to the line that tells most of them and has room.
func (w *Window) add(stack sample.Stack, labels sample.Labels, n values) {
	w.total += n.ticks
	var buf [1024]byte
	key, ok := w.whole(buf[:0], stack)
	if ok && w.count(key, labels, n, maxLines) {
		return
	}
	w.folded += n.ticks
	if !ok || !w.hasRoom(len(stack)) {
		key = w.shortened(buf[:0], stack)
	}
	executable := sample.Labels{Executable: labels.Executable}
	switch {
	case w.count(key, labels, n, maxLines):
	case w.count(key, executable, n, maxLines+spareLines):
	case w.count(key, sample.Labels{}, n, maxLines+2*spareLines):
	default:
		w.mark(fullObject, n)
	}
}

// whole is the key of a stack. It is false if the window has no room for it.
func (w *Window) whole(key []byte, stack sample.Stack) ([]byte, bool) {
	for _, loc := range stack {
		id, known := w.locations[loc]
		if !known {
			if len(w.locations) >= maxLocations || !w.hasRoom(len(stack)) {
				return nil, false
			}
			id, _ = w.locations.add(loc)
		}
		key = binary.BigEndian.AppendUint32(key, id)
	}
	return key, true
}

// shortened is the key of what is left of a stack that the window has no room
// for: its innermost frame, if that is known already, and a marker.
func (w *Window) shortened(key []byte, stack sample.Stack) []byte {
	if len(stack) > 0 {
		if id, known := w.locations[stack[0]]; known {
			key = binary.BigEndian.AppendUint32(key, id)
		}
	}
	return w.marker(key, fullObject)
}

// marker appends one of the two markers of this package, which always have room.
func (w *Window) marker(key []byte, marker *sample.Object) []byte {
	id, _ := w.locations.add(sample.Location{Object: marker})
	return binary.BigEndian.AppendUint32(key, id)
}

// mark adds values to nothing but a marker.
func (w *Window) mark(marker *sample.Object, n values) {
	w.count(w.marker(nil, marker), sample.Labels{}, n, math.MaxInt)
}

// hasRoom reports whether a new line may have so many frames. Those of a
// shortened stack take less than the line itself, so maxLines bounds them.
func (w *Window) hasRoom(frames int) bool {
	return frames <= 2 || w.frames+frames <= maxFrames
}

// count adds values to the line of a stack, given by its key, and labels. It is
// false if there is no such line, and no room for it among that many lines.
func (w *Window) count(stack []byte, labels sample.Labels, n values, lines int) bool {
	id, known := w.labels[labels]
	if known {
		key := binary.BigEndian.AppendUint32(stack, id)
		if line := w.lines[string(key)]; line != nil {
			line.ticks += n.ticks
			line.nanoseconds += n.nanoseconds
			return true
		}
	}
	frames := len(stack) / idBytes
	if len(w.lines) >= lines || !w.hasRoom(frames) {
		return false
	}
	w.frames += frames
	if !known {
		id, _ = w.labels.add(labels)
	}
	first := n // n itself would be allocated for every sample
	w.lines[string(binary.BigEndian.AppendUint32(stack, id))] = &first
	return true
}

// Relabel gives the samples of a window that was cut what is known of them by then: f
// makes of the labels that they came with those that they go with, once for each set.
// Samples for which it is false are dropped; it returns how many ticks they stood for.
// Labels that there is no room for give way to the executable alone. It must not be called
// while the window is encoded.
func (w *Window) Relabel(f func(sample.Labels) (labels sample.Labels, keep bool)) (dropped int64) {
	labels := make(numbered[sample.Labels])
	numbers := make(map[uint32]uint32) // from the old number of labels that are kept
	folded := make(map[uint32]bool)    // by the old number
	more := 0
	for old, id := range w.labels {
		replaced, keep := f(old)
		if !keep {
			continue
		}
		if _, known := labels[replaced]; !known {
			if more+replaced.More.Bytes() > maxMoreBytes {
				replaced, folded[id] = sample.Labels{Executable: replaced.Executable}, true
			}
			more += replaced.More.Bytes()
		}
		numbers[id], _ = labels.add(replaced)
	}
	lines := make(map[string]*values, len(w.lines))
	for key, v := range w.lines {
		stack, old := key[:len(key)-idBytes], binary.BigEndian.Uint32([]byte(key[len(key)-idBytes:]))
		id, keep := numbers[old]
		if !keep {
			dropped += v.ticks
			continue
		}
		if folded[old] {
			w.folded += v.ticks
		}
		key = string(binary.BigEndian.AppendUint32([]byte(stack), id))
		if same := lines[key]; same != nil {
			same.ticks += v.ticks
			same.nanoseconds += v.nanoseconds
		} else {
			lines[key] = v
		}
	}
	w.labels, w.lines = labels, lines
	w.total -= dropped
	return dropped
}

// each calls f for every line, those with the same inner frames together: that
// compresses better than any order by time. The stack is the numbers of its
// locations, and is overwritten after f returns.
func (w *Window) each(f func(stack []uint32, labels sample.Labels, v values)) {
	all := w.labels.values()
	var ids []uint32
	for _, key := range slices.Sorted(maps.Keys(w.lines)) {
		ids = ids[:0]
		for i := 0; i < len(key); i += idBytes {
			ids = append(ids, binary.BigEndian.Uint32([]byte(key[i:i+idBytes])))
		}
		last := len(ids) - 1
		f(ids[:last], all[ids[last]], *w.lines[key])
	}
}

// Folded is how many ticks in the window are there with less of their stack or
// fewer labels than they came with, because the window was full.
func (w *Window) Folded() int64 { return w.folded }

// period is the one of most ticks, 0 of an empty window. Where the rate has changed, or
// differs between processes, it is no more than what it says: the values are sums of
// what each sample stands for.
func (w *Window) period() (nanoseconds int64) {
	most := int64(0)
	for period, ticks := range w.periods {
		if ticks > most || ticks == most && int64(period) < nanoseconds {
			nanoseconds, most = int64(period), ticks
		}
	}
	return nanoseconds
}

// numbered gives values the numbers 0, 1, 2, … in the order they come.
type numbered[T comparable] map[T]uint32

// add returns the number of a value, and whether that is a new one.
func (t numbered[T]) add(value T) (id uint32, added bool) {
	id, known := t[value]
	if !known {
		id = uint32(len(t))
		t[value] = id
	}
	return id, !known
}

// values lists the values by number.
func (t numbered[T]) values() []T {
	all := make([]T, len(t))
	for value, id := range t {
		all[id] = value
	}
	return all
}
