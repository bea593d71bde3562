// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/sample"
)

// readZeroes spends CPU time in the kernel. It calls it directly, because the
// race detector would spend more on each buffer that is read.
//
//go:noinline
func readZeroes(t *testing.T, f *os.File, buffer []byte, atMost time.Duration) {
	for begin := threadTime(t); threadTime(t)-begin < atMost; {
		_, _, errno := unix.Syscall(unix.SYS_READ, f.Fd(), uintptr(unsafe.Pointer(&buffer[0])), uintptr(len(buffer)))
		if errno != 0 {
			t.Error(errno)
			return
		}
	}
}

// threadTime is the CPU time of this thread.
func threadTime(t *testing.T) time.Duration {
	var used unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Nano())
}

// A tick that hits the kernel has behind its kernel frames the user stack that
// led there. Where the registers of that lie depends on the kernel.
func TestUserStackOfASystemCall(t *testing.T) {
	p, got := newKernelTest(t, 997, 1<<22)
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid := uint32(unix.Gettid())
	during(t, p, func() { readZeroes(t, zero, make([]byte, 1<<20), time.Second) })

	ours := ownFunctions(t)
	var inKernel, whole int
	for _, s := range got.samples {
		if s.TID != tid || len(s.Stack) == 0 || s.Stack[0].Object.Kind != sample.Kernel {
			continue
		}
		inKernel++
		if slices.ContainsFunc(s.Stack, func(loc sample.Location) bool {
			return strings.HasSuffix(ours(loc), ".readZeroes")
		}) {
			whole++
		}
	}
	if inKernel < 300 {
		t.Errorf("%d samples in the kernel, want nearly 1000", inKernel)
	}
	if whole < inKernel*9/10 {
		t.Errorf("%d of %d samples in the kernel have the function that called it", whole, inKernel)
	}
}

// ownFunctions names the functions of this program: the Go runtime knows them
// by address, samples have the offset in the file.
func ownFunctions(t *testing.T) func(sample.Location) string {
	t.Helper()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var start, offset uint64
	err = procfs.New("/proc").ExecutableMaps(uint32(os.Getpid()), func(m procfs.Mapping) bool {
		if m.Path == name {
			start, offset = m.Start, m.Offset
		}
		return start == 0
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(loc sample.Location) string {
		if loc.Object.Path != name {
			return ""
		}
		return runtime.FuncForPC(uintptr(loc.Offset - offset + start)).Name()
	}
}
