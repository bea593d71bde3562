// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"testing"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/fleetprof/fleetprof/bpf"
)

// endlessRing is a ring of ticks that is filled as fast as it is read.
type endlessRing struct {
	t    *testing.T
	tick bpf.Tick
}

func (e *endlessRing) ReadInto(r *ringbuf.Record) error {
	e.tick.TimeNs += 1e6
	r.RawSample = encode(e.t, e.tick, testFrames)
	return nil
}

func (*endlessRing) Wait(time.Time) error { return nil }
func (*endlessRing) Close() error         { return nil }

// A look into a ring that does not become empty takes no more than fits into it, and what is
// handed on until the next look is older than all that may still be in it.
func TestPollOfARingThatIsNeverEmpty(t *testing.T) {
	p, _ := newReplay(t)
	p.opts.RingBytes = 1 << 20
	p.decoder = newDecoder()
	ring := &endlessRing{t, testTick(0)}
	p.ring = ring
	for range 2 {
		p.ticks = nil
		horizon, err := p.pollTicks()
		if err != nil {
			t.Fatal(err)
		}
		if most := p.opts.RingBytes / bpf.TickBytes; len(p.ticks) == 0 || len(p.ticks) > most {
			t.Errorf("%d ticks read, want some, and at most %d", len(p.ticks), most)
		}
		if horizon != ring.tick.TimeNs-settle {
			t.Errorf("horizon %d, want %d", horizon, ring.tick.TimeNs-settle)
		}
	}
}
