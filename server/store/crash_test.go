// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/disktest"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
)

// crashDir is set in the child that TestKill starts: it appends profiles there, and prints
// each one that is acknowledged, until it is killed. crashRound makes them differ.
const (
	crashDir   = "FLEETPROF_TEST_CRASH_DIR"
	crashRound = "FLEETPROF_TEST_CRASH_ROUND"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		appendUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// numbered is a profile of one sample, so old that blocks of it are folded, or young enough that
// they are only merged.
func numbered(name string) *profile.Profile {
	age := 3 * time.Hour
	if strings.HasSuffix(name, "1") {
		age = 20 * time.Minute
	}
	return profiletest.New(time.Now().Add(-age), profiletest.Sample{Stack: "main;work", Labels: map[string]string{"n": name}, Count: 1})
}

// appendUntilKilled appends from four goroutines while the head is sealed and blocks are
// merged all the time.
func appendUntilKilled(dir string) {
	s, err := tryOpen(nil, dir, store.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	failed := make(chan error)
	for g := range 4 {
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%s-%d-%d", os.Getenv(crashRound), g, i)
				if err := s.append(numbered(name)); err != nil {
					failed <- err
				}
				fmt.Println(name)
			}
		}()
	}
	go func() {
		for {
			if err := s.Seal(context.Background()); err != nil {
				failed <- err
			}
			s.Compact(context.Background(), time.Now())
		}
	}()
	fmt.Fprintln(os.Stderr, <-failed)
	os.Exit(1)
}

// TestKill kills a process amid all it does, twenty times on one directory, and expects all
// that was acknowledged to be there, once.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for round := range 20 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crashDir+"="+dir, fmt.Sprint(crashRound, "=", round))
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 10 + 3*round {
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
	stored := s.all()
	for name := range acknowledged {
		if key := "n=" + name + " work;main"; stored[key] == [2]int64{} {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
	for key, v := range stored {
		if v != [2]int64{1, profiletest.Period} {
			t.Errorf("%s is there %d times", key, v[0])
		}
	}
	t.Logf("%d profiles were acknowledged, %d are stored", len(acknowledged), len(stored))
}

// bulky makes a profile that takes some 25 kB however it is compressed.
func bulky(now time.Time) *profile.Profile {
	chance := make([]byte, 25_000)
	_, _ = rand.Read(chance) // never fails
	return profiletest.New(now.Add(-time.Minute), profiletest.Sample{Stack: "main;" + hex.EncodeToString(chance), Count: 1})
}

// A full disk loses nothing that was acknowledged, and the store goes on when there is space.
func TestDiskFull(t *testing.T) {
	dir := disktest.Tiny(t, 1<<20)
	s := open(t, dir, store.Options{})
	now := time.Now()
	var kept []*profile.Profile
	var tooMuch *profile.Profile
	var err error
	for err == nil && len(kept) < 1000 {
		p := bulky(now)
		if err = s.append(p); err == nil {
			kept = append(kept, p)
		} else {
			tooMuch = p
		}
	}
	if !errors.Is(err, store.ErrFull) || len(kept) == 0 {
		t.Fatalf("%d profiles were stored, then %v", len(kept), err)
	}
	for range 3 { // another may be some bytes smaller, and fit
		if err := s.append(tooMuch); !errors.Is(err, store.ErrFull) {
			t.Fatalf("trying again gives %v", err)
		}
	}
	s.want(truth(kept...))
	if s.metric("failed_total", "") != 4 {
		t.Errorf("%v failed", s.metric("failed_total", ""))
	}
	if logs := files(t, filepath.Join(dir, "wal")); len(logs) != 1 {
		t.Errorf("logs are %q, want the one that has records", logs)
	}
	ballast := filepath.Join(dir, "tmp", "ballast") // to the last page
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := s.Writable(); !errors.Is(err, store.ErrFull) {
		t.Errorf("writable: %v", err)
	}
	if err := s.Seal(t.Context()); !errors.Is(err, store.ErrFull) {
		t.Errorf("seal: %v", err)
	}
	s.want(truth(kept...))
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=16M"); err != nil {
		t.Fatal(err)
	}
	more := bulky(now)
	s.mustAppend(more)
	s.mustSeal()
	kept = append(kept, more)
	s.want(truth(kept...))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, store.Options{})
	s.want(truth(kept...))
}
