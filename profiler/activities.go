// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/sample"
)

// activities reads what threads do on sockets. Not safe for concurrent use.
type activities struct {
	requests  *bpf.Requests
	libraries *libraries
	ring      *bpf.Ring
	record    ringbuf.Record
	// lookBytes is as much as one look into the ring takes, behind that the last one has left some.
	lookBytes int
	behind    bool
	// pending is what was read, of which the first done are handed on. Its data lies in
	// memory; spare is what memory was before the last look, to be used again.
	pending       []activity
	done          int
	memory, spare []byte
	// lost counts activities that are known to be missing; gaps says where, in the order
	// of time. latest is the time of the last one read.
	lost, latest uint64
	gaps         []gap
	// turning says that the turns of event loops are sent.
	turning bool
	// closing is since when the closes of all sockets are sent, on the clock of
	// activities; 0 before anybody asked for it, never if that failed.
	closing uint64
}

// never is later than any time.
const never = ^uint64(0)

// activity is one with the address space it happened in.
type activity struct {
	sample.Activity
	space addressSpace
	// local says that the close of the socket is only sent if asked for.
	local bool
}

// movedTLS is what only this room knows of: a thread moved its first record of TLS.
const movedTLS = sample.ActivityKind(bpf.ActivityTLS)

// needsClose tells whether a thread would be taken to work for a request from then on,
// if the close of its socket were not seen. An answer read by a client opens none.
func (a *activity) needsClose() bool {
	return a.local && a.Kind == sample.Read && a.Executor.Kind == sample.Thread && !bytes.HasPrefix(a.Data, []byte("HTTP/"))
}

// gap is a loss of activities some time after a time, and before anything else is known.
type gap struct{ time, lost uint64 }

// What is kept of memory for the next look in any case, in bytes, and of pending.
const (
	memoryKept  = 1 << 20
	pendingKept = memoryKept / 128
)

// isSpacious tells whether room for so many is not worth keeping after a look that needed some of it.
// A burst, of which each look needs much, must not allocate anew each time: what the garbage collector
// has not met yet adds up.
func isSpacious(room, kept, needed int) bool { return room > kept && needed < room/4 }

func newActivities(s *bpf.Sampler, o bpf.RequestOptions) (_ *activities, err error) {
	a := &activities{lookBytes: o.RingBytes / activityLooks}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	if a.requests, err = bpf.LoadRequests(s, o); err != nil {
		return nil, err
	}
	if a.ring, err = a.requests.OpenRing(); err != nil {
		return nil, err
	}
	return a, nil
}

// activityLooks is in how many looks a ring that is full is read: what was read takes some five times
// the memory until it is handed on.
const activityLooks = 4

// poll reads what is in the ring, or a part of it. Nothing that happened until a time is missing then. It also
// returns how many records did not keep the treaty.
func (a *activities) poll() (until uint64, bad int, err error) {
	a.compact()
	left := a.lookBytes
	emptied, err := readRing(a.ring, &a.record, &left, func(raw []byte) {
		if a.decode(raw) != nil {
			bad++
		}
	})
	a.behind = !emptied
	if err != nil {
		return 0, bad, fmt.Errorf("read ring of activities: %w", err)
	}
	if emptied {
		err = a.countLost()
	}
	return horizonOf(emptied, a.latest), bad, err
}

func (a *activities) isBehind() bool { return a != nil && a.behind }

// compact frees the memory of what was handed on. Something always is not yet on a busy
// host.
func (a *activities) compact() {
	looked, read := len(a.pending), len(a.memory)
	a.pending = append(a.pending[:0], a.pending[a.done:]...)
	a.done = 0
	memory := a.spare[:0]
	if a.behind { // at once, for a whole look: what grows step by step leaves its steps behind
		a.pending = slices.Grow(a.pending, a.lookBytes/(bpf.ActivityBytes+unix.BPF_RINGBUF_HDR_SZ))
		memory = slices.Grow(memory, a.lookBytes+a.left())
	}
	for i := range a.pending {
		at := len(memory)
		memory = append(memory, a.pending[i].Data...)
		a.pending[i].Data = memory[at:len(memory):len(memory)]
	}
	a.memory, a.spare = memory, a.memory
	if isSpacious(cap(a.spare), memoryKept, read) {
		a.spare = nil
	}
	if isSpacious(cap(a.pending), pendingKept, looked) {
		a.pending = slices.Clone(a.pending)
	}
}

// left is how many bytes of data what is pending has.
func (a *activities) left() (bytes int) {
	for i := range a.pending {
		bytes += len(a.pending[i].Data)
	}
	return bytes
}

// decode takes one record of the ring.
func (a *activities) decode(record []byte) error {
	h, data, err := head[bpf.Activity](record, bpf.ActivityBytes)
	if err != nil {
		return err
	}
	if h.Kind != bpf.RecordActivity {
		return malformed{"kind", int(h.Kind), int(bpf.RecordActivity)}
	}
	if len(data) < int(h.Captured) {
		return malformed{"length of data", len(data), int(h.Captured)}
	}
	a.missing(h.Lost)
	a.latest = max(a.latest, h.TimeNs)
	at := len(a.memory)
	a.memory = append(a.memory, data[:h.Captured]...)
	local := h.Flags&bpf.ActivityLocal != 0
	a.pending = append(a.pending, activity{space: addressSpace{h.Mm, h.ExecId}, local: local, Activity: sample.Activity{
		Time:        h.TimeNs,
		PID:         h.Tgid,
		TID:         h.Tid,
		Executor:    sample.Executor{Kind: sample.ExecutorKind(h.Executor), Goroutine: h.Goroutine},
		Kind:        sample.ActivityKind(h.What),
		Socket:      h.Socket,
		Nonblocking: h.Flags&bpf.ActivityNonblocking != 0,
		Bytes:       int64(h.Bytes),
		Passed:      int(h.Passed),
		Data:        a.memory[at:len(a.memory):len(a.memory)],
	}})
	return nil
}

// sort brings what is pending into the order of time; it nearly is.
func (a *activities) sort() {
	byTime := func(x, y activity) int { return cmp.Compare(x.Time, y.Time) }
	if !slices.IsSortedFunc(a.pending, byTime) {
		slices.SortStableFunc(a.pending, byTime)
	}
}

// missing takes how many activities were lost up to one that is read now. It is less than
// what another CPU has told if they came at the same time.
func (a *activities) missing(lost uint64) {
	if lost > a.lost {
		a.gaps = append(a.gaps, gap{a.latest, lost - a.lost})
		a.lost = lost
	}
}

// countLost looks for losses that nothing in the ring, which is empty, has told of. Those
// activities that came meanwhile may be from before them.
func (a *activities) countLost() error {
	lost, err := a.requests.Lost()
	if err == nil && lost > a.lost {
		a.missing(lost)
		a.latest = max(a.latest, monotonic())
		a.gaps = append(a.gaps, gap{a.latest, 0})
	}
	return err
}

// until hands on what happened up to a time. admit is called for each activity before,
// and says whether it is to be handed on.
func (a *activities) until(now uint64, sink RequestSink, admit func(*activity) bool) {
	for ; a.done < len(a.pending) && a.pending[a.done].Time <= now; a.done++ {
		next := &a.pending[a.done]
		a.skip(next.Time-1, sink)
		if next.Kind == movedTLS {
			a.libraries.moved(next.PID, next.space)
		} else if admit(next) {
			sink.Activity(&next.Activity)
		}
	}
	a.skip(now, sink)
}

// skip tells of what is missing up to a time. Whatever is sampled in a gap could be of a
// request that nobody has seen, though another one is still open.
func (a *activities) skip(until uint64, sink RequestSink) {
	for len(a.gaps) > 0 && a.gaps[0].time <= until {
		sink.LostActivities(a.gaps[0].lost)
		a.gaps = a.gaps[1:]
	}
}

// WatchSocket makes every read and write of a socket an activity, with more of
// its data, from some time later on, or no longer. It may be called by the
// RequestSink.
func (p *Profiler) WatchSocket(socket uint64, everything bool) {
	watch := p.activities.requests.Unwatch
	if everything {
		watch = p.activities.requests.Watch
	}
	if err := watch(socket); err != nil {
		p.log.Debug("socket not watched", "error", err)
	}
}

// Process is what is known of a process now. It may be called by the RequestSink.
func (p *Profiler) Process(pid uint32) sample.Process {
	known := sample.Process{PID: pid}
	if proc := p.processes.byPID[pid]; proc != nil {
		known.Executable, known.Path, known.Execution = proc.executable, proc.path, proc.execution
	}
	return known
}

// FollowTurns makes the turns of event loops activities, which costs every system
// call of the host some nanoseconds. It may be called by the RequestSink.
func (p *Profiler) FollowTurns() {
	if p.activities.turning {
		return
	}
	p.activities.turning = true
	if err := p.activities.requests.AttachTurns(); err != nil {
		p.log.Warn("turns of event loops are not seen: their requests are told less well", "error", err)
	}
}

// followsCloses tells whether the close of a Unix socket that was read from at a time
// will be seen. The first such read makes closes be sent from then on.
func (p *Profiler) followsCloses(time uint64) bool {
	a := p.activities
	if a.closing == 0 {
		if err := a.requests.AttachCloses(); err != nil {
			a.closing = never
			p.log.Warn("closes of Unix sockets are not seen: requests on them are not followed", "error", err)
		} else {
			a.closing = monotonic()
		}
	}
	return time >= a.closing
}

// close is idempotent.
func (a *activities) close() error {
	var errs []error
	if a.libraries != nil {
		a.libraries.close()
	}
	if a.ring != nil {
		errs = append(errs, a.ring.Close())
	}
	if a.requests != nil {
		errs = append(errs, a.requests.Close())
	}
	return errors.Join(errs...)
}
