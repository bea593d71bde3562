// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/index"
)

// details are what is known of a file besides its symbols: by its index, or else by its debug information. They are safe
// for concurrent use.
type details struct {
	// reopen opens the debug information of a file that has an index; nil if there are no indexes. lost is told why
	// an index is given up. Both are set before the first use.
	reopen func() *dwarfsym.Table
	lost   func(error)

	mu    sync.RWMutex
	index *openedIndex    // nil for none
	debug *dwarfsym.Table // nil for none, or as long as the index makes do without
	tried bool            // to reopen
	// repriced is set when bytes gives another number than before.
	repriced atomic.Bool
}

// errIndex marks an index that does not do.
var errIndex = errors.New("go by index")

// lookup gives the frames of an address, or what debug information tells of it; neither if nothing is known.
func (d *details) lookup(addr uint64) (frames []sample.Frame, told []dwarfsym.Frame, err error) {
	frames, told, err = d.ask(addr)
	if errors.Is(err, errIndex) {
		d.doWithout(err)
		frames, told, err = d.ask(addr)
	}
	if errors.Is(err, errIndex) { // debug information does not do either, which has been told
		err = nil
	}
	return frames, told, err
}

func (d *details) ask(addr uint64) (frames []sample.Frame, told []dwarfsym.Frame, err error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.index != nil {
		frames, err = d.index.Lookup(addr)
		if err == nil {
			return frames, nil, nil
		}
		if d.debug == nil || !errors.Is(err, index.ErrNotIndexed) {
			return nil, nil, fmt.Errorf("%w: %w", errIndex, err)
		}
	}
	if d.debug == nil {
		return nil, nil, nil
	}
	told, err = d.debug.Lookup(addr)
	return nil, told, err
}

// doWithout opens the debug information, and gives up the index if it is damaged.
func (d *details) doWithout(cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.index != nil && !errors.Is(cause, index.ErrNotIndexed) {
		d.index.close()
		d.index = nil
		d.lost(cause)
	}
	if d.debug == nil && !d.tried {
		d.debug, d.tried = d.reopen(), true
	}
	d.repriced.Store(true)
}

// unindexed gives the debug information if there is no index.
func (d *details) unindexed() *dwarfsym.Table {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.index != nil {
		return nil
	}
	return d.debug
}

// goBy has an index take the place of debug information.
func (d *details) goBy(x *openedIndex) {
	d.mu.Lock()
	debug := d.debug
	d.index, d.debug, d.tried = x, nil, false
	d.mu.Unlock()
	debug.Close()
	d.repriced.Store(true)
}

func (d *details) bytes() (n int64) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.index != nil {
		n += d.index.Bytes()
	}
	if d.debug != nil {
		memory, scratch := d.debug.Bytes()
		n += memory + scratch/scratchShare
	}
	return n
}

func (d *details) close() {
	if d.index != nil {
		d.index.close()
	}
	if d.debug != nil {
		d.debug.Close()
	}
}
