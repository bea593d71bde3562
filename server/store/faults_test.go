// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/server/store"
)

// asUser calls f on a thread without capabilities, to which the modes of files apply even if
// the test runs as root.
func asUser(f func() error) error {
	ended := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			ended <- err
			return
		}
		ended <- f()
	}()
	return <-ended
}

// A block that has its name, but of which it is not sure that it keeps it, is taken back: what
// is in it still is in the log, or in the blocks that it was made from, and would count twice.
func TestBlockTakenBack(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	s := open(t, dir, store.Options{})
	blocks, profiles := filepath.Join(dir, "blocks"), fleet(4, now)
	// The directory can be written to, and cannot be opened to be synced.
	failing := func(f func() error) error {
		t.Helper()
		if err := os.Chmod(blocks, 0o300); err != nil {
			t.Fatal(err)
		}
		err := asUser(f)
		if err := os.Chmod(blocks, 0o700); err != nil {
			t.Fatal(err)
		}
		return err
	}
	wantBlocks := func(n int) {
		t.Helper()
		all, err := os.ReadDir(blocks)
		if err != nil || len(all) != n {
			t.Errorf("%d blocks are there, want %d: %v", len(all), n, err)
		}
		s.want(truth(profiles...))
		if left := files(t, filepath.Join(dir, "tmp")); len(left) != 0 {
			t.Errorf("%q are left over", left)
		}
	}
	reopen := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, store.Options{})
	}
	s.mustAppend(profiles[:4]...)
	s.mustSeal()
	s.mustAppend(profiles[4:]...)
	if err := failing(func() error { return s.Seal(t.Context()) }); !errors.Is(err, fs.ErrPermission) {
		t.Fatalf("seal gives %v", err)
	}
	wantBlocks(1)
	reopen()
	wantBlocks(1)
	s.mustSeal()
	wantBlocks(2)
	_ = failing(func() error { s.Compact(t.Context(), now.Add(5*time.Hour)); return nil })
	if got := s.metric("compact_failed_total", ""); got != 1 {
		t.Errorf("%v merges have failed, want 1", got)
	}
	wantBlocks(2)
	reopen()
	s.Compact(t.Context(), now.Add(5*time.Hour))
	wantBlocks(1)
}

// A block that was damaged and is whole again, since somebody has restored it, takes nothing of
// what was stored in between along: its last log was unknown then.
func TestBlockRestored(t *testing.T) {
	dir, all := t.TempDir(), fleet(3, time.Now())
	s := open(t, dir, store.Options{})
	reopen := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, store.Options{})
	}
	for _, p := range all[:3] {
		s.mustAppend(p)
		s.mustSeal()
	}
	meta, err := filepath.Glob(filepath.Join(dir, "blocks", "*", "meta.json"))
	if err != nil || len(meta) != 3 {
		t.Fatalf("blocks are %q, %v", meta, err)
	}
	for _, path := range meta {
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
	}
	reopen()
	s.want(sums{})
	s.mustAppend(all[3:5]...)
	reopen()
	s.mustAppend(all[5])
	s.want(truth(all[3:]...))
	for _, path := range meta {
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
	reopen()
	s.want(truth(all...))
}
