// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server/store"
)

// opened is a store with what can be observed of it.
type opened struct {
	*store.Store
	t        testing.TB
	registry *prometheus.Registry
	logs     *bytes.Buffer
}

func open(t testing.TB, dir string, o store.Options) *opened {
	t.Helper()
	s, err := tryOpen(t, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func tryOpen(t testing.TB, dir string, o store.Options) (*opened, error) {
	r, logs := prometheus.NewRegistry(), &bytes.Buffer{}
	o.Registerer, o.Logger = r, slog.New(slog.NewTextHandler(logs, nil))
	s, err := store.Open(dir, o)
	return &opened{s, t, r, logs}, err
}

// metric sums a metric over those of its series that have the label value.
func (s *opened) metric(name, value string) float64 {
	s.t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	sum, found := 0.0, false
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() != "fleetprof_store_"+name || value != "" && m.Label[0].GetValue() != value {
				continue
			}
			found = true
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	if !found {
		s.t.Fatalf("no metric %s %s", name, value)
	}
	return sum
}

const window = 10 * time.Second

// put stores text under a window that starts at start.
func (s *opened) put(start time.Time, text string) error {
	return s.Put(context.Background(), start, start.Add(window), []byte(text))
}

func (s *opened) mustPut(start time.Time, text string) {
	s.t.Helper()
	if err := s.put(start, text); err != nil {
		s.t.Fatal(err)
	}
}

// texts reads all that is selected.
func (s *opened) texts(from, to time.Time) []string {
	s.t.Helper()
	var texts []string
	for _, e := range s.Select(from, to) {
		b, err := s.Read(e)
		if err != nil {
			s.t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	return texts
}

func (s *opened) wantTexts(want string) {
	s.t.Helper()
	if got := strings.Join(s.texts(time.Unix(0, 0), time.Now().Add(time.Hour)), " "); got != want {
		s.t.Errorf("stored are %q, want %q", got, want)
	}
}

// files lists everything below dir that is not a directory.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestSelect(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	base := time.Now().Add(-time.Hour).Truncate(time.Second)
	at := func(seconds int) time.Time { return base.Add(time.Duration(seconds) * time.Second) }
	if _, _, ok := s.Bounds(); ok {
		t.Error("an empty store has bounds")
	}
	for _, i := range []int{20, 0, 10, 30} { // out of order
		s.mustPut(at(i), fmt.Sprint("p", i))
	}
	if err := s.Put(t.Context(), at(-1000), at(2000), []byte("long")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, to int
		want     string
	}{
		{0, 40, "p0 p10 p20 p30 long"},
		{10, 20, "p10 long"}, // half open at both ends
		{9, 21, "p0 p10 p20 long"},
		{15, 16, "p10 long"},
		{-10, 0, "long"},
		{40, 50, "long"},
		{-2000, -1000, ""},
		{2000, 3000, ""},
	} {
		if got := strings.Join(s.texts(at(c.from), at(c.to)), " "); got != c.want {
			t.Errorf("from %d to %d: %q, want %q", c.from, c.to, got, c.want)
		}
	}
	oldest, newest, ok := s.Bounds()
	if !ok || !oldest.Equal(at(0)) || !newest.Equal(at(2000)) {
		t.Errorf("bounds are %v %v %v", oldest, newest, ok)
	}
}

func TestPutTwiceIsOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	start := time.Now().Add(-time.Minute)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { s.mustPut(start, "same") })
	}
	wg.Wait()
	s.mustPut(start, "other")
	if n := len(s.Select(start, start.Add(window))); n != 2 || s.metric("profiles", "") != 2 || s.metric("duplicates_total", "") != 9 {
		t.Errorf("%d profiles, metrics %v and %v", n, s.metric("profiles", ""), s.metric("duplicates_total", ""))
	}
	if got := len(files(t, filepath.Join(dir, "profiles"))); got != 2 {
		t.Errorf("%d files", got)
	}
	if got := files(t, filepath.Join(dir, "tmp")); len(got) != 0 {
		t.Errorf("left over: %q", got)
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	start := time.Now().Add(-time.Minute)
	s.mustPut(start, "one")
	s.mustPut(start.Add(window), "two")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.put(start, "three"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("put after close gives %v", err)
	}
	left := filepath.Join(dir, "tmp", "put-123")
	strange := filepath.Join(dir, "profiles", "notes.txt")
	for _, path := range []string{left, strange} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir, store.Options{})
	s.wantTexts("one two")
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unfinished file is still there: %v", err)
	}
	if _, err := os.Stat(strange); err != nil || !strings.Contains(s.logs.String(), "files=1") {
		t.Errorf("foreign file: %v, logs %s", err, s.logs)
	}
}

func TestRetentionByBytes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{MaxBytes: 3 * 4096})
	start := time.Now().Add(-47 * time.Hour) // two days, so that one directory goes
	for i := range 5 {
		s.mustPut(start.Add(time.Duration(i)*11*time.Hour), fmt.Sprint("p", i))
	}
	s.wantTexts("p2 p3 p4")
	if s.metric("removed_total", "bytes") != 2 || s.metric("removed_total", "age") != 0 || s.metric("bytes", "") != 3*4096 {
		t.Errorf("metrics are %v %v", s.metric("removed_total", "bytes"), s.metric("bytes", ""))
	}
	if got := len(files(t, filepath.Join(dir, "profiles"))); got != 3 {
		t.Errorf("%d files", got)
	}
	days, err := filepath.Glob(filepath.Join(dir, "profiles", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range days {
		if len(files(t, d)) == 0 {
			t.Errorf("empty directory %s", d)
		}
	}
	if err := s.put(start, strings.Repeat("x", 4*4096)); !errors.Is(err, store.ErrRefused) {
		t.Errorf("a profile larger than the store gives %v", err)
	}
	s.wantTexts("p2 p3 p4")
}

func TestRetentionByAge(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	now := time.Now()
	for _, hours := range []int{30, 3, 1} {
		s.mustPut(now.Add(-time.Duration(hours)*time.Hour), fmt.Sprint(hours))
	}
	s.Trim(now.Add(7*24*time.Hour - 20*time.Hour))
	s.wantTexts("3 1")
	if s.metric("removed_total", "age") != 1 {
		t.Errorf("metric is %v", s.metric("removed_total", "age"))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, store.Options{MaxAge: 2 * time.Hour})
	s.wantTexts("1")
	if err := s.put(now.Add(-3*time.Hour), "late"); !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "keeps 2h") {
		t.Errorf("a profile that is too old gives %v", err)
	}
}

func TestDamaged(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	start := time.Now().Add(-time.Minute)
	s.mustPut(start, "bad")
	s.mustPut(start, "good")
	for _, e := range s.Select(start, start.Add(window)) {
		if b, err := s.Read(e); err != nil || string(b) != "bad" {
			continue
		}
		s.Damaged(e, errors.New("broken"))
		s.Damaged(e, errors.New("broken"))
	}
	s.wantTexts("good")
	if s.metric("damaged_total", "") != 1 || strings.Count(s.logs.String(), "damaged") != 1 {
		t.Errorf("metric is %v, logs are %s", s.metric("damaged_total", ""), s.logs)
	}
	s.mustPut(start, "bad") // the sender has it again
	if n := len(s.Select(start, start.Add(window))); n != 2 {
		t.Errorf("%d profiles after it was put again", n)
	}
}

func TestOpenRefuses(t *testing.T) {
	in := func(names ...string) string {
		dir := t.TempDir()
		for i := 0; i < len(names); i += 2 {
			if err := os.WriteFile(filepath.Join(dir, names[i]), []byte(names[i+1]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	used := in()
	open(t, used, store.Options{})
	for _, c := range []struct{ name, dir, want string }{
		{"foreign", in("letter.txt", "dear"), `it holds other files ("letter.txt")`},
		{"other version", in("VERSION", "fleetprof store 2\n"), `it says "fleetprof store 2"`},
		{"no text", in("VERSION", strings.Repeat("\x00", 1<<20)), `it says`},
		{"a file", filepath.Join(in("file", ""), "file"), `--data`},
		{"in use", used, `another fleetprof server uses it`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := tryOpen(t, c.dir, store.Options{})
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			text := err.Error()
			if !strings.Contains(text, c.want) || !strings.Contains(text, c.dir) || !strings.Contains(text, "--data") || strings.Contains(text, "\n") {
				t.Errorf("error is %q", text)
			}
		})
	}
	for _, dir := range []string{in("LOCK", ""), in("LOCK", "", "VERSION.tmp", "flee"), filepath.Join(in(), "new", "deep")} {
		open(t, dir, store.Options{}) // a first start that was interrupted
	}
	if _, err := tryOpen(t, in(), store.Options{MaxBytes: -1}); err == nil {
		t.Error("a negative bound is accepted")
	}
}

func TestPutRefuses(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	now := time.Now()
	for name, span := range map[string][2]time.Time{
		"backwards": {now, now.Add(-time.Second)},
		"long":      {now.Add(-2 * time.Hour), now},
		"far away":  {time.Unix(1<<40, 0), time.Unix(1<<40+1, 0)},
		"ancient":   {time.Unix(-10, 0), time.Unix(-5, 0)},
	} {
		if err := s.Put(t.Context(), span[0], span[1], []byte(name)); !errors.Is(err, store.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, now.Add(-time.Second), now, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
	s.wantTexts("")
}

func TestReadOfRemoved(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	start := time.Now().Add(-time.Minute)
	s.mustPut(start, "gone")
	e := s.Select(start, start.Add(window))
	s.Trim(time.Now().Add(30 * 24 * time.Hour))
	if _, err := s.Read(e[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}

func TestRunEnds(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}
