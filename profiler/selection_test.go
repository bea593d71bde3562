// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"log/slog"
	"maps"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/sample"
)

// kernelWeights is the kernel side's table of weights, which has room for three. What
// is not of a process is there as process 0: the usual weight, and 1,000 if any other is
// looked for.
type kernelWeights map[uint32]uint32

func (k kernelWeights) SetWeight(pid uint32, _ uint64, ticks uint32) error {
	if _, known := k[pid]; !known && len(k) > 3 {
		return errors.New("full")
	}
	k[pid] = ticks
	return nil
}

func (k kernelWeights) DeleteWeight(pid uint32) error {
	delete(k, pid)
	return nil
}

func (k kernelWeights) SetUsualWeight(ticks uint32, weighing bool) error {
	if k[0] = ticks; weighing {
		k[0] += 1000
	}
	return nil
}

// always makes a Weigh of a function whose decisions are final.
func always(weigh func(p sample.Process, cgroup uint64) uint32) func(sample.Process, uint64) (uint32, bool) {
	return func(p sample.Process, cgroup uint64) (uint32, bool) { return weigh(p, cgroup), true }
}

// decisions is a Weigh that counts its calls.
type decisions struct {
	byName map[string]uint32
	calls  int
}

func (d *decisions) weigh(p sample.Process, cgroup uint64) (uint32, bool) {
	d.calls++
	return d.byName[p.Executable] + uint32(cgroup), true
}

func newTestSelection(t *testing.T, r Rates) (*selection, kernelWeights) {
	kernel := make(kernelWeights)
	return newSelection(kernel, r, slog.New(slog.NewTextHandler(t.Output(), nil)), prometheus.NewRegistry()), kernel
}

func TestSelectionDecidesOncePerProgram(t *testing.T) {
	d := decisions{byName: map[string]uint32{"web": 1, "batch": 10, "noise": 0, "slow": 10}}
	s, kernel := newTestSelection(t, Rates{Weigh: d.weigh})
	admit := func(pid uint32, name string, change func(*tick)) bool {
		k := tick{Raw: sample.Raw{PID: pid}, space: addressSpace{execID: 1}}
		if change != nil {
			change(&k)
		}
		return s.admit(&k, &process{executable: name, named: true})
	}
	step := func(what string, calls int, want kernelWeights) {
		t.Helper()
		if d.calls != calls {
			t.Errorf("%s: %d decisions, want %d", what, d.calls, calls)
		}
		if !maps.Equal(kernel, want) {
			t.Errorf("%s: the kernel side has %v, want %v", what, kernel, want)
		}
	}
	step("before any sample", 0, kernelWeights{0: 1})
	for range 2 {
		if !admit(1, "web", nil) {
			t.Error("a process with the usual weight is dropped")
		}
	}
	step("usual weight", 1, kernelWeights{0: 1})
	if !admit(2, "batch", nil) || admit(3, "noise", nil) || admit(3, "noise", nil) {
		t.Error("weight 10 is dropped, or weight 0 is not")
	}
	step("other weights", 3, kernelWeights{0: 1001, 2: 10, 3: 0})
	if admit(2, "noise", func(k *tick) { k.space.execID++ }) {
		t.Error("the weight of the program before holds")
	}
	step("exec", 4, kernelWeights{0: 1001, 2: 0, 3: 0})
	if !admit(2, "noise", func(k *tick) { k.space.execID++; k.CgroupID = 7 }) {
		t.Error("the weight in the cgroup before holds")
	}
	step("another cgroup", 5, kernelWeights{0: 1001, 2: 7, 3: 0})
	if !s.admit(&tick{Raw: sample.Raw{PID: 9}}, nil) || !s.admit(&tick{Raw: sample.Raw{PID: 9}}, &process{}) {
		t.Error("a process of which nothing is known is dropped")
	}
	step("unknown", 5, kernelWeights{0: 1001, 2: 7, 3: 0})
	if s.admit(&tick{Raw: sample.Raw{PID: 4, KernelThread: true}}, nil) {
		t.Error("kernel thread is not decided about")
	}
	admit(5, "slow", nil)
	step("no room", 7, kernelWeights{0: 1001, 2: 7, 3: 0, 4: 0})
	if n := testutil.ToFloat64(s.refused); n != 1 {
		t.Errorf("%v refused, want 1", n)
	}
	s.forget(4)
	step("one ended", 7, kernelWeights{0: 1001, 2: 7, 3: 0})
	d.byName = map[string]uint32{"web": 0, "noise": 1}
	s.change(Rates{Usual: 1, Weigh: d.weigh})
	step("other rules", 11, kernelWeights{0: 1001, 1: 0, 2: 8, 5: 0})
	s.change(Rates{Usual: 26})
	step("no rules", 11, kernelWeights{0: 26})
	if !admit(3, "noise", nil) {
		t.Error("a process is dropped without rules")
	}
}

// What is not final is decided again with each tick, and only what is certain excludes a
// process. In the end it is final.
func TestSelectionSettles(t *testing.T) {
	weight, final, calls := uint32(0), false, 0
	s, kernel := newTestSelection(t, Rates{Weigh: func(sample.Process, uint64) (uint32, bool) {
		calls++
		return weight, final
	}})
	proc := &process{executable: "late", named: true}
	step := func(at uint64, admitted bool, called int, want kernelWeights) {
		t.Helper()
		if got := s.admit(&tick{Raw: sample.Raw{PID: 2, Time: at}}, proc); got != admitted || calls != called || !maps.Equal(kernel, want) {
			t.Errorf("at %d: admitted %v, %d calls, kernel side %v; want %v, %d, %v", at, got, calls, kernel, admitted, called, want)
		}
	}
	step(1, true, 1, kernelWeights{0: 1})
	weight = 10
	step(2, true, 2, kernelWeights{0: 1001, 2: 10})
	weight = 0
	step(3, true, 3, kernelWeights{0: 1001})
	step(settling+2, false, 4, kernelWeights{0: 1001, 2: 0})
	weight = 1
	step(settling+3, false, 4, kernelWeights{0: 1001, 2: 0})
	final = true
	s.change(s.rates)
	step(settling+4, true, 5, kernelWeights{0: 1})
}

// What is known of a process ends with it, and with events lost.
func TestSelectionForgets(t *testing.T) {
	for name, e := range map[string]event{
		"exit": {kind: eventExit, pid: 3}, "exec": {kind: eventExec, pid: 3},
		"number used again": {kind: eventFork, pid: 3, parent: 1}, "events lost": {kind: eventLost, lost: 1},
	} {
		t.Run(name, func(t *testing.T) {
			p, got := newReplay(t)
			kernel := make(kernelWeights)
			p.selection.kernel = kernel
			p.selection.change(Rates{Weigh: always(func(sample.Process, uint64) uint32 { return 0 })})
			p.events = append(p.events, event{kind: eventExec, time: 1, pid: 3}, mapped(2, 3, "/bin/noise"))
			p.ticks = append(p.ticks, tickAt(3, 3))
			p.replay(10)
			if _, told := kernel[3]; len(got.samples) != 0 || !told || len(p.selection.byPID) != 1 {
				t.Fatalf("%d samples, kernel side %v", len(got.samples), kernel)
			}
			e.time = 11
			p.events = append(p.events, e)
			p.replay(20)
			if _, told := kernel[3]; told || len(p.selection.byPID) != 0 {
				t.Errorf("the weight stays: kernel side %v, known %v", kernel, p.selection.byPID)
			}
		})
	}
}
