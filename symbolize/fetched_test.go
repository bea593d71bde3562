// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// arrivals are DebugFiles of a test: the paths of those that have come.
type arrivals struct {
	mu            sync.Mutex
	paths         map[string]string
	asked, opened map[string]int
}

func newArrivals() *arrivals {
	return &arrivals{paths: make(map[string]string), asked: make(map[string]int), opened: make(map[string]int)}
}

func (a *arrivals) Available(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked[id]++
	return a.paths[id] != ""
}

func (a *arrivals) Open(id string) (*os.File, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opened[id]++
	return os.Open(a.paths[id])
}

func (a *arrivals) arrive(id, path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.paths[id] = path
}

// split strips a program and gives the path of its debug file.
func split(t *testing.T, path string) (debug string) {
	t.Helper()
	debug = path + ".debug"
	for _, args := range [][]string{{"--only-keep-debug", path, debug}, {"-S", path, path}} {
		if out, err := exec.Command("objcopy", args...).CombinedOutput(); err != nil {
			t.Fatalf("objcopy %v: %v\n%s", args, err, out)
		}
	}
	return debug
}

// inner is a function of testdata that no stripped program exports, main, as a location of each object.
func inner(t *testing.T, p *program, objects []*sample.Object) (locations []sample.Location) {
	t.Helper()
	for _, o := range objects {
		locations = append(locations, sample.Location{Object: o, Offset: p.at(t, p.symbols["main"].Value).Offset})
	}
	return locations
}

// TestDebugFileArrives names code by its address until the debug file is there, then anew, for every
// object with that file.
func TestDebugFileArrives(t *testing.T) {
	path := compile(t, "gcc", "-Wl,--build-id", "elfsym/testdata/zoo.c")
	p := openProgram(t, path)
	id, debug := buildIDOf(t, p), split(t, path)
	fetched, files := newArrivals(), &paths{}
	s := newSymbolizer(t, Options{Files: files, DebugFiles: fetched})
	locations := inner(t, p, copies(t, path, 3))
	expect := func(name string) {
		t.Helper()
		for _, l := range locations {
			if got := s.Symbolize(l); got.Frames[0].Function != name || got.Segment.BuildID != id {
				t.Errorf("%s is %+v, want %s", l.Object.Path, got, name)
			}
		}
	}
	unnamed := fmt.Sprintf("copy+0x%x", p.symbols["main"].Value)
	expect(unnamed)
	opened := files.opened.Load()
	expect(unnamed)
	if n := files.opened.Load(); n != opened || fetched.asked[id] == 0 {
		t.Errorf("opened %d times while nothing comes, asked %d times", n-opened, fetched.asked[id])
	}
	fetched.arrive(id, debug)
	expect("main")
	if _, n := s.cache.usage(); n != 1 {
		t.Errorf("%d tables, want 1", n)
	}
	if n := openFiles(t, "/copy") + openFiles(t, "/program.debug"); n != 2 {
		t.Errorf("%d files are open, want 2", n)
	}
	opened, asked := files.opened.Load(), fetched.asked[id]
	expect("main")
	if files.opened.Load() != opened || fetched.asked[id] != asked {
		t.Error("what is named is looked for again")
	}
}

// closing opens files until they are gone, as those of processes are that have ended.
type closing struct {
	paths
	gone  atomic.Bool
	tries atomic.Int64 // since then
}

func (c *closing) Open(o *sample.Object) (*os.File, error) {
	if c.gone.Load() {
		c.tries.Add(1)
		return nil, os.ErrClosed
	}
	return c.paths.Open(o)
}

// TestDebugFileComesLate leaves names as they were while an object cannot be opened.
func TestDebugFileComesLate(t *testing.T) {
	path := compile(t, "gcc", "-Wl,--build-id", "-rdynamic", "elfsym/testdata/zoo.c")
	p := openProgram(t, path)
	id, debug := buildIDOf(t, p), split(t, path)
	files, fetched := &closing{}, newArrivals()
	s := newSymbolizer(t, Options{Files: files, DebugFiles: fetched})
	now := time.Now()
	s.cache.now = func() time.Time { return now }
	location := inner(t, p, copies(t, path, 1))[0] // exported by -rdynamic
	named := func() {
		t.Helper()
		if got := s.Symbolize(location).Frames[0].Function; got != "main" {
			t.Errorf("main is %s", got)
		}
	}
	named()
	files.gone.Store(true)
	fetched.arrive(id, debug)
	named()
	named()
	if tries, opened := files.tries.Load(), fetched.opened[id]; tries != 1 || opened != 0 {
		t.Errorf("the object was opened %d times, want 1, its debug file %d times, want 0", tries, opened)
	}
	files.gone.Store(false)
	now = now.Add(retryInterval)
	named()
	if n := fetched.opened[id]; n != 1 {
		t.Errorf("the debug file is opened %d times later, want 1", n)
	}
}

// TestWrongDebugFile is told once, and the names stay as they were.
func TestWrongDebugFile(t *testing.T) {
	path, other := compile(t, "gcc", "-Wl,--build-id", "elfsym/testdata/zoo.c"), compile(t, "gcc", "-O2", "-Wl,--build-id", "elfsym/testdata/zoo.c")
	p := openProgram(t, path)
	id, fetched := buildIDOf(t, p), newArrivals()
	split(t, path)
	fetched.arrive(id, other)
	s := newSymbolizer(t, Options{DebugFiles: fetched})
	for range 3 {
		if got := s.Symbolize(inner(t, p, []*sample.Object{p.object})[0]).Frames[0].Function; !strings.HasPrefix(got, "program+0x") {
			t.Errorf("main is %s", got)
		}
	}
	if n := counter(t, s.metrics.failures.WithLabelValues(reasonDebugFile)); n != 1 {
		t.Errorf("told %v times", n)
	}
}

// TestNotAskedFor has files that need no debug file from elsewhere.
func TestNotAskedFor(t *testing.T) {
	golang := compile(t, "go", "-ldflags=-s -w -B=0x"+strings.Repeat("ab", 20), "./gosym/testdata/plain")
	short := compile(t, "gcc", "-Wl,--build-id=0x00112233445566", "elfsym/testdata/zoo.c")
	split(t, short)
	beside := compile(t, "gcc", "-Wl,--build-id", "elfsym/testdata/zoo.c")
	if out, err := exec.Command("objcopy", "--add-gnu-debuglink="+split(t, beside), beside).CombinedOutput(); err != nil {
		t.Fatalf("objcopy: %v\n%s", err, out)
	}
	for name, path := range map[string]string{
		"with symbols": compile(t, "gcc", "-Wl,--build-id", "elfsym/testdata/zoo.c"),
		"Go":           golang,
		"short":        short,
		"debug file":   beside,
	} {
		file, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		p := &program{File: file, object: &sample.Object{Kind: sample.File, Path: path}}
		if buildIDOf(t, p) == "" {
			t.Errorf("%s: no build ID", name)
		}
		fetched := newArrivals()
		s := newSymbolizer(t, Options{DebugFiles: fetched})
		s.Symbolize(p.at(t, p.Section(".text").Addr))
		if len(fetched.asked) != 0 {
			t.Errorf("%s: asked for %v", name, fetched.asked)
		}
	}
}
