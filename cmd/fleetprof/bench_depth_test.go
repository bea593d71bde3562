// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"testing"
)

// BenchmarkDepth tells what one more frame costs where that is cheapest: in a
// recursion, all of whose tables and stack stay in the caches.
func BenchmarkDepth(b *testing.B) {
	for _, build := range []struct{ name, flag string }{{"deep", withoutFramePointers}, {"deep-fp", withFramePointers}} {
		path := compile(b, build.name, "testdata/bench/deep.c", build.flag)
		measureDepths(b, build.name, path, 60, 300, 900, 1000)
	}
}

// BenchmarkDiverse tells what one more frame costs where every frame is another
// function of a large program, in another order for every sample.
func BenchmarkDiverse(b *testing.B) {
	path := compile(b, "div", diverseSource(b, "div", diverseFunctions), withoutFramePointers)
	measureDepths(b, "div", path, 60, 900)
}

// The cost of a frame is the slope between these two depths: what a sample
// costs besides its frames cancels.
const shallow, deep = 60, 900

// measureDepths runs a program, whose argument is the depth of its stack, at
// the rate of production, where others have used the caches since the last
// sample, and at a higher one.
func measureDepths(b *testing.B, name, path string, depths ...int) {
	for _, frequency := range []int{99, 999} {
		b.Run(fmt.Sprintf("%s-%dHz", name, frequency), func(b *testing.B) {
			measureDepthsAt(b, frequency, name, path, depths)
		})
	}
}

func measureDepthsAt(b *testing.B, frequency int, name, path string, depths []int) {
	m := newMeter(b, frequency)
	cost, frames := make(map[int]float64), make(map[int]float64)
	lost, ofWorkload := 0.0, 100.0
	for _, depth := range depths {
		workload := onEachCPU(b, path, fmt.Sprint(depth))
		r := m.read(uint64(600 + 4*frequency))
		endAll(workload)
		all, of := m.stacks(r)
		needSamples(b, of, name)
		cost[depth], frames[depth] = r.program.perRun(), all.perSample()
		lost = max(lost, all.percentLost())
		ofWorkload = min(ofWorkload, 100*float64(of[name].samples)/float64(all.samples))
		b.ReportMetric(cost[depth], fmt.Sprintf("BPF-ns/sample@%d", depth))
		b.ReportMetric(of[name].perSample(), fmt.Sprintf("frames/sample@%d", depth))
		b.ReportMetric(of[name].percentTruncated(), fmt.Sprintf("truncated-%%@%d", depth))
	}
	b.ReportMetric(0, "ns/op") // the time of the whole means nothing
	b.ReportMetric(lost, "lost-%")
	b.ReportMetric(ofWorkload, "of-workload-%")
	if more := frames[deep] - frames[shallow]; more > 100 {
		b.ReportMetric((cost[deep]-cost[shallow])/more, "BPF-ns/frame")
	} else {
		b.Logf("stacks of depth %d have only %.0f frames more than those of depth %d: no cost per frame", deep, more, shallow)
	}
}
