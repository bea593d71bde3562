// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/procfs"
)

// programs gives the run times of all perf event programs in the kernel.
func programs(b *testing.B) map[ebpf.ProgramID]program {
	b.Helper()
	all := make(map[ebpf.ProgramID]program)
	for id := ebpf.ProgramID(0); ; {
		var err error
		id, err = ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return all
		}
		if err != nil {
			b.Fatal(err)
		}
		handle, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // ended meanwhile
		}
		info, err := handle.Info()
		stats, statsErr := handle.Stats()
		handle.Close()
		if err != nil || statsErr != nil || info.Type != ebpf.PerfEvent {
			continue
		}
		all[id] = program{info.Name, stats.Runtime, stats.RunCount}
	}
}

type program struct {
	name string
	time time.Duration
	runs uint64
}

// since is what a program did after an earlier look at it.
func (p program) since(before program) program {
	return program{p.name, p.time - before.time, p.runs - before.runs}
}

func (p program) perRun() float64 { return float64(p.time.Nanoseconds()) / float64(p.runs) }

// BenchmarkAgainstBpftrace runs the agent and bpftrace side by side, at the
// same rate, on the same workload (a C program with frame pointers, a Go
// program and bash, more than there are CPUs), and prints what a sample costs
// each of them in the kernel, and what the agent takes besides.
func BenchmarkAgainstBpftrace(b *testing.B) {
	const frequency, lasting = 99, 20 * time.Second
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	for _, burn := range burners(b) {
		if err := burn.cmd.Start(); err != nil {
			b.Fatal(err)
		}
		defer func() {
			burn.cmd.Process.Kill()
			burn.cmd.Wait()
		}()
	}
	address := freeAddress(b)
	others := programs(b)
	agent := background(b, fleetprof, "agent", "--store=dir:"+b.TempDir(), fmt.Sprint("--frequency=", frequency), "--listen="+address)
	background(b, "bpftrace", "-e", fmt.Sprintf("profile:hz:%d { @[kstack, ustack] = count(); }", frequency))
	awaitTwo(b, others)

	before, cpuBefore := programs(b), cpuSeconds(b, agent)
	time.Sleep(lasting) // the measuring itself
	after, cpuAfter := programs(b), cpuSeconds(b, agent)

	var ours, theirs program
	for id, p := range after {
		if _, old := others[id]; old {
			continue
		}
		if p.name == "sample" {
			ours = p.since(before[id])
		} else {
			theirs = p.since(before[id])
		}
	}
	if ours.runs == 0 || theirs.runs == 0 {
		b.Fatalf("samples: %d of fleetprof, %d of bpftrace", ours.runs, theirs.runs)
	}
	b.ReportMetric(0, "ns/op") // the time of the whole means nothing
	b.ReportMetric(ours.perRun(), "BPF-ns/sample")
	b.ReportMetric(theirs.perRun(), "bpftrace-BPF-ns/sample")
	b.ReportMetric(ours.perRun()/theirs.perRun(), "BPF-ratio")
	b.ReportMetric((cpuAfter-cpuBefore)*1e6/float64(ours.runs), "agent-µs/sample")
	b.ReportMetric(100*(cpuAfter-cpuBefore)/lasting.Seconds(), "agent-%CPU")
	b.ReportMetric(metric(b, address, "process_resident_memory_bytes")/(1<<20), "agent-MiB-RSS")
	b.ReportMetric(metric(b, address, "fleetprof_bpf_map_bytes")/(1<<20), "agent-MiB-maps")
}

// awaitTwo returns when two programs have run that were not there before.
func awaitTwo(b *testing.B, others map[ebpf.ProgramID]program) {
	b.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		running := 0
		for id, p := range programs(b) {
			if _, old := others[id]; !old && p.runs > 0 {
				running++
			}
		}
		if running == 2 {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%d samplers run, want fleetprof's and bpftrace's", running)
		}
	}
}

// background starts a program that the benchmark ends.
func background(b *testing.B, name string, args ...string) (pid int) {
	b.Helper()
	cmd := exec.Command(name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill() // bpftrace would print all its stacks, for minutes
		cmd.Wait()
		if b.Failed() {
			b.Logf("%s: %s", name, out.String())
		}
	})
	return cmd.Process.Pid
}

func cpuSeconds(b *testing.B, pid int) float64 {
	b.Helper()
	stat, err := procfs.New("/proc").Stat(uint32(pid))
	if err != nil {
		b.Fatal(err)
	}
	return float64(stat.User+stat.System) / procfs.TicksPerSecond
}

// metric reads one value from the agent's /metrics.
func metric(b *testing.B, address, name string) float64 {
	b.Helper()
	answer, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer answer.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(answer.Body); err != nil {
		b.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(text.String())
	if row == nil {
		b.Fatalf("no metric %s", name)
	}
	value, err := strconv.ParseFloat(row[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return value
}
