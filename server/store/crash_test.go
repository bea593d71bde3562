// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/server/store"
)

// crashDir is set in the child that TestKill starts: it puts profiles there,
// and prints each one that is acknowledged, until it is killed.
const crashDir = "FLEETPROF_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		putUntilKilled(dir)
	}
	os.Exit(m.Run())
}

func putUntilKilled(dir string) {
	s, err := tryOpen(nil, dir, store.Options{})
	for i := 0; err == nil; i++ {
		text := fmt.Sprint("profile-", i)
		err = s.put(time.Now().Add(-time.Minute), text+strings.Repeat(" ", 100_000))
		if err == nil {
			fmt.Println(text)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKill kills a process amid its puts, several times on one directory, and
// expects all that was acknowledged to be there, whole.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for round := range 5 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crashDir+"="+dir)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 10 + round {
			if !lines.Scan() {
				t.Fatal("the child has ended by itself")
			}
			acknowledged[lines.Text()] = true
		}
		if err := child.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // acknowledged before the signal arrived
			acknowledged[lines.Text()] = true
		}
		var exit *exec.ExitError
		if err := child.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("the child ended with %v", err)
		}
	}
	s := open(t, dir, store.Options{})
	stored := map[string]bool{}
	for _, text := range s.texts(time.Unix(0, 0), time.Now()) {
		if len(text) < 100_000 {
			t.Errorf("a stored profile has %d bytes", len(text))
		}
		stored[strings.TrimSpace(text)] = true
	}
	for text := range acknowledged {
		if !stored[text] {
			t.Errorf("%s was acknowledged and is lost", text)
		}
	}
	if got := files(t, filepath.Join(dir, "tmp")); len(got) != 0 {
		t.Errorf("left over: %q", got)
	}
}

// tinyDisk mounts a file system of so many bytes, or skips the test where that
// is not allowed.
func tinyDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes))
	if errors.Is(err, unix.EPERM) {
		t.Skip("mounting a file system is not permitted")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestDiskFull(t *testing.T) {
	dir := tinyDisk(t, 1<<20)
	s := open(t, dir, store.Options{})
	start := time.Now().Add(-time.Hour)
	large := strings.Repeat("x", 300_000)
	var err error
	stored := 0
	for i := 0; err == nil && i < 10; i++ {
		if err = s.put(start.Add(time.Duration(i)*window), fmt.Sprint(i)+large); err == nil {
			stored++
		}
	}
	if !errors.Is(err, store.ErrFull) || stored != 3 {
		t.Fatalf("%d profiles were stored, then %v", stored, err)
	}
	if got := files(t, filepath.Join(dir, "tmp")); len(got) != 0 {
		t.Errorf("left over: %q", got)
	}
	if got := len(s.texts(start, time.Now())); got != stored || s.metric("failed_total", "") != 1 {
		t.Errorf("%d profiles can be read, %v failed", got, s.metric("failed_total", ""))
	}
	// To the last page, where not even the probe fits.
	ballast := filepath.Join(dir, "tmp", "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := s.Writable(); !errors.Is(err, store.ErrFull) {
		t.Errorf("writable: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := s.Writable(); err != nil {
		t.Errorf("writable: %v", err)
	}
	s.mustPut(start, "small")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, store.Options{MaxBytes: 500_000}) // a smaller bound makes room
	s.mustPut(start.Add(20*time.Minute), large)
}
