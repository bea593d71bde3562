// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// EnableRunTime makes the kernel add up how long BPF programs run, until the result is
// closed: bpf(2), BPF_ENABLE_STATS. That costs every run of every program of the host two
// looks at a clock, so it is for short times. It needs CAP_SYS_ADMIN.
func EnableRunTime() (io.Closer, error) {
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if errors.Is(err, unix.EPERM) {
		return nil, &Unsupported{"measuring the run time of BPF programs", "run as root, or with CAP_SYS_ADMIN", err}
	}
	if err != nil {
		return nil, fmt.Errorf("measure run time of BPF programs: %w", err)
	}
	return stats, nil
}

// RunTime is how long the program ran while that was added up. It includes what it calls
// by tail calls.
func (s *Sampler) RunTime() (time.Duration, error) { return runTime(s.objects.Sample) }

// RunTime is how long the programs ran while that was added up.
func (r *Requests) RunTime() (time.Duration, error) { return runTime(r.programs()...) }

func runTime(programs ...*ebpf.Program) (sum time.Duration, err error) {
	for _, program := range programs {
		if program == nil {
			continue // not for this kernel
		}
		stats, err := program.Stats()
		if err != nil {
			return 0, fmt.Errorf("read run time of %v: %w", program, err)
		}
		sum += stats.Runtime
	}
	return sum, nil
}
