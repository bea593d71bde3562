// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/internal/procfs"
)

// onlinePath lists the CPUs that run now, see sysfs-devices-system-cpu in the
// kernel's Documentation/ABI.
const onlinePath = "/sys/devices/system/cpu/online"

// cpu holds the two events of one online CPU.
type cpu struct {
	tick int
	side *sideband
	// ran is how long the tick event had been running when it was last looked
	// at, in nanoseconds.
	ran uint64
	// since is when its ticks began to come in their cadence, CLOCK_MONOTONIC.
	since uint64
}

// stalled tells whether the events have ended: the kernel takes them off a CPU
// that goes offline and does not revive them when it comes back. It must not be
// asked twice within a moment.
func (c *cpu) stalled() bool {
	ran, err := runningTime(c.tick)
	if err != nil || ran == c.ran {
		return true
	}
	c.ran = ran
	return false
}

func (c *cpu) close() {
	unix.Close(c.tick)
	c.side.close()
}

// cpus keeps the events of all online CPUs. Not safe for concurrent use.
type cpus struct {
	open    func(number int) (*cpu, error)
	setPace func(number int, p bpf.Pace) error
	online  func() ([]int, error)
	byNo    map[int]*cpu
	enabled bool
	// cadence is that of the ticks on all CPUs.
	cadence cadence
}

func onlineCPUs() ([]int, error) { return procfs.ReadCPUList(onlinePath) }

// update opens events on CPUs that came online and closes those of CPUs that
// went, even if they came back since. drain is called before a CPU's events are
// closed.
func (c *cpus) update(drain func(*sideband)) error {
	online, err := c.online()
	if err != nil {
		return err
	}
	for number, open := range c.byNo {
		if !slices.Contains(online, number) || (c.enabled && open.stalled()) {
			drain(open.side)
			open.close()
			delete(c.byNo, number)
		}
	}
	for _, number := range online {
		if _, ok := c.byNo[number]; ok {
			continue
		}
		opened, err := c.open(number)
		if errors.Is(err, unix.ENODEV) {
			continue // went offline again meanwhile
		}
		if err != nil {
			return err
		}
		c.byNo[number] = opened
		if err := c.setPace(number, c.cadence.first()); err != nil {
			return err
		}
		if c.enabled {
			if err := errors.Join(enable(opened.side.fd), enable(opened.tick)); err != nil {
				return fmt.Errorf("enable events on cpu %d: %w", number, err)
			}
			opened.since = monotonic()
		}
	}
	return nil
}

// enableSide starts the side-band on all CPUs, enableTicks the sampling.
func (c *cpus) enableSide() error {
	for number, open := range c.byNo {
		if err := enable(open.side.fd); err != nil {
			return fmt.Errorf("enable side-band event on cpu %d: %w", number, err)
		}
	}
	return nil
}

func (c *cpus) enableTicks() error {
	for number, open := range c.byNo {
		if err := enable(open.tick); err != nil {
			return fmt.Errorf("enable sampler on cpu %d: %w", number, err)
		}
		open.since = monotonic()
	}
	c.enabled = true
	return nil
}

// stop ends sampling; the side-band can still be drained.
func (c *cpus) stop() {
	for _, open := range c.byNo {
		// An event that cannot be stopped ends when its descriptor closes.
		_ = unix.IoctlSetInt(open.tick, unix.PERF_EVENT_IOC_DISABLE, 0)
	}
}

func (c *cpus) close() {
	for number, open := range c.byNo {
		open.close()
		delete(c.byNo, number)
	}
}
