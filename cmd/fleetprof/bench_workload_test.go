// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// withoutFramePointers is how most of what runs is compiled.
const (
	withoutFramePointers = "-fomit-frame-pointer"
	withFramePointers    = "-fno-omit-frame-pointer"
)

// compile makes a C program, optimized; its name is what samples show.
func compile(b testing.TB, name, source string, flags ...string) (path string) {
	b.Helper()
	path = b.TempDir() + "/" + name
	args := append([]string{"-O2", "-o", path, source}, flags...)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		b.Fatalf("gcc %v: %v\n%s", args, err, out)
	}
	return path
}

// cpus are the numbers of the CPUs the benchmark may use.
func cpus(b testing.TB) (numbers []int) {
	b.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		b.Fatal(err)
	}
	for n := 0; len(numbers) < set.Count(); n++ {
		if set.IsSet(n) {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// onEachCPU starts a program once for each CPU and keeps it there, so that
// most samples are of it.
func onEachCPU(b *testing.B, path string, args ...string) (started []running) {
	b.Helper()
	for _, number := range cpus(b) {
		r := background(b, path, args...)
		started = append(started, r)
		var set unix.CPUSet
		set.Set(number)
		if err := unix.SchedSetaffinity(r.pid, &set); err != nil {
			b.Fatalf("pin %s to CPU %d: %v", path, number, err)
		}
	}
	return started
}

func endAll(started []running) {
	for _, r := range started {
		r.end()
	}
}
