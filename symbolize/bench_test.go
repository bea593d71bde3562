// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	goruntime "runtime/metrics"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/internal/cputime"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/index"
	"github.com/fleetprof/fleetprof/symbolize/llvmtest"
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

// BenchmarkAgainstLLVM names 10,000 addresses at random of a file with debug information, and has a process of
// llvm-symbolizer name them, in turns: with nothing read before (cold), others of the file next (warm), and the same again,
// as an agent does from window to window; the first by an index that an earlier agent left (restart), and then the others
// (index). Memory is what an agent has by default. Compared is CPU time of the whole processes, that of the collector of
// garbage included.
func BenchmarkAgainstLLVM(b *testing.B) {
	for name, path := range map[string]func(testing.TB) string{
		"libc": func(t testing.TB) string { return loaded(t, "libc.so.6") },
		"C++":  func(t testing.TB) string { return compile(t, "g++", "-O2", "-g", "dwarfsym/testdata/templates.cc") },
		"Rust": func(t testing.TB) string { return compile(t, "rustc", "-O", "-g", "dwarfsym/testdata/closures.rs") },
	} {
		b.Run(name, func(b *testing.B) { benchmarkAgainstLLVM(b, path(b)) })
	}
}

func benchmarkAgainstLLVM(b *testing.B, file string) {
	p := openProgram(b, file)
	addrs := llvmtest.Draw(p.File, 20000)
	locations := make([]sample.Location, len(addrs))
	for i, a := range addrs {
		locations[i] = p.at(b, a)
	}
	first, others := locations[:10000], locations[10000:]
	dir := openDir(b, b.TempDir(), 256<<20)
	took := make(map[string]time.Duration)
	agent := func(dir *index.Dir, f func(s *Symbolizer)) {
		const limit = 19 << 20
		s, err := New(Options{
			Files: &paths{}, TableBytes: limit, Results: 32768, Indexes: dir,
			Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		})
		if err != nil {
			b.Fatal(err)
		}
		unhurried(s, limit)
		f(s)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	name := func(s *Symbolizer, what string, all []sample.Location) {
		runtime.GC()
		before := cpuTime(b)
		for _, l := range all {
			s.Symbolize(l)
		}
		took[what] += cpuTime(b) - before
	}
	agent(dir, func(s *Symbolizer) {
		running(b, s)
		s.Symbolize(first[0])
		await(b, s, buildWritten, 1)
	})
	for b.Loop() {
		took["theirs"] += llvmtest.Cost(b, file, addrs[:10000])
		agent(openDir(b, b.TempDir(), 256<<20), func(s *Symbolizer) { // none is made
			name(s, "cold", first)
			name(s, "warm", others)
			name(s, "again", first)
		})
		agent(dir, func(s *Symbolizer) {
			name(s, "restart", first)
			name(s, "index", others)
		})
	}
	for what, t := range took {
		if what != "theirs" {
			b.ReportMetric(float64(took["theirs"])/float64(t), "llvm/"+what)
		}
	}
	b.ReportMetric(took["theirs"].Seconds()*1e6/float64(b.N)/10000, "llvm-µs/address")
}

// cpuTime is that of this process so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	used, err := cputime.Process()
	if err != nil {
		b.Fatal(err)
	}
	return used
}

// BenchmarkIndexing makes indexes, with the memory that an agent has by default.
func BenchmarkIndexing(b *testing.B) {
	for name, path := range map[string]func(testing.TB) string{
		"libc": func(t testing.TB) string { return loaded(t, "libc.so.6") },
		"Rust": func(t testing.TB) string { return compile(t, "rustc", "-O", "-g", "dwarfsym/testdata/closures.rs") },
		"agent": func(t testing.TB) string { // whose own table of functions is hidden
			path := compile(t, "go", "../cmd/fleetprof")
			if out, err := exec.Command("objcopy", "--rename-section", ".gopclntab=.hidden", path).CombinedOutput(); err != nil {
				t.Fatalf("objcopy: %v\n%s", err, out)
			}
			return path
		},
	} {
		b.Run(name, func(b *testing.B) {
			p := openProgram(b, path(b))
			at := p.at(b, p.Section(".text").Addr)
			const limit = 19 << 20
			defer debug.SetMemoryLimit(debug.SetMemoryLimit(2 * limit))
			var heap, size, cpu float64
			for b.Loop() {
				runtime.GC()
				before := heapBytes()
				dir := openDir(b, b.TempDir(), 256<<20)
				s := newSymbolizer(b, Options{TableBytes: limit, Indexes: dir})
				unhurried(s, limit)
				running(b, s)
				s.Symbolize(at)
				for counter(b, s.metrics.builds.WithLabelValues(buildWritten)) == 0 {
					heap = max(heap, heapBytes()-before)
					time.Sleep(time.Millisecond)
				}
				bytes, _, _ := dir.Usage()
				size, cpu = float64(bytes), cpu+counter(b, s.metrics.buildSeconds)
			}
			b.ReportMetric(heap/(1<<20), "MiB-heap")
			b.ReportMetric(size/1e6, "MB-index")
			b.ReportMetric(cpu/float64(b.N), "CPU-s/op")
		})
	}
}

// heapBytes is the memory of all objects, garbage included.
func heapBytes() float64 {
	all := []goruntime.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	goruntime.Read(all)
	return float64(all[0].Value.Uint64())
}
