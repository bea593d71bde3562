// SPDX-License-Identifier: Apache-2.0

package dwarfsym

import (
	"context"
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/fleetprof/fleetprof/internal/cputime"
	"github.com/fleetprof/fleetprof/symbolize/lru"
)

// Units keeps what was read of units of all files, within a bound, and rations the time that it
// takes. It is safe for concurrent use.
type Units struct {
	share float64       // of the time that passes
	burst time.Duration // saved up at most
	now   func() time.Time

	mu    sync.Mutex
	kept  *lru.Cache[unitKey, *parsed]
	saved time.Duration // what may be spent; below 0 what must be made up for
	at    time.Time     // when that was known
}

type unitKey struct {
	table *Table
	unit  int32
}

// NewUnits keeps so many bytes. Reading takes a share of the time that passes, as CPU time, with burst saved up
// at first and at most.
func NewUnits(limit int64, share float64, burst time.Duration) *Units {
	return &Units{
		share: share, burst: burst, now: time.Now, saved: burst, at: time.Now(),
		kept: lru.New[unitKey](limit, math.MaxInt, func(p *parsed) { p.kept = false }),
	}
}

// get gives a unit. The lock of its table is held.
func (k *Units) get(t *Table, unit int32) (*parsed, error) {
	if p := k.known(unitKey{t, unit}); p != nil {
		return p, p.err
	}
	if k.balance() <= 0 {
		return nil, ErrLater
	}
	var p *parsed
	took := k.cost(func() { p = t.read(t.own.units[unit]) })
	k.keep(unitKey{t, unit}, p, took)
	return p, p.err
}

// waitPart is the part that counts of the time in which reading waits, for a disk or on a busy host for a CPU.
const waitPart = 8

// cost is the CPU time that read takes, and a part of that in which it waits.
func (k *Units) cost(read func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin, used := k.now(), cputime.Thread()
	read()
	used = cputime.Thread() - used
	return used + max(0, k.now().Sub(begin)-used)/waitPart
}

// borrow gives a unit whatever time there is, until release is called; its bytes count meanwhile. The lock of
// its table is held.
func (k *Units) borrow(t *Table, unit int32) (p *parsed, release func()) {
	key := unitKey{t, unit}
	if p := k.known(key); p != nil {
		return p, func() {}
	}
	p = t.read(t.own.units[unit])
	k.keep(key, p, 0)
	return p, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.kept.Delete(key)
	}
}

// Pause takes d from what is saved, and waits until half of the most that can be saved is there: so lookups,
// which do not wait, come first.
func (k *Units) Pause(ctx context.Context, d time.Duration) error {
	k.spend(d)
	for {
		missing := k.burst/2 - k.balance()
		if missing <= 0 {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(time.Duration(float64(missing)/k.share), time.Millisecond)):
		}
	}
}

func (k *Units) known(key unitKey) *parsed {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, _ := k.kept.Get(key)
	return p
}

// balance is what may be spent now.
func (k *Units) balance() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	k.saved = min(k.burst, k.saved+time.Duration(k.share*float64(now.Sub(k.at))))
	k.at = now
	return k.saved
}

// spend takes from what is saved.
func (k *Units) spend(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.saved -= d
}

// keep puts in a unit, and lets go of others if there is no room.
func (k *Units) keep(key unitKey, p *parsed, took time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.saved -= took
	p.key, p.kept = key, true
	k.kept.Put(key, p, p.bytes)
}

const (
	// nameBytes is what a name takes besides its text.
	nameBytes = 64
	// maxNames bounds the names of one unit that are remembered, in bytes.
	maxNames = 2 << 20
)

// name remembers the names that an entry leads to.
func (k *Units) name(p *parsed, entry uint64, short, linker string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !p.kept {
		return
	}
	if p.names == nil || p.nameBytes > maxNames {
		p.bytes -= p.nameBytes
		p.names, p.nameBytes = make(map[uint64][2]string), 0
	}
	p.names[entry] = [2]string{short, linker}
	more := nameBytes + int64(len(short)+len(linker))
	p.nameBytes += more
	p.bytes += more
	k.kept.Price(p.key, p.bytes)
}

// forget lets go of the units of a table.
func (k *Units) forget(t *Table) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept.DeleteFunc(func(key unitKey) bool { return key.table == t })
}
