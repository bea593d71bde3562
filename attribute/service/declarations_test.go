// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/sample"
)

// patience is how long tests wait for what takes microseconds.
const patience = 10 * time.Second

func newDeclarations(t *testing.T, size int) *Declarations {
	t.Helper()
	d := NewDeclarations(procfs.New("/proc"), size, prometheus.NewRegistry())
	go d.Run(t.Context())
	return d
}

// sleeper is a process of `sleep` with an environment.
func sleeper(t *testing.T, environ ...string) sample.Process {
	t.Helper()
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "600")
	cmd.Env = environ
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil { // returns when it executes the program
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	executable, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return sample.Process{PID: uint32(cmd.Process.Pid), Executable: filepath.Base(executable)}
}

func TestDeclarations(t *testing.T) {
	d := newDeclarations(t, 100)
	p := sleeper(t, "PATH=/bin", "OTEL_SERVICE_NAME=shop")
	p.Execution = 7
	if name, known := d.Of(7); name != "" || known {
		t.Errorf("before it was met: %q, %v", name, known)
	}
	if got := d.Wait(p, patience); got != "shop" {
		t.Errorf("declared %q, want shop", got)
	}
	for range 100 {
		d.Meet(p)
	}
	if got := testutil.ToFloat64(d.metrics.read); got != 1 {
		t.Errorf("read %v times, want once", got)
	}
	if name, known := d.Of(0); name != "" || !known {
		t.Errorf("no process: %q, %v", name, known)
	}
}

// What a number stands for by now is not what it stood for.
func TestDeclarationsOfAnother(t *testing.T) {
	d := newDeclarations(t, 100)
	p := sleeper(t, "OTEL_SERVICE_NAME=shop")
	p.Execution, p.Executable = 1, "sh"
	for deadline := time.Now().Add(patience); ; {
		d.Meet(p)
		name, known := d.Of(1)
		if name != "" {
			t.Errorf("a program that is not executed any more declares %q", name)
		}
		if known {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is asked for again and again")
		}
	}
	if got := testutil.ToFloat64(d.metrics.changed); got != maxTries {
		t.Errorf("read %v times, want %d", got, maxTries)
	}
}

func TestDeclarationsFail(t *testing.T) {
	d := newDeclarations(t, 100)
	long := make([]string, 3) // of 128 KiB at most, see execve(2)
	for i := range long {
		long[i] = string(rune('A'+i)) + "=" + strings.Repeat("a", 100<<10)
	}
	large := sleeper(t, append(long, "OTEL_SERVICE_NAME=shop")...)
	large.Execution = 1
	gone := sample.Process{PID: 1 << 30, Execution: 2, Executable: "sleep"}
	for _, p := range []sample.Process{large, gone} {
		if got := d.Wait(p, patience); got != "" {
			t.Errorf("%+v declares %q", p, got)
		}
	}
	if f, g := testutil.ToFloat64(d.metrics.failed), testutil.ToFloat64(d.metrics.gone); f != 1 || g != 1 {
		t.Errorf("%v failed, %v gone, want 1 and 1", f, g)
	}
}

// Processes that hold up whoever reads their environment do so for their own cgroup, not
// for others, and not for longer than they live.
func TestDeclarationsHeldUp(t *testing.T) {
	proc := t.TempDir()
	d := NewDeclarations(procfs.New(proc), 1000, prometheus.NewRegistry())
	go d.Run(t.Context())
	var held []string
	for pid := range uint32(2 * readers) {
		held = append(held, filepath.Join(makeProcess(t, proc, pid+1, "/hostile"), "environ"))
		if err := syscall.Mkfifo(held[pid], 0o600); err != nil { // opening it waits for a writer
			t.Fatal(err)
		}
		d.Meet(sample.Process{PID: pid + 1, Execution: uint64(pid + 1), Executable: "sleep"})
	}
	makeEnviron := func(pid uint32, cgroup string) sample.Process {
		dir := makeProcess(t, proc, pid, cgroup)
		if err := os.WriteFile(filepath.Join(dir, "environ"), []byte("OTEL_SERVICE_NAME=shop\x00"), 0o600); err != nil {
			t.Fatal(err)
		}
		return sample.Process{PID: pid, Execution: uint64(pid), Executable: "sleep"}
	}
	if got := d.Wait(makeEnviron(1000, "/good"), patience); got != "shop" {
		t.Errorf("declared %q, want shop", got)
	}
	if got := d.Wait(makeEnviron(1001, "/hostile"), 10*time.Millisecond); got != "" {
		t.Errorf("declared %q though its cgroup is held up", got)
	}
	if n := testutil.ToFloat64(d.metrics.stuck); n != readersOfOne {
		t.Errorf("%v readers are held up, want %d", n, readersOfOne)
	}
	for ended, deadline := 0, time.Now().Add(patience); ended < readersOfOne; time.Sleep(time.Millisecond) {
		held = slices.DeleteFunc(held, func(path string) bool {
			f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
			if errors.Is(err, syscall.ENXIO) { // nobody reads it, or not yet
				return false
			}
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			ended++
			return true
		})
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d readers were seen to read", ended, readersOfOne)
		}
	}
	if got := d.Wait(makeEnviron(1002, "/hostile"), patience); got != "shop" {
		t.Errorf("afterwards declared %q, want shop", got)
	}
}

// makeProcess makes the directory of a process below /proc, without its environment.
func makeProcess(t *testing.T, proc string, pid uint32, cgroup string) string {
	t.Helper()
	dir := filepath.Join(proc, fmt.Sprint(pid))
	stat, err := os.ReadFile("/proc/self/stat")
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	for name, text := range map[string]string{"stat": string(stat), "cgroup": "0::" + cgroup + "\n"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	if err = errors.Join(err, os.Symlink("/bin/sleep", filepath.Join(dir, "exe"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Nobody waits for reading, however long it takes, and memory is bounded.
func TestDeclarationsBusy(t *testing.T) {
	d := NewDeclarations(procfs.New("/proc"), 1000, prometheus.NewRegistry()) // nobody reads
	for execution := range uint64(10_000) {
		d.Meet(sample.Process{PID: 1, Execution: execution + 1})
	}
	if got := testutil.ToFloat64(d.metrics.busy); got != 10_000-maxWaiting {
		t.Errorf("%v put off, want %d", got, 10_000-maxWaiting)
	}
	for execution := range uint64(10_000) {
		d.mu.Lock()
		d.put(execution, declaration{state: settled})
		d.mu.Unlock()
	}
	if n := len(d.recent) + len(d.older); n > 2000 {
		t.Errorf("%d executions in memory, want at most 2000", n)
	}
}
