// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func counter(t testing.TB, c prometheus.Collector) float64 {
	t.Helper()
	return testutil.ToFloat64(c)
}

// copies makes n copies of a file, as container images do.
func copies(t testing.TB, path string, n int) []*sample.Object {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	objects := make([]*sample.Object, n)
	for i := range objects {
		p := filepath.Join(t.TempDir(), "copy")
		if err := os.WriteFile(p, b, 0o700); err != nil {
			t.Fatal(err)
		}
		objects[i] = &sample.Object{Kind: sample.File, Path: p}
	}
	return objects
}

// openFiles lists the files below a directory that this process has open.
func openFiles(t testing.TB, suffix string) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	n := 0
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasSuffix(to, suffix) {
			n++
		}
	}
	return n
}

// TestSharedTable has one file under many objects and paths.
func TestSharedTable(t *testing.T) {
	path := compile(t, "gcc", "elfsym/testdata/zoo.c")
	p := openProgram(t, path)
	offset := p.at(t, p.symbols["main"].Value).Offset
	files := &paths{}
	s := newSymbolizer(t, Options{Files: files})
	objects := copies(t, path, 5)
	for _, o := range objects {
		for range 3 {
			if got := s.Symbolize(sample.Location{Object: o, Offset: offset}).Frames[0].Function; got != "main" {
				t.Errorf("%s: %s", o.Path, got)
			}
		}
	}
	if _, n := s.cache.usage(); n != 1 {
		t.Errorf("%d tables, want 1", n)
	}
	if n := files.opened.Load(); n != 5 {
		t.Errorf("opened %d times, want 5", n)
	}
	if n := openFiles(t, "/copy"); n != 1 {
		t.Errorf("%d files are open, want 1", n)
	}
	if n := counter(t, s.metrics.cacheHits); n != 10 {
		t.Errorf("%v cache hits, want 10", n)
	}
	s.Close()
	if n := openFiles(t, "/copy"); n != 0 {
		t.Errorf("%d files are open after Close", n)
	}
	if got := s.Symbolize(sample.Location{Object: objects[0], Offset: offset + 1}); len(got.Frames) != 1 {
		t.Errorf("after Close: %+v", got)
	}
}

// TestNoBuildID keeps files apart that nothing but the inode tells apart.
func TestNoBuildID(t *testing.T) {
	path := compile(t, "gcc", "-Wl,--build-id=none", "elfsym/testdata/zoo.c")
	s := newSymbolizer(t, Options{})
	for _, o := range copies(t, path, 3) {
		s.Symbolize(sample.Location{Object: o, Offset: 0x1000})
	}
	if _, n := s.cache.usage(); n != 3 {
		t.Errorf("%d tables, want 3", n)
	}
}

// TestBound has more tables than fit; lookups must not notice.
func TestBound(t *testing.T) {
	path := compile(t, "gcc", "-static", "-Wl,--build-id=none", "elfsym/testdata/zoo.c")
	p := openProgram(t, path)
	offset := p.at(t, p.symbols["main"].Value).Offset
	const limit = 200 << 10
	s := newSymbolizer(t, Options{TableBytes: limit})
	objects := copies(t, path, 20)
	var wait sync.WaitGroup
	for w := range 8 {
		wait.Go(func() {
			for i := range 200 {
				loc := sample.Location{Object: objects[(i*7+w)%len(objects)], Offset: offset + uint64(i%8)}
				if got := s.Symbolize(loc).Frames[0].Function; got != "main" {
					t.Errorf("main is %s", got)
				}
				if n, _ := s.cache.usage(); n > limit {
					t.Errorf("tables take %d bytes", n)
				}
			}
		})
	}
	wait.Wait()
	bytes, tables := s.cache.usage()
	if tables < 1 || tables > 10 || openFiles(t, "/copy") != tables {
		t.Errorf("%d tables of %d bytes with %d open files", tables, bytes, openFiles(t, "/copy"))
	}
}

// flaky fails until it is told not to.
type flaky struct {
	paths
	broken bool
}

func (f *flaky) Open(o *sample.Object) (*os.File, error) {
	if f.broken {
		f.opened.Add(1)
		return nil, errors.New("gone")
	}
	return f.paths.Open(o)
}

func TestRetry(t *testing.T) {
	p := openProgram(t, compile(t, "gcc", "elfsym/testdata/zoo.c"))
	loc := p.at(t, p.symbols["main"].Value)
	files := &flaky{broken: true}
	s := newSymbolizer(t, Options{Files: files})
	now := time.Now()
	s.cache.now = func() time.Time { return now }
	for range 5 {
		if got, want := s.Symbolize(loc).Frames[0].Function, fmt.Sprintf("program+%#x", loc.Offset); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if n := files.opened.Load(); n != 1 {
		t.Errorf("tried %d times", n)
	}
	if n := counter(t, s.metrics.failures.WithLabelValues(reasonOpen)); n != 1 {
		t.Errorf("%v failures counted", n)
	}
	files.broken = false
	now = now.Add(retryInterval)
	if got := s.Symbolize(loc).Frames[0].Function; got != "main" {
		t.Errorf("%s after the interval passed", got)
	}
}

func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "script")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := newSymbolizer(t, Options{})
	for path, want := range map[string]string{text: "script+0x10", dir: filepath.Base(dir) + "+0x10"} {
		o := &sample.Object{Kind: sample.File, Path: path}
		if got := s.Symbolize(sample.Location{Object: o, Offset: 16}).Frames[0].Function; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if n := counter(t, s.metrics.failures.WithLabelValues(reasonHeaders)); n != 2 {
		t.Errorf("%v failures counted", n)
	}
	if n := openFiles(t, "/script"); n != 0 {
		t.Errorf("%d files are open", n)
	}
}

// TestResultBytes has names so long that fewer results fit than their number
// allows.
func TestResultBytes(t *testing.T) {
	s := newSymbolizer(t, Options{Files: nothing{}, Results: 100})
	o := &sample.Object{Kind: sample.VDSO, Path: strings.Repeat("x", 2000)}
	for i := range uint64(1000) {
		s.Symbolize(sample.Location{Object: o, Offset: i})
	}
	if n, cost := s.results.Len(), s.results.Cost(); n > 30 || n < 10 || cost > 100*resultBytes {
		t.Errorf("%d results of %d bytes kept", n, cost)
	}
}
