// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/profiler/unwind"
	"github.com/fleetprof/fleetprof/sample"
)

// tablesTest is a builder over files in memory.
type tablesTest struct {
	*tables
	*clock
	t     *testing.T
	files map[*sample.Object]*image
	log   strings.Builder
}

func newTablesTest(t *testing.T, words int) *tablesTest {
	s, c := newTestShelf(words, 8, 64)
	tt := &tablesTest{t: t, clock: c, files: make(map[*sample.Object]*image)}
	open := func(o *sample.Object) (*image, error) {
		if i := tt.files[o]; i != nil {
			return i, nil
		}
		return nil, fs.ErrNotExist
	}
	tt.tables = newTables(s, open, slog.New(slog.NewTextHandler(&tt.log, nil)), s.stats)
	t.Cleanup(tt.close)
	return tt
}

// add makes an object of a file's content.
func (tt *tablesTest) add(content []byte) *sample.Object {
	o := fileObject(len(tt.files))
	tt.files[o] = imageOf(content, int64(len(content)))
	return o
}

func imageOf(content []byte, size int64) *image {
	r := bytes.NewReader(content)
	return &image{r, io.NopCloser(r), size}
}

// build waits for one object's table.
func (tt *tablesTest) build(o *sample.Object) {
	tt.t.Helper()
	if tt.want(o); !tt.shelf.objects[o].asked {
		tt.t.Fatal("nothing is asked for")
	}
	tt.waiting = <-tt.built
	tt.poll(tt.shelf.epoch)
}

// expect compares the state of an object, and the one build that led to it.
func (tt *tablesTest) expect(o *sample.Object, state uint32, result string) {
	tt.t.Helper()
	if _, _, got := tt.shelf.lookup(o, 0x1000); got != state && !(got == bpf.SegmentNone && state == bpf.SegmentReady) {
		tt.t.Errorf("state %d, want %d", got, state)
	}
	if got := tt.shelf.objects[o].state; got != state {
		tt.t.Errorf("state %d, want %d", got, state)
	}
	if n := testutil.ToFloat64(tt.stats.builds.WithLabelValues(result)); n != 1 && !(result == "not_opened" && n == maxTries) {
		tt.t.Errorf("%v builds with result %s", n, result)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Skip(err)
	}
	return content
}

func TestTablesBuild(t *testing.T) {
	tt := newTablesTest(t, 1<<20)
	tt.start(t.Context())
	o := tt.add(readFile(t, libc))
	if _, _, state := tt.shelf.lookup(o, 0); state != bpf.SegmentAbsent {
		t.Errorf("state %d before it is wanted", state)
	}
	tt.build(o)
	tt.expect(o, bpf.SegmentReady, "placed")
	checkPlaced(t, tt.shelf, o, tableOf(t, libc), 101)
	tt.want(o)
	if len(tt.wanted) > 0 {
		t.Error("a table that is there is built again")
	}
}

// TestTablesRefuse builds what no table can come of.
func TestTablesRefuse(t *testing.T) {
	whole := readFile(t, libc)
	foreign := bytes.Clone(whole)
	foreign[18] ^= byte(elf.EM_X86_64 ^ elf.EM_AARCH64) // e_machine
	foreign[18] ^= byte(machine()) ^ byte(elf.EM_X86_64)
	data := bytes.Clone(whole)
	for i := range int(data[56]) { // e_phnum; p_flags
		data[64+56*i+4] &^= byte(elf.PF_X)
	}
	for result, file := range map[string]*image{
		"foreign":        imageOf(foreign, int64(len(whole))),
		"no_information": imageOf(data, int64(len(whole))),
		"unreadable":     imageOf(whole[:len(whole)/8], int64(len(whole))),
		"too_large":      imageOf(whole, int64(len(whole))),
		"not_opened":     nil,
	} {
		t.Run(result, func(t *testing.T) {
			tt := newTablesTest(t, 1<<12)
			o := fileObject(1)
			tt.files[o] = file
			tt.start(t.Context())
			tt.build(o)
			for try := 1; file == nil && try < maxTries; try++ {
				if state := tt.shelf.objects[o].state; state != bpf.SegmentAbsent {
					t.Errorf("state %d after try %d", state, try)
				}
				tt.build(o)
			}
			tt.expect(o, bpf.SegmentNone, result)
			if told, want := strings.Contains(tt.log.String(), "level=WARN"), result == "unreadable" || result == "too_large"; told != want {
				t.Errorf("logged: %q", tt.log.String())
			}
			tt.ns += retryAfter
			tt.poll(1)
			if again, want := tt.shelf.objects[o].state == bpf.SegmentAbsent, result == "not_opened"; again != want {
				t.Errorf("may be asked for again: %v", again)
			}
			if tt.shelf.room.total != 1<<12 {
				t.Errorf("%d words of room", tt.shelf.room.total)
			}
		})
	}
}

// TestTablesDamaged builds a table of a file in which three functions refer to what is no
// common information entry: theirs are counted and told of, all others have rows.
func TestTablesDamaged(t *testing.T) {
	content := readFile(t, libc)
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	frames := content[f.Section(".eh_frame").Offset:]
	for damaged := 0; damaged < 3; frames = frames[4+binary.LittleEndian.Uint32(frames):] {
		if id := frames[4:8]; binary.LittleEndian.Uint32(id) != 0 { // not itself a CIE
			binary.LittleEndian.PutUint32(id, 2)
			damaged++
		}
	}
	tt := newTablesTest(t, 1<<20)
	o := tt.add(content)
	tt.start(t.Context())
	tt.build(o)
	tt.expect(o, bpf.SegmentReady, "placed")
	if n := testutil.ToFloat64(tt.stats.damaged); n != 3 {
		t.Errorf("%v damaged entries, want 3", n)
	}
	if log := tt.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "entries=3") {
		t.Errorf("logged: %q", log)
	}
}

// TestTablesText builds what is no ELF file.
func TestTablesText(t *testing.T) {
	tt := newTablesTest(t, 1<<12)
	o := tt.add([]byte(strings.Repeat("#!/bin/sh\n", 100)))
	tt.start(t.Context())
	tt.build(o)
	tt.expect(o, bpf.SegmentNone, "foreign")
}

// TestTablesTakeTurns has two tables want memory that holds one. The one in use
// stays; when it no longer is, the other one gets its place after grace.
func TestTablesTakeTurns(t *testing.T) {
	content := readFile(t, libc)
	table := tableOf(t, libc).table
	tt := newTablesTest(t, table.Bytes()/4*3/2)
	first, second := tt.add(content), tt.add(content)
	tt.start(t.Context())
	tt.build(first)
	tt.expect(first, bpf.SegmentReady, "placed")
	tt.build(second)
	tt.expect(second, bpf.SegmentNone, "no_room")

	for range 3 { // is not built again while there is no room
		tt.ns += retryAfter
		tt.poll(tt.shelf.epoch + 1)
		tt.shelf.lookup(first, tt.shelf.objects[first].parts[0].fileStart)
		tt.expect(second, bpf.SegmentNone, "no_room")
	}
	tt.poll(tt.shelf.epoch + 2)
	tt.ns += retryAfter
	tt.poll(tt.shelf.epoch)
	tt.build(second)
	if tt.waiting == nil || tt.shelf.objects[first].state != bpf.SegmentAbsent {
		t.Fatal("first table did not make room")
	}
	tt.ns += grace - 1
	tt.poll(tt.shelf.epoch)
	if tt.waiting == nil {
		t.Fatal("second table did not wait for grace")
	}
	tt.ns++
	tt.poll(tt.shelf.epoch)
	checkPlaced(t, tt.shelf, second, tableOf(t, libc), 101)
	if n := testutil.ToFloat64(tt.stats.evictions); n != 1 {
		t.Errorf("%v evictions", n)
	}
}

// TestTablesQueue wants more than can wait.
func TestTablesQueue(t *testing.T) {
	s, _ := newTestShelf(1<<12, 8, maxWanted+10)
	tt := newTables(s, nil, slog.New(slog.DiscardHandler), s.stats)
	tt.want(&sample.Object{Kind: sample.Anonymous})
	for i := range maxWanted + 2 {
		o := fileObject(i)
		tt.want(o)
		tt.want(o)
	}
	if n := testutil.ToFloat64(s.stats.queueFull); n != 4 || len(tt.wanted) != maxWanted {
		t.Errorf("%v found the queue full, %d wait", n, len(tt.wanted))
	}
}

// TestTablesDroppedObject forgets an object while its table is built.
func TestTablesDroppedObject(t *testing.T) {
	tt := newTablesTest(t, 1<<20)
	o := tt.add(readFile(t, libc))
	tt.start(t.Context())
	tt.want(o)
	tt.waiting = <-tt.built
	tt.shelf.drop(tt.shelf.objects[o])
	tt.poll(0)
	if n := testutil.ToFloat64(tt.stats.builds.WithLabelValues("unwanted")); n != 1 || tt.shelf.free.total != 1<<20 {
		t.Errorf("%v unwanted, %d words free", n, tt.shelf.free.total)
	}
}

// TestTablesSmallBesideLarge has a small file behind two large ones, the first of which takes
// until the small one's table is there.
func TestTablesSmallBesideLarge(t *testing.T) {
	tt := newTablesTest(t, 1<<20)
	content := readFile(t, libc)
	first, second, small := tt.add(content), tt.add(content), tt.add(content)
	enough, closed := make(chan struct{}), 0
	for _, o := range []*sample.Object{first, second} {
		tt.files[o].size = smallFile + 1
		tt.files[o].ReaderAt = endless{tt.files[o].ReaderAt, func() { <-enough }}
		tt.files[o].Closer = closer(func() error { closed++; return nil })
	}
	tt.start(t.Context())
	tt.want(first)
	tt.want(second)
	tt.build(small)
	tt.expect(small, bpf.SegmentReady, "placed")
	tt.cancel()
	close(enough)
	tt.close()
	if closed != 2 {
		t.Errorf("%d of 2 large files are closed", closed)
	}
}

// endless is a file of which each read calls a function first.
type endless struct {
	io.ReaderAt
	read func()
}

func (e endless) ReadAt(b []byte, off int64) (int, error) {
	e.read()
	return e.ReaderAt.ReadAt(b, off)
}

// TestTablesClose ends the builder half-way through a file, and while it waits
// because nobody takes what it has built.
func TestTablesClose(t *testing.T) {
	t.Run("reading", func(t *testing.T) {
		tt := newTablesTest(t, 1<<20)
		o := tt.add(readFile(t, libc))
		ctx, cancel := context.WithCancel(t.Context())
		reads := 0
		tt.files[o].ReaderAt = endless{tt.files[o].ReaderAt, func() { reads++; cancel() }}
		tt.start(ctx)
		tt.want(o)
		tt.builders.Wait()
		if reads != 1 {
			t.Errorf("%d reads", reads)
		}
	})
	t.Run("unplaced", func(t *testing.T) {
		tt := newTablesTest(t, 1<<20)
		o := tt.add(readFile(t, libc))
		if !tt.unplaced.TryAcquire(maxUnplaced) {
			t.Fatal("nothing is built yet")
		}
		closed := make(chan struct{})
		tt.files[o].Closer = closer(func() error { close(closed); return nil })
		tt.start(t.Context())
		tt.want(o)
		<-closed // is built
		tt.close()
		if len(tt.built) > 0 {
			t.Error("builder ran ahead")
		}
	})
}

type closer func() error

func (c closer) Close() error { return c() }

// TestTablesVDSO builds the table of the vDSO of this very process.
func TestTablesVDSO(t *testing.T) {
	proc := procfs.New("/proc")
	image, err := VDSO(proc)
	if err != nil {
		t.Fatal(err)
	}
	if len(image) == 0 {
		t.Skip("this process has no vDSO")
	}
	s, _ := newTestShelf(1<<14, 8, 8)
	tt := newTables(s, images(nil, proc), slog.New(slog.DiscardHandler), s.stats)
	tt.start(t.Context())
	defer tt.close()
	o := &sample.Object{Kind: sample.VDSO, Path: "[vdso]"}
	tt.want(o)
	tt.waiting = <-tt.built
	tt.poll(0)
	f, err := objfile.Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := f.Section(".eh_frame"); !ok && runtime.GOARCH == "arm64" {
		t.Skip("this kernel's vDSO has no unwind information")
	}
	table, addr, state := tt.shelf.lookup(o, f.Sections[sectionNamed(t, f, ".text")].Offset)
	if state != bpf.SegmentReady || table.Lookup(addr).Kind == unwind.None {
		t.Errorf("state %d", state)
	}
}

func sectionNamed(t *testing.T, f *objfile.File, name string) int {
	for i, s := range f.Sections {
		if s.Name == name {
			return i
		}
	}
	t.Fatal("no section ", name)
	return 0
}

// TestTablesFiles builds from a file that a sampled process has mapped.
func TestTablesFiles(t *testing.T) {
	proc := procfs.New("/proc")
	s, _ := newTestShelf(8<<20, 18, 8)
	st := newStats(prometheus.NewRegistry())
	p := newProcesses(proc, monotonic, st)
	self := p.read(uint32(os.Getpid()))
	files := newFiles(proc, st)
	defer files.close()
	tt := newTables(s, images(files, proc), slog.New(slog.DiscardHandler), s.stats)
	tt.start(t.Context())
	defer tt.close()
	for i := range self.regions {
		r := &self.regions[i]
		if r.object.Kind != sample.File {
			continue
		}
		files.hold(r, uint32(os.Getpid()))
		tt.want(r.object)
		tt.waiting = <-tt.built
		tt.poll(0)
		if _, _, state := tt.shelf.lookup(r.object, r.offset+(r.limit-r.start)/2); state != bpf.SegmentReady {
			t.Errorf("%s: state %d", r.object.Path, state)
		}
		return
	}
	t.Fatal("this process has no executable")
}

// TestTwoSegments builds a program with code in two segments far apart and finds
// each function's rule by its place in the file.
func TestTwoSegments(t *testing.T) {
	gcc := needCompiler(t, "gcc")
	path := filepath.Join(t.TempDir(), "program")
	source := "__attribute__((section(\".far\"), noinline)) void far(int *p) { volatile int a[100]; a[*p] = 1; }\n" +
		"int main(int argc, char **argv) { far(&argc); return 0; }\n"
	cmd := exec.Command(gcc, "-O1", "-no-pie", "-Wl,--section-start=.far=0x4000100", "-o", path, "-xc", "-")
	cmd.Stdin = strings.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	tt := newTablesTest(t, 1<<14)
	o := tt.add(readFile(t, path))
	tt.start(t.Context())
	tt.build(o)
	tt.expect(o, bpf.SegmentReady, "placed")
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, name := range []string{".text", ".far"} {
		s := f.Section(name)
		table, addr, state := tt.shelf.lookup(o, s.Offset)
		if state != bpf.SegmentReady || addr != s.Addr || table.Lookup(addr).Kind == unwind.None {
			t.Errorf("%s at %#x: found %#x, state %d", name, s.Addr, addr, state)
		}
		id := tt.shelf.objects[o].segment(s.Offset, 1)
		if got := kernelRule(t, tt.shelf, id, s.Offset); got != table.Lookup(addr) {
			t.Errorf("%s: kernel side finds %v", name, got)
		}
	}
	if n := len(tt.shelf.objects[o].parts); n != 2 {
		t.Errorf("%d parts", n)
	}
}

func TestOutcomeOfWrapped(t *testing.T) {
	for err, want := range map[error]string{
		errors.Join(errNotOpened, fs.ErrPermission): "not_opened",
		io.ErrUnexpectedEOF:                         "unreadable",
	} {
		if got, _, _ := outcome(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}

// largeFiles are worth a measurement: of those that are there.
var largeFiles = []string{libc, "/usr/lib/x86_64-linux-gnu/libLLVM-16.so.1", "/usr/lib/chromium/chromium"}

// BenchmarkBuildMemory builds tables and says how much memory that takes at its
// peak, garbage included.
func BenchmarkBuildMemory(b *testing.B) {
	for _, path := range largeFiles {
		file, err := os.Open(path)
		if err != nil {
			continue
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			b.Fatal(err)
		}
		img := &image{file, io.NopCloser(nil), info.Size()}
		s, _ := newTestShelf(1<<10, 8, 8)
		tt := newTables(s, nil, slog.New(slog.DiscardHandler), s.stats)
		b.Run(filepath.Base(path), func(b *testing.B) {
			resident := statusKiB(b, "VmRSS")
			// Forgets the peak so far, see proc_pid_clear_refs(5).
			if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
				b.Fatal(err)
			}
			made := new(built)
			for b.Loop() {
				if err := tt.read(b.Context(), img, made); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(statusKiB(b, "VmHWM")-resident)/1024, "peak-MiB")
			b.ReportMetric(float64(made.table.Bytes())/(1<<20), "table-MiB")
		})
	}
}

// statusKiB is one value of /proc/self/status.
func statusKiB(b *testing.B, name string) int {
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), name+":")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return n
}
