// SPDX-License-Identifier: Apache-2.0

package debuginfod

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/disktest"
)

// After a restart nobody is asked for what is there, nor for what nobody had.
func TestRestart(t *testing.T) {
	content, dir, nobody := debugFile(t), filepath.Join(t.TempDir(), "state", "debuginfod"), strings.Repeat("ab", 20)
	server := newLibrary(t, map[string][]byte{linkedID: content})
	before := newClient(t, dir, LeastBytes, server.URL).start(t)
	if !before.fetchNow(t, linkedID) || before.fetchNow(t, nobody) {
		t.Fatal("not as the server has it")
	}
	before.end()
	// What a crash leaves, and what is somebody else's.
	for _, name := range []string{nobody + partial, "notes"} {
		if err := os.WriteFile(filepath.Join(dir, name), content[:100], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	after := newClient(t, dir, LeastBytes, server.URL).start(t)
	defer after.end()
	whole(t, dir)
	if _, err := os.Stat(filepath.Join(dir, "notes")); err != nil {
		t.Error(err)
	}
	if bytes, files := after.cache.usage(); bytes != int64(len(content)) || files != 1 {
		t.Errorf("%d bytes in %d files", bytes, files)
	}
	sameContent(t, after, content)
	after.fetchNow(t, nobody)
	if server.times(linkedID) != 1 || server.times(nobody) != 1 {
		t.Errorf("asked %d and %d times, want once", server.times(linkedID), server.times(nobody))
	}
	after.clock.advance(absentFor + time.Minute)
	after.fetchNow(t, nobody)
	if server.times(nobody) != 2 {
		t.Errorf("asked %d times after hours, want 2", server.times(nobody))
	}
}

// Files give way that were not opened for the longest time, also if that was before a restart, and
// are not fetched again at once.
func TestEviction(t *testing.T) {
	files, ids := map[string][]byte{}, make([]string, 5)
	content := debugFile(t)
	for i := range ids {
		ids[i] = fmt.Sprintf("%040x", i+1)
		files[ids[i]] = another(t, content, ids[i])
	}
	server, dir := newLibrary(t, files), t.TempDir()
	limit := 4 * int64(len(content)) // three, and the one that is fetched
	client := newClient(t, dir, limit, server.URL).start(t)
	open := func(id string) {
		t.Helper()
		f, err := client.Open(id)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	expect := func(want ...int) {
		t.Helper()
		var got []int
		for i, id := range ids {
			there, _ := client.cache.look(id)
			onDisk, err := os.Stat(filepath.Join(dir, id+suffix))
			if there != (err == nil && onDisk.Size() > 0) {
				t.Errorf("file %d: there %v, on disk %v", i, there, onDisk)
			}
			if there {
				got = append(got, i)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("there are %v, want %v", got, want)
		}
		if bytes, n := client.cache.usage(); bytes != int64(n*len(content)) || n != len(want) {
			t.Errorf("%d bytes in %d files", bytes, n)
		}
	}
	for _, id := range ids[:3] {
		client.fetchNow(t, id)
		client.clock.advance(time.Minute)
	}
	expect(0, 1, 2)
	open(ids[0])
	client.clock.advance(time.Minute)
	client.fetchNow(t, ids[3])
	expect(0, 2, 3)
	client.fetchNow(t, ids[1])
	if n := server.times(ids[1]); n != 1 {
		t.Errorf("a file that had to go is fetched %d times", n)
	}
	client.clock.advance(time.Minute)
	open(ids[0])
	open(ids[3])
	now := client.clock.read()
	client.end()

	client = newClient(t, dir, limit, server.URL)
	client.clock.now = now.Add(time.Minute)
	client.start(t)
	defer client.end()
	client.fetchNow(t, ids[4])
	expect(0, 3, 4)
	if n := testutil.ToFloat64(client.metrics.evicted); n != 1 {
		t.Errorf("%v are counted", n)
	}
}

// What is remembered is bounded, and what is there is not given up for it.
func TestManyAbsent(t *testing.T) {
	content := debugFile(t)
	server, dir := newLibrary(t, map[string][]byte{linkedID: content}), t.TempDir()
	client := newClient(t, dir, LeastBytes, server.URL).start(t)
	client.fetchNow(t, linkedID)
	client.end()
	client = newClient(t, dir, LeastBytes, server.URL)
	for i := range maxEntries + 10 {
		client.clock.advance(time.Millisecond)
		client.cache.miss(fmt.Sprintf("%040x", i+1), i%2 == 0)
	}
	if n := len(client.cache.entries); n != maxEntries {
		t.Errorf("%d are remembered", n)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > maxEntries {
		t.Errorf("%d files, %v", len(names), err)
	}
	sameContent(t, client, content)
}

// A file that somebody has changed or removed is not taken, and fetched again later.
func TestDamagedFile(t *testing.T) {
	content := debugFile(t)
	for name, damage := range map[string]func(path string) error{
		"removed": os.Remove,
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"another": func(path string) error {
			return os.WriteFile(path, another(t, content, strings.Repeat("ab", 20)), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, dir := newLibrary(t, map[string][]byte{linkedID: content}), t.TempDir()
			client := newClient(t, dir, LeastBytes, server.URL).start(t)
			defer client.end()
			client.fetchNow(t, linkedID)
			if err := damage(filepath.Join(dir, linkedID+suffix)); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Open(linkedID); err == nil || client.Available(linkedID) {
				t.Errorf("it is opened: %v", err)
			}
			client.clock.advance(failedFor)
			if !client.fetchNow(t, linkedID) {
				t.Error("not fetched again")
			}
			sameContent(t, client, content)
		})
	}
}

// A full disk is told and left alone for a while; when there is room, files come.
func TestDiskFull(t *testing.T) {
	dir, content := disktest.Tiny(t, 64<<10), debugFile(t)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	server := newLibrary(t, map[string][]byte{linkedID: content})
	client := newClient(t, dir, LeastBytes, server.URL).start(t)
	defer client.end()
	if client.fetchNow(t, linkedID) || client.requests(unwritable) != 1 {
		t.Errorf("%d requests found the disk full", client.requests(unwritable))
	}
	whole(t, dir)
	client.fetchNow(t, strings.Repeat("ab", 20))
	if n := server.times(strings.Repeat("ab", 20)); n != 0 {
		t.Errorf("a server was asked %d times for what has no place", n)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	client.clock.advance(failedFor)
	if !client.fetchNow(t, linkedID) {
		t.Error("not fetched when there is room")
	}
}

// A directory that cannot be had is an error at the start.
func TestNoDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Dir: filepath.Join(path, "debuginfod"), Bytes: LeastBytes}); err == nil {
		t.Error("a file is taken for a directory")
	}
}
