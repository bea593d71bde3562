// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/procfs"
)

// programOf gives the run time of the perf event program a process holds. The
// kernel counts what a program calls by tail calls as its own.
func programOf(b *testing.B, pid int) (run program) {
	b.Helper()
	for _, id := range heldBy(b, pid, "prog_id") {
		if p := programWith(b, ebpf.ProgramID(id)); p.runs > run.runs {
			run = p
		}
	}
	return run
}

// heldBy lists the ids, prog_id or map_id, of the BPF objects that a process has
// open, see proc_pid_fdinfo(5).
func heldBy(b *testing.B, pid int, kind string) (ids []uint32) {
	b.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		b.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^` + kind + `:\s*(\d+)$`)
	for _, file := range files {
		text, _ := os.ReadFile(file) // closed meanwhile: then it is of no interest
		match := row.FindSubmatch(text)
		if match == nil {
			continue
		}
		id, err := strconv.ParseUint(string(match[1]), 10, 32)
		if err != nil {
			b.Fatal(err)
		}
		ids = append(ids, uint32(id))
	}
	return ids
}

// programWith is the program's run time; nothing if it is no perf event's.
func programWith(b *testing.B, id ebpf.ProgramID) program {
	b.Helper()
	handle, err := ebpf.NewProgramFromID(id)
	if err != nil {
		b.Fatal(err)
	}
	defer handle.Close()
	stats, err := handle.Stats()
	if err != nil {
		b.Fatal(err)
	}
	if handle.Type() != ebpf.PerfEvent {
		return program{}
	}
	return program{stats.Runtime, stats.RunCount}
}

type program struct {
	time time.Duration
	runs uint64
}

// since is what a program did after an earlier look at it.
func (p program) since(before program) program {
	return program{p.time - before.time, p.runs - before.runs}
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
	agent := background(b, fleetprof, "agent", "--store=dir:"+b.TempDir(), fmt.Sprint("--frequency=", frequency), "--listen="+address)
	bpftrace := background(b, "bpftrace", "-e", fmt.Sprintf("profile:hz:%d { @[kstack, ustack] = count(); }", frequency))
	awaitSampling(b, agent)
	awaitSampling(b, bpftrace)

	oursBefore, theirsBefore, cpuBefore := programOf(b, agent.pid), programOf(b, bpftrace.pid), cpuOf(b, agent.pid).total()
	time.Sleep(lasting) // the measuring itself
	cpuAfter := cpuOf(b, agent.pid).total()
	ours, theirs := programOf(b, agent.pid).since(oursBefore), programOf(b, bpftrace.pid).since(theirsBefore)

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

// awaitSampling returns when the program of a sampler has run.
func awaitSampling(b *testing.B, sampler running) {
	b.Helper()
	for deadline := time.Now().Add(time.Minute); programOf(b, sampler.pid).runs == 0; time.Sleep(100 * time.Millisecond) {
		stat, err := procfs.New("/proc").Stat(uint32(sampler.pid))
		if err != nil || stat.State == 'Z' || time.Now().After(deadline) {
			b.Fatalf("process %d does not sample: state %c, %v", sampler.pid, stat.State, err)
		}
	}
}

// running is a program that a benchmark started.
type running struct {
	pid int
	end func() // idempotent
}

// background starts a program in a process group of its own, which the
// benchmark ends; the program itself also ends if the benchmark is killed.
func background(b testing.TB, name string, args ...string) running {
	b.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // bpftrace would print all its stacks, for minutes
		cmd.Wait()
		if b.Failed() {
			b.Logf("%s: %s", name, out.String())
		}
	})
	b.Cleanup(end)
	return running{cmd.Process.Pid, end}
}

// cpuTime is in seconds.
type cpuTime struct{ user, system float64 }

func (t cpuTime) total() float64 { return t.user + t.system }

func (t cpuTime) since(before cpuTime) cpuTime {
	return cpuTime{t.user - before.user, t.system - before.system}
}

func cpuOf(b testing.TB, pid int) cpuTime {
	b.Helper()
	stat, err := procfs.New("/proc").Stat(uint32(pid))
	if err != nil {
		b.Fatal(err)
	}
	return cpuTime{float64(stat.User) / procfs.TicksPerSecond, float64(stat.System) / procfs.TicksPerSecond}
}

// metric reads one value from the agent's /metrics.
func metric(b *testing.B, address, name string) float64 {
	b.Helper()
	value, ok := metrics(b, address)[name]
	if !ok {
		b.Fatalf("no metric %s", name)
	}
	return value
}

// metrics reads all values from the agent's /metrics, by name and labels as
// they stand there.
func metrics(b testing.TB, address string) map[string]float64 {
	b.Helper()
	answer, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		b.Fatal(err)
	}
	all := make(map[string]float64)
	for _, row := range regexp.MustCompile(`(?m)^([^#\s].*) (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		if all[row[1]], err = strconv.ParseFloat(row[2], 64); err != nil {
			b.Fatal(err)
		}
	}
	return all
}
