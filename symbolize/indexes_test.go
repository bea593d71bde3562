// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/cputime"
	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/index"
	"github.com/fleetprof/fleetprof/symbolize/llvmtest"
)

func openDir(t testing.TB, path string, limit int64) *index.Dir {
	t.Helper()
	d, err := index.OpenDir(path, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// unhurried has all the time it takes.
func unhurried(s *Symbolizer, limit int64) {
	u := dwarfsym.NewUnits(limit/unitShare, 100, time.Hour)
	s.cache.loading.units = u
	if s.cache.indexes != nil {
		s.cache.indexes.units = u
	}
}

// running makes indexes until the end of the test.
func running(t testing.TB, s *Symbolizer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { cancel(); wait.Wait() })
}

// await waits until so many indexes have ended in a result.
func await(t testing.TB, s *Symbolizer, result string, n float64) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); counter(t, s.metrics.builds.WithLabelValues(result)) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no index is %s", result)
		}
	}
}

// TestIndexIsTheSame names addresses by debug information, by the index that was made of it, and by the index that an
// earlier agent left, when the debug information cannot be read any more.
func TestIndexIsTheSame(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(*testing.T) string
	}{
		{"C", compiled("gcc", "-O3", "-g", "-Wl,--build-id", "dwarfsym/testdata/inline.c", "-lm")},
		{"C, DWARF 4", compiled("gcc", "-O2", "-g", "-gdwarf-4", "-Wl,--build-id", "dwarfsym/testdata/inline.c", "-lm")},
		{"C++", compiled("g++", "-O2", "-g", "-Wl,--build-id", "dwarfsym/testdata/templates.cc")},
		{"C++, in sections, zlib", compiled("g++", "-O3", "-g", "-ffunction-sections", "-gz=zlib", "-Wl,--gc-sections", "-Wl,--build-id", "dwarfsym/testdata/templates.cc")},
		{"C++, clang", compiled("clang++-16", "-O2", "-g", "-Wl,--build-id", "dwarfsym/testdata/templates.cc")},
		{"Rust", compiled("rustc", "-O", "-g", "-Clink-arg=-Wl,--build-id", "dwarfsym/testdata/closures.rs")},
	} {
		t.Run(c.name, func(t *testing.T) { sameByIndex(t, c.build(t), true) })
	}
	t.Run("libc", func(t *testing.T) { sameByIndex(t, loaded(t, "libc.so.6"), false) })
}

func sameByIndex(t *testing.T, path string, ours bool) {
	p := openProgram(t, path)
	const limit = 64 << 20
	addrs := llvmtest.Draw(p.File, *addresses)
	dir := filepath.Join(t.TempDir(), "indexes")
	lazy, first := newSymbolizer(t, Options{TableBytes: limit}), newSymbolizer(t, Options{TableBytes: limit, Indexes: openDir(t, dir, 1<<30)})
	unhurried(lazy, limit)
	unhurried(first, limit)
	running(t, first)
	want := make([]sample.Symbolized, len(addrs))
	inlined := 0
	for i, a := range addrs {
		want[i] = lazy.Symbolize(p.at(t, a))
		if len(want[i].Frames) > 1 {
			inlined++
		}
	}
	first.Symbolize(p.at(t, addrs[0]))
	await(t, first, buildWritten, 1)
	if ours {
		objfiletest.WipeDebug(t, path)
	}
	second := newSymbolizer(t, Options{TableBytes: limit, Indexes: openDir(t, dir, 1<<30)})
	running(t, second)
	for who, s := range map[string]*Symbolizer{"the agent that made it": first, "the next one": second} {
		shown := 0
		for i, a := range addrs {
			if got := s.Symbolize(p.at(t, a)); !reflect.DeepEqual(got, want[i]) {
				if shown++; shown <= 5 {
					t.Errorf("by %s %#x is\n\t%+v\nwant\n\t%+v", who, a, got, want[i])
				}
			}
		}
	}
	if inlined == 0 {
		t.Error("no address is in a call that was inlined")
	}
	bytes, _, _ := second.cache.indexes.dir.Usage()
	t.Logf("%d of %d addresses in inlined calls; index of %d bytes in %v", inlined, len(addrs), bytes, counter(t, first.metrics.buildSeconds))
}

// TestIndexTakesOver names from many goroutines while the index is made and takes over.
func TestIndexTakesOver(t *testing.T) {
	_, locations, want := indexedProgram(t)
	s := newSymbolizer(t, Options{Results: 1, Indexes: openDir(t, t.TempDir(), 1<<30)})
	unhurried(s, 32<<20)
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for w := range 4 {
		wait.Go(func() {
			for i := w; ctx.Err() == nil; i++ {
				if n := i % len(locations); !reflect.DeepEqual(s.Symbolize(locations[n]), want[n]) {
					t.Errorf("%#x has another name", locations[n].Offset)
				}
			}
		})
	}
	running(t, s)
	await(t, s, buildWritten, 1)
	time.Sleep(50 * time.Millisecond)
	stop()
	wait.Wait()
	if onlyTable(t, s).unindexed() != nil {
		t.Error("debug information is still asked")
	}
}

// TestIndexOfMangled counts names that nobody can read, as without index.
func TestIndexOfMangled(t *testing.T) {
	source := filepath.Join(t.TempDir(), "odd.c")
	if err := os.WriteFile(source, []byte("int odd(int x) __asm__(\"_Zodd_name\");\nint odd(int x) { return x * x; }\nint main(int argc, char **argv) { return odd(argc); }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := compile(t, "gcc", "-g", source)
	p := openProgram(t, path)
	s := newSymbolizer(t, Options{Results: 1, Indexes: openDir(t, t.TempDir(), 1<<30)})
	unhurried(s, 32<<20)
	running(t, s)
	ask := func() {
		if got := s.Symbolize(p.at(t, p.symbols["_Zodd_name"].Value+uint64(counter(t, s.metrics.mangled)))).Frames[0]; got.Function != "_Zodd_name" || got.Line == 0 {
			t.Errorf("%+v", got)
		}
	}
	ask()
	await(t, s, buildWritten, 1)
	ask()
	if n := counter(t, s.metrics.mangled); n != 2 || onlyTable(t, s).unindexed() != nil {
		t.Errorf("%v counted, want 2", n)
	}
}

// TestIndexOfDamaged makes indexes of programs whose debug information is damaged, and finds in them what debug information tells.
func TestIndexOfDamaged(t *testing.T) {
	path := compile(t, "gcc", "-g", "-O2", "-Wl,-z,noseparate-code", "dwarfsym/testdata/inline.c", "-lm")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := openProgram(t, path)
	random := rand.New(rand.NewPCG(1, 2))
	var debug []*elf.Section
	for _, s := range p.Sections {
		if strings.HasPrefix(s.Name, ".debug_") {
			debug = append(debug, s)
		}
	}
	addrs := llvmtest.Draw(p.File, 300)
	compared, failed := 0, 0
	for range 300 {
		b := bytes.Clone(whole)
		s := debug[random.IntN(len(debug))]
		for range 1 + random.IntN(4) {
			b[s.Offset+random.Uint64N(s.FileSize)] = byte(random.Uint32())
		}
		const limit = 4 << 20
		l := loading{limit: limit, names: newReadableNames(DemangleSimplified, limit), units: dwarfsym.NewUnits(limit, 100, time.Hour)}
		table, _, err := l.openTable(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		x := indexOf(t, &l, table)
		for _, a := range addrs {
			want, err := table.frames(a)
			if errors.Is(err, errDemangle) {
				err = nil
			}
			if err != nil {
				failed++
			}
			if x == nil {
				continue
			}
			got, notIndexed := x.Lookup(a)
			if len(got) > 0 && !reflect.DeepEqual(got, want) || err != nil && notIndexed == nil || len(got) == 0 && notIndexed == nil && len(want) > 1 {
				t.Fatalf("%#x is %+v, %v by index, want %+v, %v", a, got, notIndexed, want, err)
			}
			compared += min(1, len(got))
		}
		table.close()
	}
	if compared < 300*300/10 || failed == 0 {
		t.Errorf("%d frames compared, %d that nobody can tell", compared, failed)
	}
}

// indexOf makes the index of a table in memory; nil if there is none or it would take too long.
func indexOf(t *testing.T, l *loading, table *table) *index.Reader {
	t.Helper()
	if table.debug == nil {
		return nil
	}
	var out bytes.Buffer
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p := pace{ctx: t.Context(), units: dwarfsym.NewUnits(1<<20, 100, time.Hour), most: time.Second, at: cputime.Thread()}
	err := write(index.NewWriter(&out, index.Key{}, 4<<20), table, table.debug, p, l.names)
	switch {
	case errors.Is(err, errTooSlow), errors.Is(err, index.ErrTooLarge), errors.Is(err, errIndexed):
		return nil
	case err != nil:
		t.Fatal(err)
	}
	r, err := index.Open(bytes.NewReader(out.Bytes()), int64(out.Len()), index.Key{}, index.NewCache(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return r
}
