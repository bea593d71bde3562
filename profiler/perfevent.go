// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/bpf"
)

// Event is what makes a CPU tick.
type Event string

const (
	// CPUClock ticks by a high-resolution timer: in nanoseconds, the same on
	// every machine. It cannot see code that runs with interrupts off; its
	// tick then falls on the instruction that turns them on again.
	CPUClock Event = "cpu-clock"
	// CPUCycles ticks by the processor's cycle counter through a
	// non-maskable interrupt where the architecture has one. Period cycles
	// count as one period at the processor's nominal frequency, so a CPU that
	// runs slower gives fewer samples per second of CPU time.
	CPUCycles Event = "cycles"
)

// attrBuildID is the build_id bit of perf_event_attr (Linux 5.12,
// include/uapi/linux/perf_event.h): MMAP2 records carry the GNU build ID.
const attrBuildID = unix.CBitFieldMaskBit34

// openTick opens the sampling event of one CPU, not yet enabled. Once it is,
// the program runs for as long as the descriptor is open. Idle does not tick.
func openTick(cpu int, event Event, period uint64, programFD int) (int, error) {
	fd, err := newTick(cpu, event, period)
	if err != nil {
		return -1, err
	}
	// An ioctl, not a BPF link: links on perf events exist since Linux 5.15.
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, programFD); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("attach sampler to cpu %d: %w", cpu, err)
	}
	return fd, nil
}

func newTick(cpu int, event Event, period uint64) (int, error) {
	attr := &unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_SOFTWARE,
		Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Sample: period,
		Bits:   unix.PerfBitDisabled | unix.PerfBitExcludeIdle | unix.PerfBitExcludeHv,

		Read_format: unix.PERF_FORMAT_TOTAL_TIME_RUNNING,
	}
	if event == CPUCycles {
		attr.Type = unix.PERF_TYPE_HARDWARE
		attr.Config = unix.PERF_COUNT_HW_CPU_CYCLES
	}
	fd, err := perfEventOpen(attr, cpu)
	if err != nil {
		return -1, fmt.Errorf("open %s event on cpu %d: %w", event, cpu, err)
	}
	return fd, nil
}

// setPeriod changes the distance between two ticks, and begins a new one:
// perf_event_open(2), PERF_EVENT_IOC_PERIOD.
func setPeriod(fd int, period uint64) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.PERF_EVENT_IOC_PERIOD, uintptr(unsafe.Pointer(&period)))
	if errno != 0 {
		return errno
	}
	return nil
}

// runningTime is how long an event from newTick has been running, in
// nanoseconds; on an online CPU it grows, busy or idle.
func runningTime(fd int) (uint64, error) {
	var read [2]uint64 // count, time running: perf_event_open(2), "Reading results"
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&read)), unsafe.Sizeof(read))
	if _, err := unix.Read(fd, raw); err != nil {
		return 0, err
	}
	return read[1], nil
}

// enable starts an event.
func enable(fd int) error { return unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0) }

// openSideband opens the event of one CPU that counts nothing and tells of
// every fork, exec, exit and executable mapping, see perf_event_open(2).
func openSideband(cpu int) (int, error) {
	attr := &unix.PerfEventAttr{
		Type:        unix.PERF_TYPE_SOFTWARE,
		Config:      unix.PERF_COUNT_SW_DUMMY,
		Sample_type: unix.PERF_SAMPLE_TIME,
		Clockid:     unix.CLOCK_MONOTONIC,
		Bits: unix.PerfBitDisabled | unix.PerfBitMmap | unix.PerfBitMmap2 | unix.PerfBitComm |
			unix.PerfBitCommExec | unix.PerfBitTask | unix.PerfBitSampleIDAll |
			unix.PerfBitUseClockID | attrBuildID,
	}
	fd, err := perfEventOpen(attr, cpu)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.12
		attr.Bits &^= attrBuildID
		fd, err = perfEventOpen(attr, cpu)
	}
	if err != nil {
		return -1, fmt.Errorf("open side-band event on cpu %d: %w", cpu, err)
	}
	return fd, nil
}

// perfEventOpen opens an event for all processes on one CPU.
func perfEventOpen(attr *unix.PerfEventAttr, cpu int) (int, error) {
	attr.Size = uint32(unsafe.Sizeof(*attr))
	fd, err := unix.PerfEventOpen(attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return -1, &bpf.Unsupported{
			Feature: "watching all processes with perf events",
			Remedy:  "run as root, or with CAP_PERFMON (kernel.perf_event_paranoid is " + paranoid() + ")",
			Err:     err,
		}
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP):
		return -1, &bpf.Unsupported{
			Feature: "this perf event",
			Remedy:  "use --event=cpu-clock; virtual machines seldom have hardware counters",
			Err:     err,
		}
	}
	return fd, err
}

func paranoid() string {
	text, err := os.ReadFile("/proc/sys/kernel/perf_event_paranoid")
	if err != nil {
		return "unreadable"
	}
	return string(trimNewline(text))
}

func trimNewline(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	return b
}
