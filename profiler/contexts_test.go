// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/profiler/threadcontext"
	"github.com/fleetprof/fleetprof/sample"
)

// contextPrograms are the ways in which testdata/context is linked: shell scripts that
// make program, and perhaps library.so, which it is given when it loads it itself. They
// have every way there is to a thread-local variable.
func contextPrograms() map[string]string {
	const library = " -O2 -shared -fPIC -o library.so variable.c && "
	const linked = " -O2 -o program main.c ./library.so -Wl,-rpath,. -lpthread"
	const loading = " -O2 -DLOAD -o program main.c -ldl -lpthread"
	return map[string]string{
		"program":                     "gcc -O2 -no-pie -rdynamic -o program main.c variable.c -lpthread",
		"program, stripped PIE":       "gcc -O2 -pie -fPIE -rdynamic -s -o program main.c variable.c -lpthread",
		"program, old hash":           "gcc -O2 -rdynamic -Wl,--hash-style=sysv -o program main.c variable.c -lpthread",
		"library, initial exec":       "gcc -ftls-model=initial-exec" + library + "gcc" + linked,
		"library, descriptor":         "gcc -mtls-dialect=gnu2" + library + "gcc" + linked,
		"library, bound descriptor":   "gcc -mtls-dialect=gnu2 -Wl,-Bsymbolic" + library + "gcc" + linked,
		"library, module":             "gcc -mtls-dialect=gnu" + library + "gcc" + linked,
		"loaded, descriptor":          "gcc -mtls-dialect=gnu2" + library + "gcc" + loading,
		"loaded, module":              "gcc -mtls-dialect=gnu" + library + "gcc" + loading,
		"musl, program":               "musl-gcc -O2 -rdynamic -o program main.c variable.c",
		"musl, library, module":       "musl-gcc" + library + "musl-gcc" + linked,
		"musl, loaded, module":        "musl-gcc" + library + "musl-gcc" + loading,
		"musl, loaded, descriptor":    "musl-gcc -mtls-dialect=gnu2" + library + "musl-gcc" + loading,
		"musl, library, initial exec": "musl-gcc -ftls-model=initial-exec" + library + "musl-gcc" + linked,
	}
}

// The attributes of the OpenTelemetry thread context are on the samples of the thread
// that publishes them, however the variable is linked, and on no others. The programs
// say when each thread published what.
func TestThreadContexts(t *testing.T) {
	for _, tool := range []string{"gcc", "musl-gcc"} {
		needCompiler(t, tool)
	}
	p, got := newKernelTest(t, 499, 1<<22)
	programs := make(map[string]*exec.Cmd)
	out := make(map[string][]byte)
	during(t, p, func() {
		for name, script := range contextPrograms() {
			p.Files().NextWindow()() // or those of a busy host become too many
			cmd := buildContext(t, script)
			out[name] = runContext(t, p, got, cmd)
			programs[name] = cmd
		}
		time.Sleep(2 * pollEvery)
	})
	for name, cmd := range programs {
		t.Run(name, func(t *testing.T) {
			judgeContexts(t, stretchesOf(t, out[name]), got.ofPID(cmd.Process.Pid))
		})
	}
	if n := testutil.ToFloat64(p.contexts.looks.WithLabelValues("refused")); n > 0 {
		t.Errorf("%v looks were refused", n)
	}
}

// A process may have many images with hash tables that do not end: the look does.
func TestLooksEnd(t *testing.T) {
	const at, dynamic, hash, size = 0x10000, 0x1000, 0x2000, 0x10000
	memory := make([]byte, at+size)
	image := memory[at:]
	copy(image, "\x7fELF\x02\x01")
	programHeaders := []elf.Prog64{
		{Type: uint32(elf.PT_LOAD)}, {Type: uint32(elf.PT_TLS), Memsz: 8}, {Type: uint32(elf.PT_DYNAMIC), Vaddr: dynamic, Memsz: 64},
	}
	put := func(at int, what any) {
		if _, err := binary.Encode(image[at:], binary.LittleEndian, what); err != nil {
			t.Fatal(err)
		}
	}
	put(32, uint64(64))
	put(54, []uint16{56, uint16(len(programHeaders))})
	put(64, programHeaders)
	put(dynamic, []elf.Dyn64{
		{Tag: int64(elf.DT_GNU_HASH), Val: hash}, {Tag: int64(elf.DT_SYMTAB), Val: size}, {Tag: int64(elf.DT_STRTAB), Val: size},
	})
	put(hash, uint32(1)) // bucket
	m := contextMappings{images: slices.Repeat([]uint64{at}, maxImages)}
	counted := &boundedReads{ReaderAt: bytes.NewReader(memory), left: 1 << 30}
	reads := &boundedReads{ReaderAt: counted, left: maxReads}
	_, err := m.find(reads)
	t.Log(err)
	if n := 1<<30 - counted.left; n != maxReads || errors.Is(err, threadcontext.ErrNone) {
		t.Errorf("%d reads, %v", n, err)
	}
}

// buildContext builds testdata/context in a directory of its own.
func buildContext(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	source, err := filepath.Abs("testdata/context")
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("sh", "-ec", "cp \"$SOURCE\"/*.c . && "+script)
	build.Dir = t.TempDir()
	build.Env = append(build.Environ(), "SOURCE="+source)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	cmd := exec.Command(build.Dir+"/program", build.Dir+"/library.so")
	cmd.Dir, cmd.Stderr = build.Dir, os.Stderr
	return cmd
}

// runContext runs a program until enough of its samples have attributes, without and
// with the last key.
func runContext(t *testing.T, p *Profiler, got *recorder, cmd *exec.Cmd) []byte {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout = &out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const enough = 60 // of eight stretches half have attributes
	deadline := time.Now().Add(time.Minute)
	for _, keys := range []int{3, 4} {
		for n := 0; n < enough; time.Sleep(10 * time.Millisecond) {
			p.Between(func() { n = attributed(p, got, uint32(cmd.Process.Pid), keys) })
			if time.Now().After(deadline) {
				t.Errorf("%v: %d samples with %d keys", cmd.Args, n, keys)
				break
			}
		}
		if _, err := in.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return out.Bytes()
}

// attributed counts the samples of a process that have attributes, once so many keys are
// known.
func attributed(p *Profiler, got *recorder, pid uint32, keys int) (n int) {
	if of := p.contexts.byPID[pid]; of == nil || len(of.keys) < keys {
		return 0
	}
	for _, s := range got.ofPID(int(pid)) {
		late := len(s.Published) > 0 && s.Published[0].Key == "late"
		if len(s.Published) > 0 && late == (keys == 4) {
			n++
		}
	}
	return n
}

// judgeContexts holds what samples say against what the program says. Until the process
// has been looked at nothing is known, nor from when it names its attributes anew until
// it has been looked at again.
func judgeContexts(t *testing.T, stretches []stretch, samples []*sample.Sample) {
	t.Helper()
	seen, missed := make(map[string]int), make(map[string]int)
	found, foundLate := false, false
	renamed := stretches[slices.IndexFunc(stretches, func(s stretch) bool { return s.Name == "renamed" })].Begin
	for _, s := range samples {
		if s.Time > renamed && renamed != 0 {
			found, renamed = false, 0
		}
		labels := make(map[string]string)
		for _, a := range s.Published {
			labels[a.Key] = a.Value
		}
		for _, truth := range stretches {
			if s.TID != truth.TID || s.Time < truth.Begin || s.Time > truth.End || s.Executor.Kind != sample.Thread {
				continue
			}
			_, late := truth.Labels["late"]
			known := found && !late || foundLate && late
			switch {
			case len(labels) == 0 && len(truth.Labels) > 0 && !known:
				missed[truth.Name]++
			case !maps.Equal(labels, truth.Labels):
				t.Errorf("%s: got %v, want %v", truth.Name, labels, truth.Labels)
			default:
				found = found || len(labels) > 0
				foundLate = foundLate || len(labels) > 0 && late
				seen[truth.Name]++
			}
		}
	}
	t.Log("seen", seen, "before they were known", missed)
	for _, name := range []string{"none", "two", "invalid", "three", "detached", "late", "cut", "too long", "empty"} {
		if seen[name] == 0 {
			t.Errorf("no samples of %q", name)
		}
	}
}

// fakeContexts is the kernel side's table of contexts.
type fakeContexts map[uint32]bpf.Context

func (k fakeContexts) SetContext(pid uint32, c bpf.Context) error { k[pid] = c; return nil }
func (k fakeContexts) DeleteContext(pid uint32) error             { delete(k, pid); return nil }

// Processes that hold up whoever looks into them do so for their own cgroup.
func TestContextsHeldUp(t *testing.T) {
	proc := t.TempDir()
	c := newContexts(fakeContexts{}, procfs.New(proc), slog.New(slog.NewTextHandler(t.Output(), nil)), prometheus.NewRegistry())
	var held []string
	for pid := range uint32(2 * maxLooking) {
		dir := filepath.Join(proc, fmt.Sprint(pid+1))
		maps := filepath.Join(dir, "maps")
		err := errors.Join(os.Mkdir(dir, 0o700), os.Symlink("/bin/sleep", filepath.Join(dir, "exe")), syscall.Mkfifo(maps, 0o600))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, maps)
		for _, at := range []uint64{1e9, 3e9} {
			c.meet(&tick{Raw: sample.Raw{PID: pid + 1, CgroupID: 5, Time: at}})
		}
	}
	if c.looking != maxLookingInto {
		t.Errorf("%d looks are under way, want %d", c.looking, maxLookingInto)
	}
	for _, at := range []uint64{1e9, 3e9} {
		c.meet(&tick{Raw: sample.Raw{PID: 1000, CgroupID: 6, Time: at}})
	}
	if l := <-c.looked; l.pid != 1000 {
		t.Errorf("process %d was looked at", l.pid)
	} else {
		c.ends(&l)
	}
	for _, path := range held[:maxLookingInto] { // they end
		f, err := os.OpenFile(path, os.O_WRONLY, 0) // waits until it is being read
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		l := <-c.looked
		c.ends(&l)
	}
	if c.looking != 0 || len(c.lookingInto) != 0 {
		t.Errorf("%d looks are under way, %v", c.looking, c.lookingInto)
	}
}

// What a look finds counts for the address space it was made for, and until the process
// ends or has none any more.
func TestContextsComeAndGo(t *testing.T) {
	k := fakeContexts{}
	c := newContexts(k, procfs.New(t.TempDir()), slog.New(slog.NewTextHandler(t.Output(), nil)), prometheus.NewRegistry())
	meet := func(space addressSpace) *contextOf {
		for _, at := range []uint64{4e9, 5e9 - 1} { // too early
			if c.meet(&tick{Raw: sample.Raw{PID: 7, Time: at}, space: space}); c.looking > 0 {
				t.Fatal("a process is looked at in its first second")
			}
		}
		c.meet(&tick{Raw: sample.Raw{PID: 7, Time: 5e9}, space: space})
		l := <-c.looked // there is no such process
		c.ends(&l)
		c.take(&l)
		return c.byPID[7]
	}
	of := meet(addressSpace{1, 1})
	found := look{pid: 7, of: of, place: threadcontext.Place{Offset: -24}, keys: []string{"a"}, named: 3}
	c.take(&found)
	if got := k[7]; got.Mm != 1 || got.ExecId != 1 || got.Offset != -24 {
		t.Errorf("the kernel side has %+v", got)
	}
	named := tick{Raw: sample.Raw{PID: 7, Time: 5e9}, space: addressSpace{1, 1}, attributes: threadAttributes{3, []byte("\x00\x01x\x01\x01y")}}
	c.meet(&named)
	if len(named.Published) != 1 || named.Published[0].Key != "a" || of.next != 6e9 {
		t.Errorf("attributes %v, looked at again at %d", named.Published, of.next)
	}
	of.next = 9e9
	renamed := tick{Raw: sample.Raw{PID: 7, Time: 5e9}, space: addressSpace{1, 1}, attributes: threadAttributes{4, []byte("\x00\x01x")}}
	c.meet(&renamed)
	if len(renamed.Published) != 0 || of.next != 6e9 {
		t.Errorf("named anew, attributes are %v, looked at again at %d", renamed.Published, of.next)
	}
	c.take(&look{pid: 7, of: of, err: threadcontext.ErrNone})
	if len(k) > 0 {
		t.Error("a context that is gone is still known")
	}
	c.take(&found)
	c.ended(7)
	c.take(&found)
	if len(k) > 0 || len(c.byPID) > 0 {
		t.Error("the context of a process that has ended is known")
	}
	if meet(addressSpace{2, 1}); c.byPID[7] == of {
		t.Error("another program has the context of the one before")
	}
	c.take(&found)
	if len(k) > 0 {
		t.Error("a late look counts for another program")
	}
}
