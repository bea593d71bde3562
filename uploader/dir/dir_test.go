// SPDX-License-Identifier: Apache-2.0

package dir_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/uploader/dir"
)

var begin = time.Date(2026, 11, 22, 14, 0, 0, 5e6, time.FixedZone("", 3600))

func names(t *testing.T, path string) []string {
	t.Helper()
	files, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

func TestSend(t *testing.T) {
	path := t.TempDir()
	d, err := dir.New(path)
	if err != nil {
		t.Fatal(err)
	}
	if d.String() != "dir:"+path {
		t.Errorf("the destination is called %s", d)
	}
	for i, text := range []string{"first", "second"} {
		if err := d.Send(t.Context(), sample.Profile{Start: begin, PProf: []byte(text)}); err != nil {
			t.Fatal(err)
		}
		want := filepath.Join(path, []string{"20261122T130000.005Z-0.pb.gz", "20261122T130000.005Z-1.pb.gz"}[i])
		info, err := os.Stat(want)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(want); err != nil || string(b) != text || info.Mode() != 0o644 {
			t.Errorf("%s is %q %v, %v", want, b, info.Mode(), err)
		}
	}
	if got := names(t, path); len(got) != 2 {
		t.Errorf("files are %q", got)
	}
}

// Exemplars have the name of their profile.
func TestExemplars(t *testing.T) {
	path := t.TempDir()
	d, err := dir.New(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, exemplars := range []string{"", "two", "three"} {
		p := sample.Profile{Start: begin, PProf: []byte("profile")}
		if exemplars != "" {
			p.Exemplars = []byte(exemplars)
		}
		if err := d.Send(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	const stem = "20261122T130000.005Z-"
	want := []string{stem + "0.pb.gz", stem + "1.exemplars.json.gz", stem + "1.pb.gz", stem + "2.exemplars.json.gz", stem + "2.pb.gz"}
	if got := names(t, path); !slices.Equal(got, want) {
		t.Errorf("files are %q, want %q", got, want)
	}
	file := filepath.Join(path, stem+"2.exemplars.json.gz")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "three" || info.Mode() != 0o644 {
		t.Errorf("exemplars are %q %v, %v", b, info.Mode(), err)
	}
}

// TestConcurrent writes the same window from two destinations at once, as two
// agents would.
func TestConcurrent(t *testing.T) {
	path := t.TempDir()
	var wg sync.WaitGroup
	for range 2 {
		d, err := dir.New(path)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for range 20 {
				if err := d.Send(context.Background(), sample.Profile{Start: begin, PProf: []byte("x")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := names(t, path); len(got) != 40 {
		t.Errorf("%d files, want 40", len(got))
	}
}

func TestErrors(t *testing.T) {
	path := t.TempDir()
	file := filepath.Join(path, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{file, filepath.Join(path, "missing"), ""} {
		if _, err := dir.New(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	gone := filepath.Join(path, "gone")
	if err := os.Mkdir(gone, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := dir.New(gone)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	if err := d.Send(t.Context(), sample.Profile{Start: begin}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is gone: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Send(ctx, sample.Profile{Start: begin}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}
