// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/fleetprof/fleetprof/internal/procfs"
)

// BenchmarkAgainstBpftraceWalk runs the agent and bpftrace side by side on
// stacks that bpftrace can walk, by frame pointers, and as deep as it can: it
// stops at 127 frames.
func BenchmarkAgainstBpftraceWalk(b *testing.B) {
	const frequency = 99
	path := compile(b, "deep-fp", "testdata/bench/deep.c", withFramePointers)
	m := newMeter(b, frequency)
	bpftrace := background(b, "bpftrace", "-e", fmt.Sprintf("profile:hz:%d { @[kstack, ustack] = count(); }", frequency))
	awaitSampling(b, bpftrace)
	for _, depth := range []int{30, 127} {
		workload := onEachCPU(b, path, fmt.Sprint(depth))
		before := programOf(b, bpftrace.pid)
		ours := m.read(1500)
		theirs := programOf(b, bpftrace.pid).since(before)
		deepest := deepestStack(b, bpftrace, workload[0], path)
		endAll(workload)
		_, of := m.stacks(ours)
		b.ReportMetric(ours.program.perRun(), fmt.Sprintf("BPF-ns/sample@%d", depth))
		b.ReportMetric(theirs.perRun(), fmt.Sprintf("bpftrace-BPF-ns/sample@%d", depth))
		b.ReportMetric(ours.program.perRun()/theirs.perRun(), fmt.Sprintf("BPF-ratio@%d", depth))
		b.ReportMetric(of["deep-fp"].perSample(), fmt.Sprintf("frames/sample@%d", depth))
		b.ReportMetric(float64(deepest), fmt.Sprintf("bpftrace-deepest@%d", depth))
	}
	b.ReportMetric(0, "ns/op") // the time of the whole means nothing
}

// deepestStack is the largest number of frames that a sampler keeps, in maps of
// stacks, of a workload's stacks. The maps hold those of other processes too.
func deepestStack(b *testing.B, sampler, workload running, path string) (deepest int) {
	b.Helper()
	var code procfs.Mapping
	err := procfs.New("/proc").ExecutableMaps(uint32(workload.pid), func(m procfs.Mapping) bool {
		code = m
		return m.Path != path
	})
	if err != nil {
		b.Fatal(err)
	}
	ours := func(address uint64) bool { return code.Start <= address && address < code.Limit }
	for _, id := range heldBy(b, sampler.pid, "map_id") {
		m, err := ebpf.NewMapFromID(ebpf.MapID(id))
		if err != nil {
			b.Fatal(err)
		}
		defer m.Close()
		if m.Type() != ebpf.StackTrace {
			continue
		}
		var key uint32
		frames := make([]uint64, m.ValueSize()/8)
		all := m.Iterate()
		for all.Next(&key, &frames) {
			if slices.ContainsFunc(frames, ours) {
				deepest = max(deepest, len(slices.DeleteFunc(frames, func(address uint64) bool { return address == 0 })))
			}
			frames = frames[:cap(frames)]
		}
		if err := all.Err(); err != nil {
			b.Fatal(err)
		}
	}
	return deepest
}
