// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/disktest"
	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/llvmtest"
)

// indexedProgram is a program in C with debug information, some of its locations, and what they are called.
func indexedProgram(t testing.TB) (path string, locations []sample.Location, want []sample.Symbolized) {
	t.Helper()
	path = compile(t, "gcc", "-O2", "-g", "-Wl,--build-id", "dwarfsym/testdata/inline.c", "-lm")
	p := openProgram(t, path)
	lazy := newSymbolizer(t, Options{})
	unhurried(lazy, 32<<20)
	for _, a := range llvmtest.Draw(p.File, 500) {
		locations = append(locations, p.at(t, a))
		want = append(want, lazy.Symbolize(p.at(t, a)))
	}
	return path, locations, want
}

// indexer is a Symbolizer that makes indexes in a directory.
func indexer(t testing.TB, dir string, limit int64) *Symbolizer {
	t.Helper()
	s := newSymbolizer(t, Options{Indexes: openDir(t, dir, limit)})
	unhurried(s, 32<<20)
	running(t, s)
	return s
}

func expectNames(t testing.TB, s *Symbolizer, locations []sample.Location, want []sample.Symbolized) {
	t.Helper()
	wrong := 0
	for i, l := range locations {
		if got := s.Symbolize(l); !reflect.DeepEqual(got, want[i]) {
			if wrong++; wrong == 1 {
				t.Errorf("%#x is\n\t%+v\nwant\n\t%+v", l.Offset, got, want[i])
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d names are wrong", wrong, len(locations))
	}
}

// onlyFile is the path of the only file in a directory.
func onlyFile(t testing.TB, dir string) string {
	t.Helper()
	found, err := filepath.Glob(dir + "/*")
	if err != nil || len(found) != 1 {
		t.Fatalf("files are %v, %v", found, err)
	}
	return found[0]
}

// TestIndexDamaged names all as before by debug information, counts, and makes the index anew.
func TestIndexDamaged(t *testing.T) {
	_, locations, want := indexedProgram(t)
	for name, damage := range map[string]func(b []byte) []byte{
		"header":  func(b []byte) []byte { b[3]++; return b },
		"all":     func(b []byte) []byte { return []byte("not an index") },
		"nothing": func(b []byte) []byte { return nil },
		"cut":     func(b []byte) []byte { return b[:len(b)/2] },
		"inside": func(b []byte) []byte {
			for i := 50; i < len(b)/2; i++ {
				b[i] ^= 0x10
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			first := indexer(t, dir, 1<<30)
			expectNames(t, first, locations, want)
			await(t, first, buildWritten, 1)
			path := onlyFile(t, dir)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(whole), 0o600); err != nil {
				t.Fatal(err)
			}
			second := indexer(t, dir, 1<<30)
			expectNames(t, second, locations, want)
			if n := counter(t, second.metrics.failures.WithLabelValues(reasonIndex)); n != 1 {
				t.Errorf("%v damaged indexes are counted", n)
			}
			await(t, second, buildWritten, 1)
			third := indexer(t, dir, 1<<30)
			expectNames(t, third, locations, want)
			if n := counter(t, third.metrics.failures.WithLabelValues(reasonIndex)); n != 0 || onlyTable(t, third).unindexed() != nil {
				t.Errorf("the index that was made anew is not used: %v damaged", n)
			}
		})
	}
}

// onlyTable is the only table that is kept.
func onlyTable(t testing.TB, s *Symbolizer) (table *openedTable) {
	t.Helper()
	if _, n := s.cache.usage(); n != 1 {
		t.Fatalf("%d tables", n)
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	s.cache.tables.DropOldest(func(o *openedTable) bool { table = o; return false })
	return table
}

// TestIndexVanishes is cut short while it is in use.
func TestIndexVanishes(t *testing.T) {
	path, locations, want := indexedProgram(t)
	p, dir := openProgram(t, path), t.TempDir()
	first := indexer(t, dir, 1<<30)
	expectNames(t, first, locations, want)
	await(t, first, buildWritten, 1)
	second := newSymbolizer(t, Options{Indexes: openDir(t, dir, 1<<30)})
	unhurried(second, 32<<20)
	second.Symbolize(p.at(t, p.Section(".init").Addr)) // its block is not that of the others
	if err := os.Truncate(onlyFile(t, dir), 100); err != nil {
		t.Fatal(err)
	}
	expectNames(t, second, locations, want)
	if n := counter(t, second.metrics.failures.WithLabelValues(reasonIndex)); n != 1 {
		t.Errorf("%v damaged indexes are counted", n)
	}
}

// TestIndexTooLarge names by debug information what has no room, and tries it once.
func TestIndexTooLarge(t *testing.T) {
	_, locations, want := indexedProgram(t)
	dir := t.TempDir()
	s := indexer(t, dir, 1000)
	expectNames(t, s, locations, want)
	await(t, s, buildTooLarge, 1)
	expectNames(t, s, locations, want)
	id := onlyTable(t, s).id
	s.cache.indexes.want(id)
	if n := len(s.cache.indexes.wanted); n != 0 {
		t.Error("it is tried again at once")
	}
	if found, err := os.ReadDir(dir); err != nil || len(found) != 0 {
		t.Errorf("%v is left, %v", found, err)
	}
}

// TestIndexDiskFull names by debug information what cannot be written.
func TestIndexDiskFull(t *testing.T) {
	dir := disktest.Tiny(t, 4<<10)
	if err := os.WriteFile(filepath.Join(dir, "other"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	_, locations, want := indexedProgram(t)
	s := indexer(t, dir, 1<<30)
	expectNames(t, s, locations, want)
	await(t, s, buildUnwritable, 1)
	expectNames(t, s, locations, want)
	if path := onlyFile(t, dir); filepath.Base(path) != "other" {
		t.Errorf("%s is left", path)
	}
}

// TestIndexLeavesOut makes an index without the unit that cannot be read, of which debug information is asked as without.
func TestIndexLeavesOut(t *testing.T) {
	path := compile(t, "gcc", "-O2", "-g", "-gdwarf-4", "-Wl,--build-id", "dwarfsym/testdata/inline.c", "elfsym/testdata/calls.c", "-lm", "-Wl,--allow-multiple-definition")
	p := openProgram(t, path)
	info := p.Section(".debug_info")
	b, err := info.Data()
	if err != nil {
		t.Fatal(err)
	}
	second := 4 + int64(p.ByteOrder.Uint32(b)) // DWARF 4 section 7.5.1.1
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 20), int64(info.Offset)+second+200); err != nil {
		t.Fatal(err)
	}
	lazy, dir := newSymbolizer(t, Options{}), t.TempDir()
	unhurried(lazy, 32<<20)
	var locations []sample.Location
	var want []sample.Symbolized
	for _, a := range llvmtest.Draw(p.File, 500) {
		locations = append(locations, p.at(t, a))
		want = append(want, lazy.Symbolize(p.at(t, a)))
	}
	failed := counter(t, lazy.metrics.failures.WithLabelValues(reasonDebugInfo))
	if failed == 0 {
		t.Fatal("nothing is damaged")
	}
	first := indexer(t, dir, 1<<30)
	first.Symbolize(locations[0])
	await(t, first, buildWritten, 1)
	for who, s := range map[string]*Symbolizer{"first": first, "next": indexer(t, dir, 1<<30)} {
		expectNames(t, s, locations, want)
		if n := counter(t, s.metrics.failures.WithLabelValues(reasonDebugInfo)); n < failed {
			t.Errorf("the %s agent counts %v failures, want %v", who, n, failed)
		}
		if n, _ := s.cache.usage(); n < onlyTable(t, s).symbolBytes()+1<<12 {
			t.Errorf("%d bytes are counted of the %s agent's table, which has debug information open", n, who)
		}
	}
}

// TestIndexOfFetched makes another index when a debug file arrives.
func TestIndexOfFetched(t *testing.T) {
	path, locations, want := indexedProgram(t)
	p := openProgram(t, path)
	id, debug := buildIDOf(t, p), split(t, path)
	dir, fetched := t.TempDir(), newArrivals()
	s := newSymbolizer(t, Options{Indexes: openDir(t, dir, 1<<30), DebugFiles: fetched})
	unhurried(s, 32<<20)
	running(t, s)
	s.Symbolize(locations[0])
	fetched.arrive(id, debug)
	expectNames(t, s, locations, want)
	await(t, s, buildWritten, 1)
	objfiletest.WipeDebug(t, debug)
	second := newSymbolizer(t, Options{Indexes: openDir(t, dir, 1<<30), DebugFiles: fetched})
	expectNames(t, second, locations, want)
	without := newSymbolizer(t, Options{Indexes: openDir(t, dir, 1<<30)})
	if got := without.Symbolize(locations[0]); len(got.Frames) != 1 || got.Frames[0].File != "" {
		t.Errorf("without the debug file, of which the index is: %+v", got)
	}
}

// TestIndexStyles keeps an index for each way of showing names.
func TestIndexStyles(t *testing.T) {
	path := compile(t, "g++", "-O1", "-g", "-Wl,--build-id", "testdata/shapes.cc")
	p := openProgram(t, path)
	var at sample.Location
	for name, sym := range p.symbols {
		if strings.HasPrefix(name, "_ZN") && sym.Size > 0 {
			at = p.at(t, sym.Value)
		}
	}
	dir, names := t.TempDir(), make(map[Demangle]string)
	styles := []Demangle{DemangleFull, DemangleSimplified, DemangleNone}
	for _, style := range styles {
		s := newSymbolizer(t, Options{Indexes: openDir(t, dir, 1<<30), Demangle: style})
		unhurried(s, 32<<20)
		running(t, s)
		names[style] = outermost(s.Symbolize(at)).Function
		await(t, s, buildWritten, 1)
	}
	objfiletest.WipeDebug(t, path)
	for _, style := range styles {
		s := newSymbolizer(t, Options{Indexes: openDir(t, dir, 1<<30), Demangle: style})
		if got := outermost(s.Symbolize(at)); got.Function != names[style] || got.File == "" {
			t.Errorf("%s: %+v, want %s", style, got, names[style])
		}
	}
	if names[DemangleFull] == names[DemangleSimplified] || names[DemangleNone] == names[DemangleSimplified] {
		t.Errorf("names are %v", names)
	}
}

// TestIndexBudget makes an index with the share of time that there is, at the lowest priority.
func TestIndexBudget(t *testing.T) {
	p := openProgram(t, compile(t, "g++", "-O0", "-g", "testdata/regex.cc"))
	s := newSymbolizer(t, Options{Indexes: openDir(t, t.TempDir(), 1<<30)})
	const share, burst = 0.05, 2 * time.Millisecond
	s.cache.loading.units = dwarfsym.NewUnits(8<<20, share, burst)
	s.cache.indexes.units = s.cache.loading.units
	begin := time.Now()
	running(t, s)
	s.Symbolize(p.at(t, p.Section(".text").Addr))
	lowest := false
	for counter(t, s.metrics.builds.WithLabelValues(buildWritten)) == 0 {
		if lowest = lowest || atLowestPriority(t); time.Since(begin) > 2*time.Minute {
			t.Fatal("no index")
		}
		time.Sleep(time.Millisecond)
	}
	took, spent := time.Since(begin), counter(t, s.metrics.buildSeconds)
	// The first and the last slice are not waited for, and each goes on to the end of a step.
	if most := share*took.Seconds() + burst.Seconds() + 2*buildSlice.Seconds() + spent/10; spent > most || spent < 8*buildSlice.Seconds() {
		t.Errorf("%.3f s of CPU time in %s, want at most %.3f s", spent, took, most)
	}
	if !lowest {
		t.Error("no thread has the lowest priority")
	}
	t.Logf("%.3f s of CPU time in %s", spent, took)
}

// atLowestPriority tells whether a thread of this process has it.
func atLowestPriority(t *testing.T) bool {
	t.Helper()
	found, err := filepath.Glob("/proc/self/task/*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if fields := strings.Fields(rest); len(fields) > 16 && fields[16] == strconv.Itoa(lowestPriority) {
			return true
		}
	}
	return false
}
