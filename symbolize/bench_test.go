// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"os"
	"runtime"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// benchLocations are 4,000 places in the code of libc, or of the C program of
// the tests where there is none.
func benchLocations(b *testing.B) []sample.Location {
	b.Helper()
	path := "/lib/x86_64-linux-gnu/libc.so.6"
	if _, err := os.Stat(path); err != nil {
		path = compile(b, "gcc", "-static", "elfsym/testdata/zoo.c")
	}
	p := openProgram(b, path)
	text := p.Section(".text")
	locs := make([]sample.Location, 4000)
	for i := range locs {
		locs[i] = sample.Location{Object: p.object, Offset: text.Offset + uint64(i)*(text.Size/4000)}
	}
	return locs
}

func BenchmarkSymbolize(b *testing.B) {
	b.Run("cached", func(b *testing.B) {
		s, locs := newSymbolizer(b, Options{}), benchLocations(b)
		for _, l := range locs {
			s.Symbolize(l)
		}
		i := 0
		for b.Loop() {
			s.Symbolize(locs[i%len(locs)])
			i++
		}
	})
	b.Run("table only", func(b *testing.B) {
		s, locs := newSymbolizer(b, Options{Results: 1}), benchLocations(b)
		i := 0
		for b.Loop() {
			s.Symbolize(locs[i%len(locs)])
			i++
		}
	})
	b.Run("first", func(b *testing.B) {
		locs := benchLocations(b)
		for b.Loop() {
			s := newSymbolizer(b, Options{})
			s.Symbolize(locs[0])
			s.Close()
		}
	})
	b.Run("memory", func(b *testing.B) {
		locs := benchLocations(b)
		var before, after runtime.MemStats
		for b.Loop() {
			s := newSymbolizer(b, Options{})
			runtime.GC()
			runtime.ReadMemStats(&before)
			for _, l := range locs {
				s.Symbolize(l)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			runtime.KeepAlive(s)
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(locs)), "B/location")
	})
}
