// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	fixture = New("testdata/proc")
	live    = New("/proc")
)

// gonePID returns the PID of a process that has ended and been waited for.
func gonePID(t *testing.T) uint32 {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return uint32(cmd.Process.Pid)
}

// start runs a program until the test is over and returns its PID. The program
// has been executed already when start returns.
func start(t *testing.T, path string, args ...string) uint32 {
	t.Helper()
	cmd := exec.Command(path, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return uint32(cmd.Process.Pid)
}

func TestPath(t *testing.T) {
	tests := []struct {
		root string
		pid  uint32
		elem []string
		want string
	}{
		{"/proc", 42, nil, "/proc/42"},
		{"/proc/", 42, []string{"root", "/usr/lib"}, "/proc/42/root/usr/lib"},
		{"/host/proc", Self, []string{"fd", "7"}, "/host/proc/self/fd/7"},
		{"/", 1, []string{"exe"}, "//1/exe"},
		// Lexical cleaning would lead out of the process's root directory.
		{"/proc", 42, []string{"root", "/../x"}, "/proc/42/root/../x"},
	}
	for _, tt := range tests {
		if got := New(tt.root).Path(tt.pid, tt.elem...); got != tt.want {
			t.Errorf("New(%q).Path(%d, %q) = %q, want %q", tt.root, tt.pid, tt.elem, got, tt.want)
		}
	}
}

func TestPIDs(t *testing.T) {
	got, err := fixture.PIDs()
	if want := []uint32{1, 2, 300, 301}; err != nil || !slices.Equal(got, want) {
		t.Errorf("PIDs of the fixture = %v, %v, want %v", got, err, want)
	}
	child := start(t, "/bin/sleep", "1000")
	got, err = live.PIDs()
	if err != nil || !slices.Contains(got, child) || !slices.Contains(got, uint32(os.Getpid())) {
		t.Errorf("PIDs of /proc = %v, %v, want %d and %d among them", got, err, child, os.Getpid())
	}
	if _, err := New("testdata/nowhere").PIDs(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("PIDs of no directory: %v, want ErrNotExist", err)
	}
}

func TestComm(t *testing.T) {
	got, err := fixture.Comm(300)
	if want := "a) R 7 (b\n\\"; err != nil || got != want {
		t.Errorf("Comm(300) = %q, %v, want %q", got, err, want)
	}
}

// A process chooses its name: the kernel's two ways to print it must give the
// same one.
func TestCommOfHostileProcess(t *testing.T) {
	name := "a) R 1 (\n\\n b"
	path := filepath.Join(t.TempDir(), name)
	copyFile(t, "/bin/sleep", path)
	pid := start(t, path, "1000")

	comm, err := live.Comm(pid)
	if err != nil || comm != name {
		t.Errorf("Comm = %q, %v, want %q", comm, err, name)
	}
	stat, err := live.Stat(pid)
	if err != nil || stat.Comm != name || stat.Parent != uint32(os.Getpid()) {
		t.Errorf("Stat = %+v, %v, want name %q and parent %d", stat, err, name, os.Getpid())
	}
	exe, err := live.Executable(pid)
	if err != nil || exe != name {
		t.Errorf("Executable = %q, %v, want %q", exe, err, name)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	exe, err = live.Executable(pid)
	if err != nil || exe != name {
		t.Errorf("Executable of a deleted file = %q, %v, want %q", exe, err, name)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestExecutable(t *testing.T) {
	tests := []struct{ link, path, want string }{
		{"/usr/bin/cat", "/usr/bin/cat", "cat"},
		{"/usr/bin/cat (deleted)", "/usr/bin/cat", "cat"},
		{"/memfd:runc_cloned:/proc/self/exe (deleted)", "/memfd:runc_cloned:/proc/self/exe", "memfd:runc_cloned:/proc/self/exe"},
		{"/a/b c (deleted) (deleted)", "/a/b c (deleted)", "b c (deleted)"},
		{"/", "/", ""},
	}
	for _, tt := range tests {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "7"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(tt.link, filepath.Join(root, "7", "exe")); err != nil {
			t.Fatal(err)
		}
		if got, err := New(root).Executable(7); err != nil || got != tt.want {
			t.Errorf("Executable of %q = %q, %v, want %q", tt.link, got, err, tt.want)
		}
		if got, err := New(root).ExecutablePath(7); err != nil || got != tt.path {
			t.Errorf("ExecutablePath of %q = %q, %v, want %q", tt.link, got, err, tt.path)
		}
	}
}

func TestExecutableWithoutProgram(t *testing.T) {
	if got, err := fixture.Executable(2); err != nil || got != "" {
		t.Errorf("Executable of a kernel thread = %q, %v, want none", got, err)
	}
	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer zombie.Wait()
	pid := uint32(zombie.Process.Pid)
	if err := waitExited(int(pid)); err != nil {
		t.Fatal(err)
	}
	if got, err := live.Executable(pid); err != nil || got != "" {
		t.Errorf("Executable of a zombie = %q, %v, want none", got, err)
	}
	if stat, err := live.Stat(pid); err != nil || stat.State != 'Z' {
		t.Errorf("Stat of a zombie = %+v, %v, want state Z", stat, err)
	}
	if err := live.Maps(pid, func(Mapping) bool { t.Error("zombie with memory"); return true }); err != nil {
		t.Errorf("Maps of a zombie: %v", err)
	}
}

// waitExited waits for a child to end without reaping it.
func waitExited(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err
		}
	}
}

func TestGoneProcess(t *testing.T) {
	pid := gonePID(t)
	reads := map[string]func() error{
		"Comm":       func() error { _, err := live.Comm(pid); return err },
		"Executable": func() error { _, err := live.Executable(pid); return err },
		"Stat":       func() error { _, err := live.Stat(pid); return err },
		"Cgroups":    func() error { _, err := live.Cgroups(pid); return err },
		"Maps":       func() error { return live.Maps(pid, func(Mapping) bool { return true }) },
		"Mounts":     func() error { return live.Mounts(pid, func(Mount) bool { return true }) },
	}
	for name, read := range reads {
		if err := read(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of a process that has ended: %v, want ErrNotExist", name, err)
		}
	}
}

// A process that ends while its file is open gives ESRCH, not ENOENT.
func TestGoneWhileReading(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := open(live.Path(uint32(cmd.Process.Pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	_, err = read(fd, make([]byte, 64))
	if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, unix.ESRCH) {
		t.Errorf("read of an ended process: %v, want ErrNotExist and ESRCH", err)
	}
}

func TestStat(t *testing.T) {
	tests := []Stat{
		{PID: 1, Comm: "systemd", State: 'S', User: 108, System: 331, StartTime: 9},
		{PID: 2, Comm: "kthreadd", State: 'S', KernelThread: true, System: 12, StartTime: 9},
		{PID: 300, Parent: 1, Comm: "a) R 7 (b\n\\", State: 'R', User: 91, System: 17, StartTime: 123456789012},
		{PID: 301, Parent: 300, Comm: "ended", State: 'Z', StartTime: 5000},
	}
	for _, want := range tests {
		if got, err := fixture.Stat(want.PID); err != nil || got != want {
			t.Errorf("Stat(%d) = %+v, %v, want %+v", want.PID, got, err, want)
		}
	}
}

// The CPU time in stat must be that which getrusage(2) tells of ourselves.
func TestStatCPUTime(t *testing.T) {
	before := cpuTicks(t)
	stat, err := live.Stat(Self)
	if err != nil {
		t.Fatal(err)
	}
	after := cpuTicks(t)
	if got := int64(stat.User + stat.System); got < before-2 || got > after+2 {
		t.Errorf("Stat(Self) has %d ticks of CPU time, getrusage %d before and %d after", got, before, after)
	}
	if stat.PID != uint32(os.Getpid()) || stat.Parent != uint32(os.Getppid()) || stat.KernelThread {
		t.Errorf("Stat(Self) = %+v, want PID %d, parent %d", stat, os.Getpid(), os.Getppid())
	}
}

func cpuTicks(t *testing.T) int64 {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return (u.Utime.Nano() + u.Stime.Nano()) * TicksPerSecond / 1e9
}

func TestKernelThreads(t *testing.T) {
	stat, err := live.Stat(2)
	if err != nil || stat.Comm != "kthreadd" {
		t.Skip("no kthreadd in this PID namespace")
	}
	if !stat.KernelThread {
		t.Errorf("Stat(2) = %+v, want a kernel thread", stat)
	}
	exe, err := live.Executable(2)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		t.Skip("only root may see what others execute")
	}
	if exe != "" || err != nil {
		t.Errorf("Executable(2) = %q, %v, want none", exe, err)
	}
}

func TestReadShortBound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 8)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readShort(path, make([]byte, 8)); !errors.Is(err, errTooLong) {
		t.Errorf("readShort of a file too long: %v, want %v", err, errTooLong)
	}
	if got, err := readShort(path, make([]byte, 9)); err != nil || len(got) != 8 {
		t.Errorf("readShort = %q, %v, want 8 bytes", got, err)
	}
}

func TestLineReaderBound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, []byte("a\n\nb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for allowed, want := range []error{errTooLong, errTooLong, errTooLong, io.EOF} {
		var r lineReader
		if err := r.open(path, allowed); err != nil {
			t.Fatal(err)
		}
		lines, err := 0, error(nil)
		for ; err == nil; lines++ {
			_, _, err = r.next()
		}
		if r.close(); lines-1 != allowed || err != want {
			t.Errorf("%d lines, %v, want %d, %v", lines-1, err, allowed, want)
		}
	}
}
