// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// budgeted is an agent with a CPU budget.
type budgeted struct {
	t         *testing.T
	cmd       *exec.Cmd
	address   string
	directory string
}

func startBudgeted(t *testing.T, args ...string) *budgeted {
	t.Helper()
	a := &budgeted{t: t, address: freeAddress(t), directory: t.TempDir()}
	a.cmd = exec.Command(fleetprof, append([]string{"agent", "--store=dir:" + a.directory, "--listen=" + a.address}, args...)...)
	a.cmd.Stderr = t.Output()
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.cmd.Process.Kill(); a.cmd.Wait() })
	awaitAddress(t, a.address)
	return a
}

// cost is the agent's own CPU time so far, in seconds.
func (a *budgeted) cost() float64 { return cpuOf(a.t, a.cmd.Process.Pid).total() }

// profiles ends the agent and reads what it made.
func (a *budgeted) profiles() (all []*profile.Profile) {
	a.t.Helper()
	a.cmd.Process.Signal(syscall.SIGINT)
	if err := a.cmd.Wait(); err != nil {
		a.t.Error(err)
	}
	return a.written()
}

// written reads what the agent has made so far.
func (a *budgeted) written() (all []*profile.Profile) {
	a.t.Helper()
	paths, err := filepath.Glob(a.directory + "/*.pb.gz") // in the order of time
	if err != nil {
		a.t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			a.t.Fatal(err)
		}
		p, err := profile.ParseData(text)
		if err != nil {
			a.t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// A host on which 100 processes a second start, sampled 1,999 times a second: several
// times the budget on a fast machine too, of which following the processes without any sample takes a third to
// a half on a slow machine. The governor lowers the rate until the agent keeps to its budget,
// the profiles say so, and the CPU time in them stays right: no more than five standard
// deviations off, where each sample may be there or not.
func TestGovernorHoldsTheBudget(t *testing.T) {
	needRoot(t)
	const hertz, budget = 1999, 0.02
	spawn := compile(t, "spawn", "testdata/bench/spawn.c")
	brief := compile(t, "brief", "testdata/bench/deep.c", withoutFramePointers)
	steady := compile(t, "steady", "testdata/bench/deep.c", withoutFramePointers)
	a := startBudgeted(t, "--frequency="+strconv.Itoa(hertz), fmt.Sprint("--cpu-budget=", 100*budget))
	storm := background(t, spawn, "0", "10000", brief, "30", "2")
	load := background(t, steady, "30")

	begin, first := time.Now(), 0.0
	within := 0
	for within < 2 { // rounds
		if time.Since(begin) > 2*time.Minute {
			t.Fatalf("still over the budget at %v Hz", metrics(t, a.address)["fleetprof_governor_frequency_hertz"])
		}
		before := a.cost()
		time.Sleep(5 * time.Second) // the measuring itself
		share := (a.cost() - before) / 5 / float64(len(cpus(t)))
		m := metrics(t, a.address)
		share += m[`fleetprof_governor_cost_ratio{part="bpf"}`]
		t.Logf("%2.0f s: %.2f %% of the host's CPU time, %v Hz", time.Since(begin).Seconds(), 100*share, m["fleetprof_governor_frequency_hertz"])
		first = max(first, share)
		if share < budget && m[`fleetprof_governor_changes_total{direction="down"}`] > 0 {
			within++
		} else {
			within = 0
		}
	}
	if first < 2*budget {
		t.Errorf("the load costs %.2f %% only", 100*first)
	}
	used := cpuOf(t, load.pid).total()
	load.end()
	storm.end()

	// The last window may be so short that there is no sample in it, and so no period.
	all := slices.DeleteFunc(a.profiles(), func(p *profile.Profile) bool { return len(p.Sample) == 0 })
	if len(all) < 2 || all[0].Period != int64(time.Second)/hertz || all[len(all)-1].Period <= all[0].Period {
		t.Errorf("%d windows, the first with period %d, the last with %d", len(all), all[0].Period, all[len(all)-1].Period)
	}
	compareCPU(t, all, load.pid, used)
}

// compareCPU compares the CPU time of a process in profiles with what it used.
func compareCPU(t *testing.T, all []*profile.Profile, pid int, used float64) {
	t.Helper()
	var sampled, variance float64
	for _, p := range all {
		for _, s := range p.Sample {
			if slices.Equal(s.Label["process_pid"], []string{strconv.Itoa(pid)}) {
				sampled += seconds64(s)
				variance += seconds64(s) * float64(p.Period) / 1e9
			}
		}
	}
	most := 5*math.Sqrt(variance) + 0.1 // the clock of /proc, and the first moments
	if math.Abs(sampled-used) > most {
		t.Errorf("%.2f s of CPU time in the profiles, %.2f s used, want ± %.2f s", sampled, used, most)
	}
	t.Logf("%.2f s of CPU time in the profiles, %.2f s used (± %.2f s)", sampled, used, most)
}
