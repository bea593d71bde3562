// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"container/list"
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/fleetprof/fleetprof/bpf"
)

const (
	// maxListEvictions bounds how many lists give way at once: each costs a call
	// into the kernel.
	maxListEvictions = 64
	// keepListed is how long a list stays at least, in nanoseconds. Processes that
	// want more memory than there is take turns of this length.
	keepListed = 10e9
)

var (
	errTooManyMappings = errors.New("more mappings than a list can have")
	errListsFull       = errors.New("memory for lists of mappings is in use")
)

// processMap is the kernel side's table of processes. Its errors name the process.
type processMap interface {
	SetProcess(pid uint32, p bpf.Process) error
	DeleteProcess(pid uint32) error
}

// lists keeps the mappings of processes in the memory that the kernel side reads.
// Each list has a range of places of its own, as long as a power of two. When
// memory is short, lists of processes that were not sampled for longest make
// room. Not safe for concurrent use.
type lists struct {
	mappings []bpf.Mapping
	// objects are those of mappings, in the same places; nil: has no segment.
	objects []*shelved
	kernel  processMap
	shelf   *shelf
	now     func() uint64
	stats   *tableStats
	// limit is how many processes the kernel side can know.
	limit int

	free buddies
	old  resting[*listed]
	// oldPlaces is how many places old holds, oldOf how many of each process.
	oldPlaces int
	oldOf     map[uint32]int
	byPID     map[uint32]*list.Element // of listed
	// recent has the process installed or sampled last at its front.
	recent *list.List
}

// listed is a process that has a list: count mappings from place first on, in a
// range of 2^order places.
type listed struct {
	pid                 uint32
	first, count, order int
	since               uint64 // CLOCK_MONOTONIC
}

func newLists(memory *bpf.Memory, kernel processMap, shelf *shelf, now func() uint64, stats *tableStats) *lists {
	l := &lists{
		mappings: memory.Mappings, objects: make([]*shelved, len(memory.Mappings)),
		kernel: kernel, shelf: shelf, now: now, stats: stats, limit: bpf.Processes,
		free:  newBuddies(orderOf(bpf.ListLength), len(memory.Mappings)/bpf.ListLength),
		oldOf: make(map[uint32]int), byPID: make(map[uint32]*list.Element), recent: list.New(),
	}
	shelf.moved = l.renumber
	return l
}

// orderOf is the order of the shortest range of n places.
func orderOf(n int) int { return bits.Len(uint(max(n, 1) - 1)) }

// install hands the mappings of a process to the kernel side, in place of those it
// had. They are those of one address space, see bpf.Process. After an error the
// process has no list, as what it had is not true any more; it may be tried again
// with its next sample.
func (l *lists) install(pid uint32, mm, execID uint64, rs regions) error {
	if err := l.replace(pid, mm, execID, rs); err != nil {
		l.remove(pid)
		return err
	}
	l.stats.listsInstalled.Inc()
	return nil
}

func (l *lists) replace(pid uint32, mm, execID uint64, rs regions) error {
	l.touch(pid)
	first, order, err := l.take(pid, len(rs))
	if err != nil {
		l.stats.listsRefused.Inc()
		return fmt.Errorf("list %d mappings of process %d: %w", len(rs), pid, err)
	}
	l.write(first, rs)
	err = l.kernel.SetProcess(pid, bpf.Process{Mm: mm, ExecId: execID, First: uint32(first), Count: uint32(len(rs))})
	if err != nil {
		l.erase(first, len(rs))
		l.free.put(first, order)
		l.stats.listErrors.Inc()
		return err
	}
	l.forget(pid)
	l.byPID[pid] = l.recent.PushFront(&listed{pid, first, len(rs), order, l.now()})
	return nil
}

// take finds places for n mappings of a process. If there are none, others lose
// theirs, and places will be free after grace.
func (l *lists) take(pid uint32, n int) (first, order int, err error) {
	if n > bpf.ListLength {
		return 0, 0, errTooManyMappings
	}
	order = orderOf(n)
	old, e := l.oldOf[pid], l.byPID[pid]
	if e != nil {
		old += 1 << e.Value.(*listed).order
	}
	if old > bpf.ListLength {
		// A process that maps in a loop must not make memory rest that others need.
		return 0, 0, errListsFull
	}
	if e == nil && len(l.byPID) >= l.limit {
		if err := l.evict(); err != nil {
			return 0, 0, err
		}
	}
	first, ok := l.free.take(order)
	if !ok {
		return 0, 0, l.makeRoom(1 << order)
	}
	return first, order, nil
}

// makeRoom evicts lists until n places rest, or some progress has been made. It
// returns why there is no room now.
func (l *lists) makeRoom(n int) error {
	for range maxListEvictions {
		if l.oldPlaces >= n || l.recent.Len() == 0 {
			break
		}
		if err := l.evict(); err != nil {
			return err
		}
	}
	return errListsFull
}

// evict removes the list of the process that was not sampled for longest.
func (l *lists) evict() error {
	p := l.recent.Back().Value.(*listed)
	if l.now() < p.since+keepListed || !l.remove(p.pid) {
		return errListsFull
	}
	l.stats.listsEvicted.Inc()
	return nil
}

// remove makes the kernel side forget a process, which may be unknown. Where that
// does not work (it is counted) the list stays until it is evicted.
func (l *lists) remove(pid uint32) (gone bool) {
	if l.byPID[pid] == nil {
		return true
	}
	if l.kernel.DeleteProcess(pid) != nil {
		l.stats.listErrors.Inc()
		return false
	}
	l.forget(pid)
	return true
}

// forget lays the list of a process to rest, if it has one.
func (l *lists) forget(pid uint32) {
	e := l.byPID[pid]
	if e == nil {
		return
	}
	p := l.recent.Remove(e).(*listed)
	delete(l.byPID, pid)
	l.erase(p.first, p.count)
	l.old.add(l.now()+grace, p)
	l.oldPlaces += 1 << p.order
	l.oldOf[pid] += 1 << p.order
}

// touch says that a process was sampled, and tells whether it has a list.
func (l *lists) touch(pid uint32) bool {
	e := l.byPID[pid]
	if e != nil {
		l.recent.MoveToFront(e)
	}
	return e != nil
}

// poll frees places that have rested long enough.
func (l *lists) poll() {
	for p := range l.old.due(l.now()) {
		l.free.put(p.first, p.order)
		l.oldPlaces -= 1 << p.order
		if l.oldOf[p.pid] -= 1 << p.order; l.oldOf[p.pid] == 0 {
			delete(l.oldOf, p.pid)
		}
	}
	l.stats.lists.Set(float64(len(l.byPID)))
}

// write fills places that the kernel side does not look at yet.
func (l *lists) write(first int, rs regions) {
	for i, r := range rs {
		e := l.shelf.get(r.object)
		if e != nil {
			e.mappings++
		}
		l.objects[first+i] = e
		l.mappings[first+i] = bpf.Mapping{
			Start: r.start, Limit: r.limit, Offset: r.offset,
			Segment: e.segment(r.offset, r.limit-r.start),
		}
	}
}

// erase lets go of the objects in a list. The mappings stay: a walk may see them.
func (l *lists) erase(first, count int) {
	for i := range count {
		if e := l.objects[first+i]; e != nil {
			e.mappings--
			l.objects[first+i] = nil
		}
	}
}

// renumber gives all mappings of an object the segments that its parts now have.
func (l *lists) renumber(e *shelved) {
	for i, other := range l.objects {
		if other == e {
			m := &l.mappings[i]
			atomic.StoreUint32(&m.Segment, e.segment(m.Offset, m.Limit-m.Start))
		}
	}
}
