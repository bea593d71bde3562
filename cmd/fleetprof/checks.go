// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/attribute/container"
	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/profiler"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/kernel"
)

// diagnose makes every check, in the order in which a sample meets what they
// are about.
func diagnose(ctx context.Context) []finding {
	findings := []finding{
		checkKernel(),
		checkPrivileges(),
		checkPIDNamespace(),
		checkBTF(),
		checkSampling(ctx),
		checkRate(),
		checkCycles(),
		checkKernelSymbols(),
		checkFiles(),
		checkContainers(),
	}
	return append(findings, checkRequests()...)
}

func checkKernel() finding {
	const check, oldest = "kernel", "5.10"
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return failure(check, statusFailed, err, "")
	}
	release := unix.ByteSliceToString(name.Release[:])
	detail := fmt.Sprintf("Linux %s on %s", release, unix.ByteSliceToString(name.Machine[:]))
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil || major < 5 || (major == 5 && minor < 10) {
		return finding{check, statusFailed, detail, "run Linux " + oldest + " or later"}
	}
	return finding{Check: check, Status: statusOK, Detail: detail}
}

// needed are the capabilities of capabilities(7) the agent uses, and for what.
var needed = []struct {
	bit  int
	name string
	use  string
	// worst is what the lack of it leads to.
	worst status
}{
	{unix.CAP_BPF, "CAP_BPF", "load the sampler", statusFailed},
	{unix.CAP_PERFMON, "CAP_PERFMON", "watch all processes", statusFailed},
	{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "read the mappings of other users' processes", statusDegraded},
	{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", "open their files and cgroups", statusDegraded},
	{unix.CAP_CHECKPOINT_RESTORE, "CAP_CHECKPOINT_RESTORE", "open files that were deleted or replaced", statusDegraded},
	{unix.CAP_SYSLOG, "CAP_SYSLOG", "name kernel functions", statusDegraded},
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "probe programs and TLS libraries, and measure what its own BPF programs cost", statusDegraded},
}

// instead tells whether CAP_SYS_ADMIN does in the place of a capability: it did before
// there was that one.
func instead(bit int) bool {
	switch bit {
	case unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_CHECKPOINT_RESTORE, unix.CAP_SYSLOG:
		return true
	}
	return false
}

func checkPrivileges() finding {
	const check = "privileges"
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return failure(check, statusFailed, err, "")
	}
	has := func(bit int) bool { return sets[bit/32].Effective&(1<<(bit%32)) != 0 }
	found := finding{Check: check, Status: statusOK, Detail: "all capabilities the agent uses"}
	var missing []string
	for _, n := range needed {
		if has(n.bit) || (instead(n.bit) && has(unix.CAP_SYS_ADMIN)) {
			continue
		}
		missing = append(missing, fmt.Sprintf("%s (to %s)", n.name, n.use))
		if found.Status != statusFailed {
			found.Status = n.worst
		}
	}
	if len(missing) > 0 {
		found.Detail = "missing " + strings.Join(missing, ", ")
		found.Remedy = "run as root or grant them"
	}
	return found
}

// initPIDNamespace is PROC_PID_INIT_INO, include/linux/proc_ns.h.
const initPIDNamespace = "pid:[4026531836]"

func checkPIDNamespace() finding {
	const check = "PID namespace"
	link, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return failure(check, statusDegraded, err, "")
	}
	if link != initPIDNamespace {
		return finding{check, statusDegraded, "not the host's: processes cannot be told by their numbers",
			"start the container with the host's PID namespace (docker --pid=host, Kubernetes hostPID: true)"}
	}
	return finding{Check: check, Status: statusOK, Detail: "the host's"}
}

func checkBTF() finding {
	const check = "kernel types (BTF)"
	if err := bpf.CheckBTF(); err != nil {
		return failure(check, statusFailed, err, "")
	}
	return finding{Check: check, Status: statusOK, Detail: "present"}
}

// tally counts samples.
type tally struct{ samples int }

func (t *tally) Sample(*sample.Sample)      { t.samples++ }
func (t *tally) Lost(uint64, time.Duration) {}

// checkSampling does the real thing for a moment, with itself as the program
// that is certain to run.
func checkSampling(ctx context.Context) finding {
	const check, frequency, lasting = "sampling", 499, 300 * time.Millisecond
	var got tally
	p, err := profiler.New(profiler.Options{
		Rates: profiler.Rates{Frequency: frequency}, Event: profiler.CPUClock, RingBytes: 256 << 10, TableBlocks: 1,
		CgroupSubsystem: bpf.CgroupV2, Proc: procfs.New("/proc"), Sink: &got,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return failure(check, statusFailed, err, "")
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(ctx, lasting)
	defer cancel()
	go func() {
		for ctx.Err() == nil { // something must run to be sampled
		}
	}()
	if err := p.Run(ctx); err != nil {
		return failure(check, statusFailed, err, "")
	}
	if got.samples == 0 {
		return finding{check, statusFailed, fmt.Sprintf("the sampler runs but took no sample in %s", lasting),
			"see kernel.perf_event_max_sample_rate and dmesg"}
	}
	return finding{Check: check, Status: statusOK, Detail: fmt.Sprintf("%d samples in %s at %d Hz", got.samples, lasting, frequency)}
}

// checkRate looks at the limit that the kernel lowers by itself when it finds
// that sampling takes too long.
func checkRate() finding {
	const check, name, enough = "sampling rate", "kernel.perf_event_max_sample_rate", 1000
	text, err := os.ReadFile("/proc/sys/kernel/perf_event_max_sample_rate")
	if err != nil {
		return failure(check, statusDegraded, err, "")
	}
	rate, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return failure(check, statusDegraded, err, "")
	}
	detail := fmt.Sprintf("%s is %d", name, rate)
	if rate < enough {
		return finding{check, statusDegraded, detail, fmt.Sprintf("sysctl %s=%d", name, 100000)}
	}
	return finding{Check: check, Status: statusOK, Detail: detail}
}

func checkCycles() finding {
	const check = "hardware cycles"
	if err := profiler.ProbeEvent(profiler.CPUCycles); err != nil {
		return finding{Check: check, Status: statusOK, Detail: "not counted here: sampling uses the timer (cpu-clock)"}
	}
	return finding{Check: check, Status: statusOK, Detail: "available with --event=cycles"}
}

func checkKernelSymbols() finding {
	const check = "kernel function names"
	_, err := kernel.Open(kernel.Options{
		Kallsyms: "/proc/kallsyms", Notes: "/sys/kernel/notes",
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if errors.Is(err, kernel.ErrRestricted) {
		return finding{check, statusDegraded, "the kernel hides its addresses", err.Error()}
	}
	if err != nil {
		return failure(check, statusDegraded, err, "kernel frames are shown as [kernel]")
	}
	return finding{Check: check, Status: statusOK, Detail: "readable"}
}

// checkFiles opens the programs of all processes.
func checkFiles() finding {
	const check = "files of processes"
	proc := procfs.New("/proc")
	pids, err := proc.PIDs()
	if err != nil {
		return failure(check, statusDegraded, err, "mount /proc")
	}
	var read, refused int
	for _, pid := range pids {
		file, err := os.Open(proc.Path(pid, "exe"))
		if err == nil {
			file.Close()
			read++
		} else if errors.Is(err, os.ErrPermission) {
			refused++
		}
	}
	detail := fmt.Sprintf("programs of %d of %d processes can be opened", read, read+refused)
	if refused > read {
		return finding{check, statusDegraded, detail, "the others' functions have no names; see privileges"}
	}
	return finding{Check: check, Status: statusOK, Detail: detail}
}

func checkContainers() finding {
	const check = "containers"
	hierarchy, err := container.Detect(procfs.New("/proc"))
	if err != nil {
		return failure(check, statusDegraded, err, "samples carry no container_id; mount the host's /sys/fs/cgroup")
	}
	return finding{Check: check, Status: statusOK, Detail: "told apart by " + hierarchy.String()}
}
