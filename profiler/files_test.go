// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/sample"
)

// sleeper runs a copy of sleep(1) from a directory of its own.
func sleeper(t *testing.T) (pid uint32, path string) {
	t.Helper()
	program, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "sleeper")
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return uint32(cmd.Process.Pid), path
}

// text is the executable mapping of the program itself.
func text(t *testing.T, pid uint32, path string) *region {
	t.Helper()
	table := newObjects()
	var found *region
	for found == nil { // the exec may be still under way
		err := procfs.New("/proc").ExecutableMaps(pid, func(m procfs.Mapping) bool {
			if m.Path == path {
				r := table.fromProc(m)
				found = &r
			}
			return found == nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

func testFiles(t *testing.T) *Files {
	return newFiles(procfs.New("/proc"), newStats(prometheus.NewRegistry()))
}

// content reads what Open gives for an object.
func content(t *testing.T, f *Files, o *sample.Object) (string, error) {
	t.Helper()
	file, err := f.Open(o)
	if err != nil {
		return "", err
	}
	defer file.Close()
	all, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return string(all), nil
}

func TestAFileStaysReadableAfterItsNameAndItsProcess(t *testing.T) {
	pid, path := sleeper(t)
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := text(t, pid, path)
	f := testFiles(t)
	f.hold(r, pid)
	f.await(f.get(r.object))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	unix.Kill(int(pid), unix.SIGKILL)
	encoded := f.NextWindow()
	if got, err := content(t, f, r.object); err != nil || got != string(want) {
		t.Errorf("%d bytes, %v, want the %d of the file", len(got), err, len(want))
	}
	encoded()
	f.NextWindow()()
	if _, err := f.Open(r.object); err == nil {
		t.Error("still open two windows later")
	}
}

// An upgrade puts another file under the same name. The process still runs the
// old one, and naming its functions by the new one would be wrong.
func TestAReplacedFileIsNotMistakenForTheOld(t *testing.T) {
	pid, path := sleeper(t)
	r := text(t, pid, path)
	other := path + ".new"
	if err := os.WriteFile(other, []byte("another program"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	exact := unix.Access(procfs.New("/proc").Path(pid, "map_files"), unix.R_OK) == nil && os.Geteuid() == 0
	f := testFiles(t)
	f.hold(r, pid)
	got, err := content(t, f, r.object)
	if got == "another program" {
		t.Fatal("the new file was taken for the old one")
	}
	if exact && err != nil {
		t.Errorf("the old file still exists for its process: %v", err)
	}

	// Without the process there is no way to the old file any more.
	unix.Kill(int(pid), unix.SIGKILL)
	f = testFiles(t)
	gone := *r
	gone.object = &sample.Object{Path: path, Device: r.object.Device, Inode: r.object.Inode}
	f.hold(&gone, 1<<30)
	if got, err := content(t, f, gone.object); err == nil {
		t.Errorf("got %d bytes of another file", len(got))
	}
}

// The path is the sampled program's choice: nothing may happen to what it leads
// to, and it must not lead out of the program's own root.
func TestOnlyStoredFilesInsideTheRootAreOpened(t *testing.T) {
	root := t.TempDir()
	fifo := filepath.Join(root, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	inside := filepath.Join(root, "inside")
	for _, path := range []string{secret, inside} {
		if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"out": secret, "up": "../../../../.." + secret, "in": "/inside"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	object := func(path, file string) *sample.Object {
		var st unix.Stat_t
		if err := unix.Stat(file, &st); err != nil {
			t.Fatal(err)
		}
		return &sample.Object{Path: path, Device: st.Dev, Inode: st.Ino}
	}
	for _, c := range []struct {
		root string
		o    *sample.Object
		ok   bool
	}{
		{root, object("/inside", inside), true},
		{root, object("/in", inside), true},
		{root, object("/out", secret), false},
		{root, object("/up", secret), false},
		{root, object("/fifo", fifo), false},
		{root, object("/", root), false},
		{"/", object("/dev/zero", "/dev/zero"), false},
		{"/", object("/proc/version", "/proc/version"), false},
		{"/", object("/proc/self/exe", "/proc/self/exe"), false},
	} {
		file, err := openIn(c.root, c.o)
		if (err == nil) != c.ok {
			t.Errorf("%s in %s: %v", c.o.Path, c.root, err)
		}
		if err == nil {
			file.Close()
		}
	}
	// A writer that waits at the FIFO must not have been let through.
	if fd, err := unix.Open(fifo, unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
		unix.Close(fd)
		t.Error("the FIFO has a reader")
	}
}

func TestHeldFilesAreBounded(t *testing.T) {
	f := testFiles(t)
	self := uint32(os.Getpid())
	dir := t.TempDir()
	for i := range maxFiles + 10 {
		path := filepath.Join(dir, string(rune('a'+i%26))+string(rune('a'+i/26)))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		o := &sample.Object{Path: path, Device: st.Dev, Inode: st.Ino}
		f.hold(&region{object: o}, self)
		f.await(f.get(o))
	}
	open := 0
	for _, h := range f.held {
		if h.file != nil {
			open++
		}
	}
	if open != maxFiles {
		t.Errorf("%d files open, want the limit of %d", open, maxFiles)
	}
	f.close()
}
