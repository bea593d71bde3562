// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/sample"
)

// Code without a file is an object of its process and of what that executes, with the path of the
// file that may tell of it.
func TestGeneratedCodeIsOfItsProcess(t *testing.T) {
	p, got := newReplay(t)
	status := p.processes.proc.Path(2, "status")
	if err := os.Mkdir(filepath.Dir(status), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, status, "Tgid:\t2\nUid:\t0\t0\t0\t0\nNStgid:\t2\t7\n")
	anonymous := func(time uint64, pid uint32, start uint64) event {
		return event{kind: eventMap, time: time, pid: pid, region: mapRecord{start: start, length: 0x1000, path: "//anon"}}
	}
	dump := event{kind: eventMap, time: 50, pid: 2, region: mapRecord{start: 0x9000, length: 0x1000, path: "/x/jit-7.dump", device: 3, inode: 4}}
	dotnet := event{kind: eventMap, time: 3, pid: 1, region: mapRecord{start: 0x8000, length: 0x1000, path: "/memfd:doublemapper", device: 1, inode: 9}}
	p.events = []event{
		{kind: eventExec, time: 1, pid: 1}, anonymous(2, 1, 0x1000), anonymous(2, 1, 0x5000), dotnet,
		{kind: eventFork, time: 20, pid: 2, parent: 1},
		dump,
		{kind: eventFork, time: 60, pid: 3, parent: 2},
		{kind: eventExec, time: 80, pid: 1}, anonymous(81, 1, 0x1000),
	}
	at := func(time uint64, pid uint32, addr uint64) tick {
		k := tickAt(time, pid)
		k.TID, k.User = pid, []uint64{addr}
		return k
	}
	p.ticks = []tick{
		at(10, 1, 0x1800), at(11, 1, 0x5800), at(12, 1, 0x8800), // the same
		at(30, 2, 0x1800), at(40, 2, 0x1800), // another
		at(55, 2, 0x1800), // which has a dump by now
		at(70, 3, 0x1800), // as has its child, which it left its code to
		at(90, 1, 0x1800), // a program that was executed
	}
	p.replay(100)
	if len(got.samples) != len(p.ticks)+8 {
		t.Fatalf("%d samples", len(got.samples))
	}
	var objects []*sample.Object
	for i, s := range got.samples {
		o := s.Stack[0].Object
		want := []string{
			"/tmp/perf-1.map", "/tmp/perf-1.map", "/tmp/perf-1.map", "/tmp/perf-7.map", "/tmp/perf-7.map",
			"/x/jit-7.dump", "/x/jit-7.dump", "/tmp/perf-1.map",
		}[i]
		if o.Kind != sample.Anonymous || o.Path != want || s.Stack[0].Offset&0xfff != 0x800 {
			t.Errorf("sample %d: %+v at %#x, want %s", i, o, s.Stack[0].Offset, want)
		}
		objects = append(objects, o)
	}
	for i, same := range []int{0, 0, 0, 3, 3, 5, 6, 7} {
		for j := range i {
			if (objects[j] == objects[i]) != (j >= same) {
				t.Errorf("samples %d and %d lie in the same object: %v", i, j, objects[j] == objects[i])
			}
		}
	}
	if objects[5].Inode != 4 || objects[5].Device != 3 {
		t.Errorf("the dump is %+v", objects[5])
	}
}

func TestIsDump(t *testing.T) {
	for path, want := range map[string]bool{
		"/a/jit-12.dump": true, "/jit-0.dump": true,
		"/jit-.dump": false, "/jit-1x.dump": false, "/it-1.dump": false, "/jit-1.dump/lib.so": false, "/jit--1.dump": false, "/jit-1": false,
	} {
		if got := isDump(&sample.Object{Path: path}); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	if isDump(&sample.Object{Kind: sample.Anonymous, Path: "/jit-1.dump"}) {
		t.Error("memory is no file")
	}
}

// pausing is a process in a root of its own, with the files that perf maps are looked for in.
type pausing struct {
	root string
	pid  uint32
	end  func()
	r    *region
}

func newPausing(t *testing.T) *pausing {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can change the root of a process")
	}
	root := t.TempDir()
	source := filepath.Join(t.TempDir(), "pause.c")
	write(t, source, "#include <unistd.h>\nint main(void) { return pause(); }\n")
	if out, err := exec.Command("gcc", "-static", "-o", root+"/pause", source).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	if err := os.Mkdir(root+"/tmp", 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/pause")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 1234, Gid: 1234}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &pausing{root: root, pid: uint32(cmd.Process.Pid), end: func() { _, _ = cmd.Process.Kill(), cmd.Wait() }}
	t.Cleanup(p.end)
	p.r = &region{object: &sample.Object{Kind: sample.Anonymous, Path: "/tmp/perf-" + strconv.Itoa(cmd.Process.Pid) + ".map"}}
	return p
}

func (p *pausing) path() string { return p.root + p.r.object.Path }

// sampled samples the process in a new window and reads what Open gives.
func (p *pausing) sampled(t *testing.T, f *Files) (string, error) {
	t.Helper()
	f.hold(p.r, p.pid)
	defer f.NextWindow()()
	return content(t, f, p.r.object)
}

func TestPerfMapIsTheOneThatItsProcessWrites(t *testing.T) {
	p, f := newPausing(t), testFiles(t)
	defer f.close()
	for range 2 * maxTries {
		if got, err := p.sampled(t, f); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q, %v, want %v", got, err, os.ErrNotExist)
		}
	}
	if n := testutil.ToFloat64(f.stats.fileErrors); n != 0 {
		t.Errorf("%v errors for a process without a perf map", n)
	}
	write(t, p.path(), "one")
	if got, err := p.sampled(t, f); got != "one" || err != nil {
		t.Errorf("root's: %q, %v", got, err)
	}
	write(t, p.root+"/tmp/new", "another")
	if err := errors.Join(os.Chown(p.root+"/tmp/new", 1234, 0), os.Rename(p.root+"/tmp/new", p.path())); err != nil {
		t.Fatal(err)
	}
	if got, err := p.sampled(t, f); got != "another" || err != nil {
		t.Errorf("replaced by its own: %q, %v", got, err)
	}
	if err := os.Remove(p.path()); err != nil {
		t.Fatal(err)
	}
	if got, err := p.sampled(t, f); got != "another" || err != nil {
		t.Errorf("removed: %q, %v", got, err)
	}
	p.end()
	if got, err := p.sampled(t, f); got != "another" || err != nil {
		t.Errorf("ended: %q, %v", got, err)
	}
	if n := testutil.ToFloat64(f.stats.fileErrors); n != 0 {
		t.Errorf("%v errors", n)
	}
}

func TestPerfMapOfOthersIsRefused(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, outside, "outside")
	for name, put := range map[string]func(path string) error{
		"another user's": func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o644), os.Chown(path, 4321, 0)) },
		"older than the process": func(path string) error {
			then := time.Now().Add(-time.Minute)
			return errors.Join(os.WriteFile(path, nil, 0o644), os.Chtimes(path, then, then))
		},
		"a fifo":       func(path string) error { return unix.Mkfifo(path, 0o666) },
		"a directory":  func(path string) error { return os.Mkdir(path, 0o777) },
		"a link out":   func(path string) error { return os.Symlink(outside, path) },
		"a long way":   func(path string) error { return os.Symlink("../../../../../.."+outside, path) },
		"a link to it": func(path string) error { return os.Symlink(path, path) },
	} {
		t.Run(name, func(t *testing.T) {
			p, f := newPausing(t), testFiles(t)
			defer f.close()
			if err := put(p.path()); err != nil {
				t.Fatal(err)
			}
			if got, err := p.sampled(t, f); err == nil {
				t.Errorf("opened: %q", got)
			}
		})
	}
}

// Processes without perf maps, however many, leave all room to files, and those with perf maps enough.
func TestHeldPerfMapsAreBounded(t *testing.T) {
	p, f := newPausing(t), testFiles(t)
	defer f.close()
	write(t, p.path(), "one")
	object := func(path string) *region {
		return &region{object: &sample.Object{Kind: sample.Anonymous, Path: path}}
	}
	for range maxFiles + 10 {
		r := object("/tmp/perf-0.map")
		f.hold(r, p.pid)
		f.await(f.get(r.object))
	}
	for range maxPerfMaps + 10 {
		r := object(p.r.object.Path)
		f.hold(r, p.pid)
		f.await(f.get(r.object))
	}
	program := &region{object: &sample.Object{Path: "/pause", BuildID: ""}}
	var st unix.Stat_t
	if err := unix.Stat(p.root+"/pause", &st); err != nil {
		t.Fatal(err)
	}
	program.object.Device, program.object.Inode = st.Dev, st.Ino
	f.hold(program, p.pid)
	if _, err := content(t, f, program.object); err != nil {
		t.Errorf("no room for a program: %v", err)
	}
	open := 0
	for _, h := range f.held {
		if h.perfMap && h.file != nil {
			open++
		}
	}
	if open != maxPerfMaps || f.openMaps != open || testutil.ToFloat64(f.stats.fileErrors) != 10 {
		t.Errorf("%d perf maps open, want the limit of %d; %v errors", open, maxPerfMaps, testutil.ToFloat64(f.stats.fileErrors))
	}
	for range 3 {
		f.NextWindow()()
	}
	if len(f.held) != 0 || f.perfMaps != 0 || f.openMaps != 0 {
		t.Errorf("%d files held, %d perf maps, %d open", len(f.held), f.perfMaps, f.openMaps)
	}
}
