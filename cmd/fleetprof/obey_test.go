// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// TestPolicyIsObeyed has three busy programs: one that is off, one of which a sample in ten
// is kept, and one that is boosted. What the profiles say of them is compared with what
// the kernel says they used: it must be right within five standard deviations, of which
// the boosted one has few and the thinned one many.
func TestPolicyIsObeyed(t *testing.T) {
	needRoot(t)
	const base, boost, seconds = 49, 499, 8
	server := start(t, "server", "--data="+t.TempDir()+"/data")
	agent := newWatcher(t, "--frequency="+strconv.Itoa(base), "--policy-from="+server.url)
	program := compile(t, "busy", "testdata/bench/deep.c", withoutFramePointers)
	off, thin, dense := background(t, program, "30"), background(t, program, "30"), background(t, program, "30")
	of := func(pid int) string { return `{process_pid="` + strconv.Itoa(pid) + `"}` }
	control(t, server.url, "rules: [{selector: '"+of(off.pid)+"', off: true}, {selector: '"+of(thin.pid)+"', rate: 1/10}]", "set", "-")
	control(t, server.url, "", "boost", of(dense.pid), "--frequency="+strconv.Itoa(boost), "--for=5m")
	awaitTrue(t, "all decisions", func() bool { return metrics(t, agent.address)["fleetprof_selection_processes"] == 3 })

	trial := handlerTrial{begin: agent.nextWindow(t)}
	before := map[int]float64{}
	for _, p := range []int{off.pid, thin.pid, dense.pid} {
		before[p] = cpuOf(t, p).total()
	}
	trial.end = trial.begin.Add(seconds * windowLength)
	time.Sleep(time.Until(trial.end))
	used := make(map[string]float64)
	for p, b := range before {
		used[strconv.Itoa(p)] = cpuOf(t, p).total() - b
	}
	multiple := int64(math.Round(float64(boost) / base))
	// What a sample stands for: ticks, or several times as many where a window has a stack several times.
	weight := map[string]int64{strconv.Itoa(dense.pid): 1, strconv.Itoa(thin.pid): 10 * multiple}
	sampled := make(map[string]float64)
	windows := agent.windows(t, trial.end)
	within(windows, trial, func(s *profile.Sample) {
		pid := s.Label["process_pid"]
		if len(pid) == 1 && used[pid[0]] > 0 {
			sampled[pid[0]] += seconds64(s)
			if w := weight[pid[0]]; w > 0 && s.Value[0]%w != 0 {
				t.Errorf("process %s: a sample of %d ticks, want a multiple of %d", pid[0], s.Value[0], w)
			}
		}
	})
	if s, ok := sampled[strconv.Itoa(off.pid)]; ok {
		t.Errorf("%.2f s of the program that is off", s)
	}
	period := windows[len(windows)-1].Period
	if hertz := 1e9 / float64(period); math.Abs(hertz-float64(base*multiple)) > 1 {
		t.Errorf("the windows say %.1f Hz, want %d", hertz, base*multiple)
	}
	for _, c := range []struct {
		name string
		pid  int
	}{{"boosted", dense.pid}, {"one in ten", thin.pid}} {
		pid := strconv.Itoa(c.pid)
		// Of n ticks one in w becomes a sample: see docs/selection.md.
		w := float64(weight[pid])
		most := 5*float64(period)/1e9*math.Sqrt(used[pid]*1e9/float64(period)*w) + 0.1*used[pid]
		t.Logf("%s: %.2f s sampled, %.2f s used (± %.2f s)", c.name, sampled[pid], used[pid], most)
		if math.Abs(sampled[pid]-used[pid]) > most {
			t.Errorf("%s: not so", c.name)
		}
	}
	rules := metrics(t, agent.address)
	if rules["fleetprof_policy_version"] != 2 {
		t.Errorf("version %v", rules["fleetprof_policy_version"])
	}
	off.end()
	thin.end()
	dense.end()
}
