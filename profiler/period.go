// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/bpf"
)

// MaxFrequency is the most ticks per second and CPU. Beyond it the sampler
// would cost more than it shows.
const MaxFrequency = 5000

// PeriodNanoseconds is the CPU time one sample stands for.
func PeriodNanoseconds(frequency int) uint64 { return uint64(1e9) / uint64(frequency) }

// Period is the distance between two ticks in the unit of the event.
func Period(event Event, frequency int) (uint64, error) {
	if frequency < 1 || frequency > MaxFrequency {
		return 0, fmt.Errorf("sampling frequency %d is not between 1 and %d per second", frequency, MaxFrequency)
	}
	switch event {
	case CPUClock:
		return PeriodNanoseconds(frequency), nil
	case CPUCycles:
		hertz, err := nominalHertz()
		return hertz / uint64(frequency), err
	}
	return 0, fmt.Errorf("unknown sampling event %q: use %s or %s", event, CPUClock, CPUCycles)
}

// nominalPath is the highest frequency of the first CPU in kHz, see
// Documentation/admin-guide/pm/cpufreq.rst.
const nominalPath = "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"

func nominalHertz() (uint64, error) {
	text, err := os.ReadFile(nominalPath)
	if err == nil {
		var kHz uint64
		if kHz, err = strconv.ParseUint(string(trimNewline(text)), 10, 64); err == nil {
			return kHz * 1000, nil
		}
	}
	return 0, &bpf.Unsupported{
		Feature: "sampling by hardware cycles",
		Remedy:  "use --event=cpu-clock; without the CPU's nominal frequency cycles cannot be told as time",
		Err:     err,
	}
}

// ProbeEvent tells whether this host can sample by an event.
func ProbeEvent(event Event) error {
	period, err := Period(event, 99)
	if err != nil {
		return err
	}
	fd, err := newTick(0, event, period)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
