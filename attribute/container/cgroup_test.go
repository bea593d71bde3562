// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// hierarchies are those of this host in which a test can make cgroups.
func hierarchies(t *testing.T) []Hierarchy {
	t.Helper()
	all, err := mounted(proc)
	if err != nil {
		t.Fatal(err)
	}
	var usable []Hierarchy
	for _, h := range all {
		// A cpuset takes no process before its CPUs are set.
		if h.Controller != "cpuset" && unix.Access(h.MountPoint, unix.W_OK) == nil && writable(h) {
			usable = append(usable, h)
		}
	}
	if len(usable) == 0 {
		t.Skip("needs root and a writable cgroup hierarchy")
	}
	return usable
}

func writable(h Hierarchy) bool {
	dir, err := os.MkdirTemp(h.MountPoint, "fleetprof-test-")
	return err == nil && os.Remove(dir) == nil
}

// cgroup is a cgroup made by a test.
type cgroup struct {
	dir string
	id  uint64
}

// newCgroup makes the cgroup path below a directory of the test's own, and
// removes both when the test is over.
func newCgroup(t *testing.T, h Hierarchy, path string) cgroup {
	t.Helper()
	top, err := os.MkdirTemp(h.MountPoint, "fleetprof-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeCgroup(t, top) })
	return makeCgroup(t, filepath.Join(top, path))
}

func makeCgroup(t *testing.T, dir string) cgroup {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	return cgroup{dir: dir, id: st.Ino}
}

// removeCgroup removes a cgroup and those below it. Processes that have ended
// can keep a cgroup busy for a moment.
func removeCgroup(t *testing.T, dir string) {
	t.Helper()
	below, err := filepath.Glob(filepath.Join(dir, "*", "cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range below {
		removeCgroup(t, filepath.Dir(file))
	}
	for {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return
		}
		if !errors.Is(err, unix.EBUSY) {
			t.Fatalf("remove %s: %v", dir, err)
		}
		runtime.Gosched()
	}
}

// start runs a process inside a cgroup; stop ends and reaps it.
func (c cgroup) start(t *testing.T) (pid uint32, stop func()) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(stop)
	procs := filepath.Join(c.dir, "cgroup.procs")
	if err := os.WriteFile(procs, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	return uint32(cmd.Process.Pid), stop
}

// asUnprivileged runs f on a thread that may not open file handles. The thread
// ends with f.
func asUnprivileged(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not to be used again
		err := dropCapabilities()
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
