// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/sample"
)

// newSelectionTest opens a profiler whose weights are given by process.
func newSelectionTest(t *testing.T, frequency int, weigh func(sample.Process, uint64) (uint32, bool)) (*Profiler, *recorder) {
	t.Helper()
	return openKernelTest(t, frequency, 1<<22, func(o *Options, _ RequestSink) { o.Weigh = weigh })
}

// spins runs the busy program several times side by side, each for so many milliseconds
// of CPU time, and returns what they used. before is called with their numbers before
// they begin to be busy.
func spins(t testing.TB, n int, milliseconds string, before func(pids []int)) (pids []int, used []time.Duration) {
	t.Helper()
	var all []*exec.Cmd
	var begin []*os.File
	for range n {
		cmd := exec.Command("sh", "-c", "read x; exec "+spin(t)+" "+milliseconds)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = r
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r.Close()
		all, begin, pids = append(all, cmd), append(begin, w), append(pids, cmd.Process.Pid)
	}
	before(pids)
	for _, w := range begin {
		w.Close()
	}
	for _, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		used = append(used, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
	return pids, used
}

// conserved checks that every tick has become a sample, or was not to be one, or is
// counted as lost, and returns the counters.
func conserved(t *testing.T, p *Profiler, got *recorder) bpf.Counters {
	t.Helper()
	c, err := p.sampler.Counters()
	if err != nil {
		t.Fatal(err)
	}
	late := uint64(testutil.ToFloat64(p.selection.excluded))
	lost := c.LostRingFull + c.LostScratch + c.LostCall
	if sum := uint64(len(got.samples)) + late + lost + c.Excluded + c.PassedOver; sum != c.Ticks {
		t.Errorf("%d samples + %d excluded here + %d lost + %d excluded + %d passed over = %d, want %d ticks",
			len(got.samples), late, lost, c.Excluded, c.PassedOver, sum, c.Ticks)
	}
	return c
}

// Of a process with weight 0 no sample comes, of others all do, and of its ticks none is
// worked on but those before it was known.
func TestExcludedProcess(t *testing.T) {
	const frequency = 499
	p, got := newSelectionTest(t, frequency, nil)
	var pids []int
	var used []time.Duration
	during(t, p, func() {
		pids, used = spins(t, 2, "1500", func(pids []int) {
			err := p.SetRates(Rates{Frequency: frequency, Weigh: always(func(process sample.Process, _ uint64) uint32 {
				if process.PID == uint32(pids[0]) {
					return 0
				}
				return 1
			})})
			if err != nil {
				t.Fatal(err)
			}
		})
	})
	c := conserved(t, p, got)
	for _, s := range got.ofPID(pids[0]) {
		if s.Process.Executable == "spin" { // not sh, in its last execve(2)
			t.Errorf("a sample of the excluded process: %+v", s)
		}
	}
	want := used[1].Seconds() * frequency
	if n := float64(len(got.ofPID(pids[1]))); math.Abs(n-want) > want/4 {
		t.Errorf("%.0f samples of the other process for %v of CPU time, want %.0f ± 25 %%", n, used[1], want)
	}
	if runtime.NumCPU() == 1 {
		return // which is busy, so nobody can say how soon the profiler gets to decide
	}
	want = used[0].Seconds() * frequency
	if n := float64(c.Excluded); math.Abs(n-want) > want/4 { // a few before it was known
		t.Errorf("%.0f ticks excluded for %v of CPU time, want %.0f", n, used[0], want)
	}
}

// One in ten: each sample stands for ten ticks, which are as many as there were, within
// five standard deviations of the binomial distribution; and so is the CPU time.
func TestOneInTen(t *testing.T) {
	const frequency, weight = 997, 10
	p, got := newSelectionTest(t, frequency, nil)
	var pids []int
	var used []time.Duration
	during(t, p, func() {
		pids, used = spins(t, 1, "6000", func(pids []int) {
			err := p.SetRates(Rates{Frequency: frequency, Weigh: always(func(process sample.Process, _ uint64) uint32 {
				if process.PID == uint32(pids[0]) {
					return weight
				}
				return 1
			})})
			if err != nil {
				t.Fatal(err)
			}
		})
	})
	c := conserved(t, p, got)
	var chosen, before float64
	var cpu time.Duration
	for _, s := range got.ofPID(pids[0]) {
		cpu += s.Weight.CPU()
		switch s.Weight.Ticks {
		case weight:
			chosen++
		case 1:
			before++
		default:
			t.Fatalf("a sample stands for %d ticks", s.Weight.Ticks)
		}
	}
	ticks := chosen + float64(c.PassedOver) // only this process has ticks passed over
	deviation := math.Sqrt(ticks / weight * (1 - 1.0/weight))
	if math.Abs(chosen-ticks/weight) > 5*deviation {
		t.Errorf("%.0f of %.0f ticks were chosen, want %.0f ± %.0f", chosen, ticks, ticks/weight, 5*deviation)
	}
	if runtime.NumCPU() > 1 && (ticks < 4000 || before > 200) { // see TestExcludedProcess
		t.Errorf("%.0f ticks with the weight and %.0f before, want some 6,000 and next to none", ticks, before)
	}
	most := 5*deviation*weight/frequency + used[0].Seconds()/20
	if math.Abs(cpu.Seconds()-used[0].Seconds()) > most {
		t.Errorf("%v of CPU time in samples, %v used, want ± %.2f s", cpu, used[0], most)
	}
	t.Logf("%.0f of %.0f ticks chosen (± %.0f); %v of CPU time in samples, %v used", chosen, ticks, deviation, cpu, used[0])
}

// A decision is about a program: what the process executes next is sampled as usual from
// its first tick on.
func TestExecMakesTheDecisionVoid(t *testing.T) {
	p, got := newSelectionTest(t, 999, always(func(process sample.Process, _ uint64) uint32 {
		if process.Executable == "spin" {
			return 0
		}
		return 1
	}))
	second := filepath.Join(t.TempDir(), "second")
	text, err := os.ReadFile(spin(t))
	if err == nil {
		err = os.WriteFile(second, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(spin(t), "500", second, "300")
	during(t, p, func() {
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
	})
	conserved(t, p, got)
	count := map[string]int{}
	for _, s := range got.ofPID(cmd.Process.Pid) {
		if !beforeExec(s) {
			count[s.Process.Executable]++
		}
	}
	// The first ticks of a program may come before it has a name.
	if count["spin"] > 2 || count["second"] < 250 {
		t.Errorf("samples by program: %v, want next to none of spin and about 300 of second", count)
	}
}

// The rate is changed several times a second, each time somewhere in an interval; the
// samples stand for as much CPU time as was used all the same. What each change leaves
// to chance is less than an interval: 10 % are five standard deviations.
func TestRateChangesWhileRunning(t *testing.T) {
	p, got := newSelectionTest(t, 19, nil)
	var pids []int
	var used []time.Duration
	changes := 0
	during(t, p, func() {
		stop := make(chan struct{})
		changing := make(chan error, 1)
		go func() {
			var err error
			for err == nil {
				select {
				case <-stop:
					changing <- nil
					return
				case <-time.After(50 * time.Millisecond): // what is tested: changes all the time
				}
				changes++
				err = p.SetRates(Rates{Frequency: []int{19, 97, 29}[changes%3]})
			}
			changing <- err
		}()
		pids, used = spins(t, 1, "5000", func([]int) {})
		close(stop)
		if err := <-changing; err != nil {
			t.Fatal(err)
		}
	})
	conserved(t, p, got)
	var cpu time.Duration
	for _, s := range got.ofPID(pids[0]) {
		cpu += s.Weight.CPU()
	}
	if off := (cpu - used[0]).Seconds(); math.Abs(off) > used[0].Seconds()/10 {
		t.Errorf("%v of CPU time in samples, %v used", cpu, used[0])
	}
	if changes < 25 {
		t.Errorf("%d changes only", changes)
	}
	t.Logf("%d changes, %v of CPU time in samples, %v used", changes, cpu, used[0])
}
