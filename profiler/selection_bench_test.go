// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/sample"
)

// phase is what ticks cost while one set of rates was in force.
type phase struct {
	run            time.Duration
	ticks, dropped uint64
}

// measure adds what happens while f runs.
func (m *phase) measure(b *testing.B, p *Profiler, f func()) {
	b.Helper()
	read := func() (time.Duration, bpf.Counters) {
		run, err := p.runTime()
		if err != nil {
			b.Fatal(err)
		}
		c, err := p.sampler.Counters()
		if err != nil {
			b.Fatal(err)
		}
		return run, c
	}
	run, before := read()
	f()
	after, c := read()
	m.run += after - run
	m.ticks += c.Ticks - before.Ticks
	m.dropped += c.Excluded + c.PassedOver - before.Excluded - before.PassedOver
}

// BenchmarkExcluded is a busy program, and nothing else that is sampled but one tick in
// a million of processes that come meanwhile, by turns included and excluded, in one run: what a tick of it costs in BPF. What is saved
// depends on how deep its stacks are.
func BenchmarkExcluded(b *testing.B) {
	deep := filepath.Join(b.TempDir(), "deep")
	build := exec.Command("gcc", "-O1", "-fomit-frame-pointer", "-o", deep, "../cmd/fleetprof/testdata/bench/deep.c")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	for _, depth := range []string{"3", "30", "100"} {
		b.Run(depth, func(b *testing.B) { benchmarkExcluded(b, exec.Command(deep, depth)) })
	}
}

func benchmarkExcluded(b *testing.B, cmd *exec.Cmd) {
	const frequency, turns = 999, 6
	p, _ := openKernelTest(b, frequency, 1<<22, func(*Options, RequestSink) {})
	stats, err := bpf.EnableRunTime()
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	var included, excluded phase
	during(b, p, func() {
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
		turn := func(m *phase, usual, weight uint32) {
			err := p.SetRates(Rates{Frequency: frequency, Usual: usual, Weigh: always(func(s sample.Process, _ uint64) uint32 {
				if s.PID == uint32(cmd.Process.Pid) {
					return weight
				}
				return 0
			})})
			if err != nil {
				b.Fatal(err)
			}
			m.measure(b, p, func() { time.Sleep(500 * time.Millisecond) })
		}
		turn(new(phase), 1, 1) // it becomes known, and tables are built
		for range turns {
			turn(&included, maxWeight, 1)
			turn(&excluded, maxWeight, 0)
		}
	})
	if excluded.dropped != excluded.ticks {
		b.Logf("%d of %d ticks were sampled while none should be", excluded.ticks-excluded.dropped, excluded.ticks)
	}
	dropped := float64(excluded.run) / float64(excluded.ticks)
	whole := (float64(included.run) - dropped*float64(included.dropped)) / float64(included.ticks-included.dropped)
	b.ReportMetric(0, "ns/op") // the time of the whole means nothing
	b.ReportMetric(whole, "BPF-ns/tick-included")
	b.ReportMetric(dropped, "BPF-ns/tick-excluded")
	b.ReportMetric(100*(1-dropped/whole), "saved-%")
}
