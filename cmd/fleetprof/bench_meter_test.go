// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/pprof/profile"
	"golang.org/x/sys/unix"
)

// meter is an agent at work and the means to see what it costs. Everything it
// sampled is in windows of a second in a directory.
type meter struct {
	b         *testing.B
	agent     running
	frequency int
	address   string
	directory string
}

// newMeter starts the agent.
func newMeter(b *testing.B, frequency int) *meter {
	b.Helper()
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stats.Close() })
	m := &meter{b: b, frequency: frequency, address: freeAddress(b), directory: b.TempDir()}
	m.agent = background(b, fleetprof, "agent", "--store=dir:"+m.directory, "--window=1s",
		fmt.Sprint("--frequency=", frequency), "--listen="+m.address)
	awaitSampling(b, m.agent)
	return m
}

// reading is what the agent did in a span of time.
type reading struct {
	begin, end time.Time
	program    program
	cpu        cpuTime
	metrics    map[string]float64 // how far the counters went
}

// read lets what is new on the machine be known to the agent for about a
// second, and then measures the given number of samples.
func (m *meter) read(samples uint64) reading {
	m.b.Helper()
	m.await(uint64(m.frequency * len(cpus(m.b))))
	begin, before, cpu, counters := time.Now(), programOf(m.b, m.agent.pid), cpuOf(m.b, m.agent.pid), metrics(m.b, m.address)
	m.await(samples)
	r := reading{
		begin: begin, end: time.Now(), program: programOf(m.b, m.agent.pid).since(before),
		cpu: cpuOf(m.b, m.agent.pid).since(cpu), metrics: metrics(m.b, m.address),
	}
	for series, value := range counters {
		r.metrics[series] -= value
	}
	return r
}

// await returns when the agent's program has run so many times more.
func (m *meter) await(samples uint64) {
	m.b.Helper()
	before := programOf(m.b, m.agent.pid)
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		now := programOf(m.b, m.agent.pid)
		if now.runs < before.runs {
			m.b.Fatal("the agent has ended")
		}
		done := now.since(before).runs
		if done >= samples {
			return
		}
		if time.Now().After(deadline) {
			m.b.Fatalf("%d samples of %d in two minutes: is the machine idle?", done, samples)
		}
	}
}

// stacks sums up what profiles say of stacks.
type stacks struct{ samples, frames, truncated, lost int64 }

func (s stacks) perSample() float64        { return float64(s.frames) / float64(s.samples) }
func (s stacks) percentTruncated() float64 { return 100 * float64(s.truncated) / float64(s.samples) }
func (s stacks) percentLost() float64      { return 100 * float64(s.lost) / float64(s.samples+s.lost) }

// stacks reads the windows whose greater part lies within a reading: all samples,
// and those of each executable.
func (m *meter) stacks(r reading) (all stacks, of map[string]stacks) {
	m.b.Helper()
	of = make(map[string]stacks)
	for _, p := range m.windows(r) {
		for _, s := range p.Sample {
			count := s.Value[0]
			outermost := s.Location[len(s.Location)-1].Line[0].Function.Name
			if outermost == "[lost samples]" {
				all.lost += count
				continue
			}
			one := stacks{samples: count, frames: count * int64(len(s.Location))}
			if strings.HasPrefix(outermost, "[truncated") {
				one.truncated = count
				one.frames -= count // that is no frame
			}
			all = all.plus(one)
			for _, name := range s.Label["process_executable_name"] {
				of[name] = of[name].plus(one)
			}
		}
	}
	if all.samples == 0 {
		m.b.Fatalf("no window between %v and %v", r.begin, r.end)
	}
	return all, of
}

func (s stacks) plus(o stacks) stacks {
	return stacks{s.samples + o.samples, s.frames + o.frames, s.truncated + o.truncated, s.lost + o.lost}
}

// windows waits until the agent has written the one in which a reading ends. The
// workload was there before the reading began, and none is after it ended.
func (m *meter) windows(r reading) (within []*profile.Profile) {
	m.b.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		paths, err := filepath.Glob(m.directory + "/*.pb.gz") // in the order of time
		if err != nil {
			m.b.Fatal(err)
		}
		within = nil
		for _, path := range paths {
			p := m.window(path)
			begin := time.Unix(0, p.TimeNanos)
			end := begin.Add(time.Duration(p.DurationNanos))
			if middle := begin.Add(end.Sub(begin) / 2); middle.After(r.begin) && middle.Before(r.end) {
				within = append(within, p)
			}
			if end.After(r.end) {
				return within
			}
		}
		if time.Now().After(deadline) {
			m.b.Fatal("the agent writes no windows")
		}
	}
}

func (m *meter) window(path string) *profile.Profile {
	m.b.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		m.b.Fatal(err)
	}
	p, err := profile.ParseData(data)
	if err != nil {
		m.b.Fatalf("%s: %v", path, err)
	}
	return p
}

// reportAgent reports what a sample costs on both sides, and the memory.
func (m *meter) reportAgent(r reading) {
	m.b.ReportMetric(0, "ns/op") // the time of the whole means nothing
	m.b.ReportMetric(r.program.perRun(), "BPF-ns/sample")
	m.b.ReportMetric(r.cpu.total()*1e6/float64(r.program.runs), "agent-µs/sample")
	m.b.ReportMetric(r.cpu.user*1e6/float64(r.program.runs), "agent-user-µs/sample")
	m.b.ReportMetric(100*r.cpu.total()/r.end.Sub(r.begin).Seconds(), "agent-%CPU")
	m.b.ReportMetric(metric(m.b, m.address, "process_resident_memory_bytes")/(1<<20), "agent-MiB-RSS")
	m.b.ReportMetric(metric(m.b, m.address, "fleetprof_bpf_map_bytes")/(1<<20), "agent-MiB-maps")
}

// reportStacks reports how whole the stacks are.
func (m *meter) reportStacks(r reading) (of map[string]stacks) {
	m.b.Helper()
	all, of := m.stacks(r)
	m.b.ReportMetric(all.perSample(), "frames/sample")
	m.b.ReportMetric(all.percentTruncated(), "truncated-%")
	m.b.ReportMetric(all.percentLost(), "lost-%")
	// Stacks walked in user space; those that had no room on the way there; and
	// those that user space knew from an earlier sample.
	for _, event := range []string{"late", "late_refused", "known"} {
		if n, ok := r.metrics[`fleetprof_bpf_events_total{event="`+event+`"}`]; ok {
			m.b.ReportMetric(100*n/float64(r.program.runs), event+"-%")
		}
	}
	return of
}
