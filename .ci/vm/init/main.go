// SPDX-License-Identifier: Apache-2.0

// Command init is the first and only program of a virtual machine that runs
// tests: it mounts what a host has mounted, brings up lo, runs every test binary below
// /tests, one after the other, and powers the machine off. What they print
// goes to the console, between lines that say which package it is of.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// testLimit is how long one package may take by the machine's own clock; a test
// binary that passes it says which test hangs.
const testLimit = "20m"

func main() {
	err := mountAll()
	if err == nil {
		err = bringUpLoopback()
	}
	if err == nil {
		err = writeRelease()
	}
	if err == nil {
		err = runAll("/tests")
	}
	if err != nil {
		fmt.Println("fleetprof-vm: error:", err)
	}
	fmt.Println("fleetprof-vm: end")
	powerOff()
}

// powerOff does not return. The console gets a moment to print what it holds:
// a serial port is slow, and the kernel does not wait for it.
func powerOff() {
	time.Sleep(100 * time.Millisecond)
	unix.Sync()
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	panic(err) // the kernel panics with us, and the machine ends all the same
}

// mountAll lays the file systems out as on a host with hybrid cgroups: a
// version 1 hierarchy beside the version 2 one.
func mountAll() error {
	for _, m := range []struct{ kind, target, data string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"devtmpfs", "/dev", ""},
		{"tracefs", "/sys/kernel/tracing", ""},
		{"tmpfs", "/tmp", "mode=1777"},
		{"tmpfs", "/sys/fs/cgroup", "mode=755"},
		{"cgroup2", "/sys/fs/cgroup/unified", ""},
		{"cgroup", "/sys/fs/cgroup/pids", "pids"},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.target, m.kind, 0, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err)
		}
	}
	return nil
}

// bringUpLoopback makes 127.0.0.1 answer, see netdevice(7).
func bringUpLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	return nil
}

func writeRelease() error {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	fmt.Println("fleetprof-vm: kernel", strings.TrimSpace(string(release)))
	return nil
}

// runAll runs the test binaries below a directory in the order of their names.
func runAll(top string) error {
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".test") {
			return err
		}
		name, err := filepath.Rel(top, filepath.Dir(path))
		if err != nil {
			return err
		}
		fmt.Println("fleetprof-vm: start", name)
		fmt.Println("fleetprof-vm: exit", run(path))
		return nil
	})
}

// run is `go test` for a binary that is already built. It returns the exit
// code, or -1 if there is none.
func run(path string) int {
	cmd := exec.Command(path, "-test.v=test2json", "-test.paniconexit0", "-test.timeout="+testLimit)
	cmd.Dir = filepath.Dir(path)
	cmd.Env = []string{"PATH=/bin", "HOME=/tmp", "FLEETPROF_TEST_SPIN=/bin/spin", "FLEETPROF_TEST_TLS=/bin/tls", "FLEETPROF_TEST_LABELS=/bin/labels"}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	err := cmd.Run()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		fmt.Println(err)
		return -1
	}
	return cmd.ProcessState.ExitCode()
}
