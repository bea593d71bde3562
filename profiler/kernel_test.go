// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/internal/programtest"
	"github.com/fleetprof/fleetprof/sample"
)

// newKernelTest opens a profiler. Tests that need it are skipped only where
// the kernel refuses for want of a permission, and never for root.
func newKernelTest(t *testing.T, frequency, ringBytes int) (*Profiler, *recorder) {
	t.Helper()
	return openKernelTest(t, frequency, ringBytes, func(*Options, RequestSink) {})
}

// newRequestsTest opens a profiler that follows requests, with more of their bytes if
// headers are wanted.
func newRequestsTest(t *testing.T, headers bool) (*Profiler, *recorder) {
	t.Helper()
	return openKernelTest(t, 99, 1<<20, func(o *Options, sink RequestSink) {
		o.Requests, o.ActivityRingBytes, o.RequestHeaders = sink, 1<<20, headers
	})
}

func openKernelTest(t testing.TB, frequency, ringBytes int, set func(*Options, RequestSink)) (*Profiler, *recorder) {
	t.Helper()
	got := new(recorder)
	options := Options{
		Rates: Rates{Frequency: frequency}, Event: CPUClock, RingBytes: ringBytes, TableBlocks: 16, CgroupSubsystem: bpf.CgroupV2,
		Proc: procfs.New("/proc"), Sink: got,
		Logger:     slog.New(slog.NewTextHandler(t.Output(), nil)),
		Registerer: prometheus.NewRegistry(),
	}
	set(&options, got)
	p, err := New(options)
	if errors.As(err, new(*bpf.Unsupported)) && os.Geteuid() != 0 {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, got
}

// during runs the profiler while f runs.
func during(t testing.TB, p *Profiler, f func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	waitForCPUs(t, p, runtime.NumCPU())
	f()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// waitForCPUs returns once n CPUs are sampled.
func waitForCPUs(t testing.TB, p *Profiler, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); testutil.ToFloat64(p.stats.onlineCPUs) != float64(n); {
		if time.Now().After(deadline) {
			t.Fatalf("%v CPUs sampled, want %d", testutil.ToFloat64(p.stats.onlineCPUs), n)
		}
		time.Sleep(time.Millisecond)
	}
}

// readySpin names a spin binary for machines without a compiler, see
// docs/kernels.md.
const readySpin = "FLEETPROF_TEST_SPIN"

// needCompiler gives the path of a compiler. It skips the test on such a machine.
func needCompiler(t testing.TB, name string) string {
	t.Helper()
	if os.Getenv(readySpin) != "" {
		t.Skip("a machine without compilers")
	}
	return programtest.Need(t, name)
}

var compile = sync.OnceValues(func() (string, error) {
	if binary := os.Getenv(readySpin); binary != "" {
		return binary, nil
	}
	dir, err := os.MkdirTemp("", "fleetprof-spin")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "spin")
	out, err := exec.Command("gcc", "-O2", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls",
		"-o", binary, "testdata/spin.c").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return binary, nil
})

func TestMain(m *testing.M) {
	for variable, program := range map[string]func() error{socketCalls: callSockets, unseenCalls: readUnseen} {
		if os.Getenv(variable) == "" {
			continue
		}
		if err := program(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if binary, err := compile(); err == nil && binary != os.Getenv(readySpin) {
		os.RemoveAll(filepath.Dir(binary))
	}
	os.Exit(code)
}

func spin(t testing.TB) string {
	t.Helper()
	binary, err := compile()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// extent is the range of file offsets of a function, from the symbol table.
func extent(t *testing.T, binary, function string) (start, end uint64) {
	t.Helper()
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name != function {
			continue
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD && s.Value >= p.Vaddr && s.Value < p.Vaddr+p.Filesz {
				start = s.Value - p.Vaddr + p.Off
				return start, start + s.Size
			}
		}
	}
	t.Fatalf("no function %s in %s", function, binary)
	return 0, 0
}

// ofPID are the samples of one process.
func (r *recorder) ofPID(pid int) (out []*sample.Sample) {
	for _, s := range r.samples {
		if s.Process.PID == uint32(pid) {
			out = append(out, s)
		}
	}
	return out
}

// The program itself says how much CPU time it used (it stops after a given
// amount) and which functions called which; the symbol table says where those
// lie. A detached sampler or a wrong walk fails here.
func TestSamplesOfABusyProgram(t *testing.T) {
	const frequency, seconds = 199, 4
	p, got := newKernelTest(t, frequency, 1<<22)
	cmd := exec.Command(spin(t), strconv.Itoa(seconds*1000))
	during(t, p, func() {
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
	})
	samples := got.ofPID(cmd.Process.Pid)
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	want := used.Seconds() * frequency
	if n := float64(len(samples)); math.Abs(n-want) > want/10 {
		t.Errorf("%.0f samples for %v of CPU time, want %.0f ± 10 %%", n, used, want)
	}
	chain := []string{"inner", "middle", "outer", "main"}
	whole := 0
	for _, s := range samples {
		if beforeExec(s) {
			continue
		}
		if s.Process.Executable != "spin" || s.Thread != "spin" {
			t.Fatalf("sample of %q, thread %q", s.Process.Executable, s.Thread)
		}
		if hasChain(t, cmd.Path, s.Stack, chain) {
			whole++
		}
	}
	// The rest is in clock_gettime() or between two instructions of a prologue.
	if whole < len(samples)*9/10 {
		t.Errorf("%d of %d stacks have %v, others are %v", whole, len(samples), chain, shapes(samples))
	}
	counters, err := p.sampler.Counters()
	t.Logf("%+v, error %v", counters, err)
}

// shapes counts stacks by their outermost location and length.
func shapes(samples []*sample.Sample) map[string]int {
	counts := make(map[string]int)
	for _, s := range samples {
		last := s.Stack[len(s.Stack)-1]
		counts[fmt.Sprintf("%d…%s+%#x", len(s.Stack), last.Object.Path, last.Offset)]++
	}
	return counts
}

// beforeExec tells whether a process was still this test when it was sampled,
// or had no program at all: the old one gone and the new one not yet mapped.
func beforeExec(s *sample.Sample) bool {
	return s.Process.Executable == "profiler.test" || s.Process.Executable == ""
}

// hasChain tells whether functions of the binary follow each other in a stack.
func hasChain(t *testing.T, binary string, stack sample.Stack, chain []string) bool {
	t.Helper()
	next := 0
	for _, loc := range stack {
		if loc.Object.Path != binary {
			continue
		}
		start, end := extent(t, binary, chain[next])
		if loc.Offset < start || loc.Offset >= end {
			continue
		}
		if next++; next == len(chain) {
			return true
		}
	}
	return false
}

// Each process lives some 30 ms, less than the time between two polls: what it
// was must come from the events, not from /proc.
func TestProcessesShorterThanAPoll(t *testing.T) {
	p, got := newKernelTest(t, 499, 1<<22)
	mine := make(map[uint32]bool)
	during(t, p, func() {
		for range 40 {
			cmd := exec.Command(spin(t), "30")
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			mine[uint32(cmd.Process.Pid)] = true
		}
	})
	var inProgram, named, unknown int
	start, end := extent(t, spin(t), "inner")
	for _, s := range got.samples {
		if !mine[s.Process.PID] || beforeExec(s) {
			continue
		}
		inProgram++
		if slices.ContainsFunc(s.Stack, func(loc sample.Location) bool {
			return loc.Object.Path == spin(t) && loc.Offset >= start && loc.Offset < end
		}) {
			named++
		}
		if slices.ContainsFunc(s.Stack, func(loc sample.Location) bool { return loc.Object.Kind == sample.Unknown }) {
			unknown++
		}
	}
	if named < 300 {
		t.Errorf("%d samples in the function of 40 processes, 30 ms each at 499 Hz, want about 600", named)
	}
	if unknown > inProgram/10 {
		t.Errorf("%d of %d samples have frames in no known object", unknown, inProgram)
	}
}

// One process runs two programs in turn; no sample may carry the name of the
// other.
func TestExecChangesTheProgramAtOnce(t *testing.T) {
	p, got := newKernelTest(t, 999, 1<<22)
	second := filepath.Join(t.TempDir(), "second")
	if err := os.Link(spin(t), second); err != nil {
		text, err := os.ReadFile(spin(t))
		if err == nil {
			err = os.WriteFile(second, text, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(spin(t), "300", second, "300")
	during(t, p, func() {
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
	})
	count := map[string]int{}
	for _, s := range got.ofPID(cmd.Process.Pid) {
		count[s.Process.Executable]++
		for _, loc := range s.Stack {
			if loc.Object.Kind == sample.File && filepath.Base(loc.Object.Path) == "second" && s.Process.Executable != "second" {
				t.Errorf("%s has a frame of the program that came after it", s.Process.Executable)
			}
		}
	}
	if count["spin"] < 200 || count["second"] < 200 {
		t.Errorf("samples by program: %v, want about 300 of each", count)
	}
}

// A ring that nobody reads runs full. Every tick is then either handed on or
// counted as lost, and none is both.
func TestLostTicksAreCounted(t *testing.T) {
	p, got := newKernelTest(t, 4999, os.Getpagesize())
	if err := p.cpus.enableTicks(); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(spin(t), "200").Run(); err != nil {
		t.Fatal(err)
	}
	p.cpus.stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	c, err := p.sampler.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if got.lost == 0 {
		t.Error("a full ring lost nothing")
	}
	if sum := uint64(len(got.samples)) + got.lost; sum != c.Ticks {
		t.Errorf("%d samples + %d lost = %d, want %d ticks", len(got.samples), got.lost, sum, c.Ticks)
	}
	if want := time.Duration(got.lost * PeriodNanoseconds(4999)); got.lostCPU != want {
		t.Errorf("%v of CPU time lost with %d ticks, want %v", got.lostCPU, got.lost, want)
	}
}

// The number of samples is CPUs × rate × busy share, with the busy share from
// the kernel's own accounting of idle time.
func TestSamplesAreBusyTimeTimesRate(t *testing.T) {
	const frequency = 199
	p, got := newKernelTest(t, frequency, 1<<22)
	var start, end uint64
	var idle float64
	spinning := spin(t)
	during(t, p, func() {
		before := idleSeconds(t)
		start = monotonic()
		if err := exec.Command(spinning, "3000").Run(); err != nil {
			t.Fatal(err)
		}
		end = monotonic()
		idle = idleSeconds(t) - before
	})
	samples := 0
	for _, s := range got.samples {
		if s.Time >= start && s.Time <= end { // not those of the profiler's own start and end
			samples++
		}
	}
	busy := float64(end-start)/1e9*float64(runtime.NumCPU()) - idle
	want := busy * frequency
	// A busy machine may keep us from the ring until it is full; that is counted.
	if n := float64(samples) + float64(got.lost); math.Abs(n-want) > want/20 {
		t.Errorf("%.0f samples, %d of them lost, for %.2f s of busy CPU, want %.0f ± 5 %%", n, got.lost, busy, want)
	}
	t.Logf("%d samples and %d lost for %.2f s of busy CPU, want %.0f", samples, got.lost, busy, want)
}

// idleSeconds is the time all CPUs have idled since boot, see proc_stat(5).
func idleSeconds(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	var user, nice, system, idle, iowait float64
	if _, err := fmt.Sscanf(string(text), "cpu %f %f %f %f %f", &user, &nice, &system, &idle, &iowait); err != nil {
		t.Fatal(err)
	}
	return (idle + iowait) / procfs.TicksPerSecond
}

// A CPU that goes and comes back is sampled again, also if it was away for so
// short a time that nobody noticed.
func TestCPUComingOnline(t *testing.T) {
	const switchPath = "/sys/devices/system/cpu/cpu1/online"
	if unix.Access(switchPath, unix.W_OK) != nil {
		t.Skip("no second CPU that can be switched off")
	}
	set := func(state string) {
		if err := os.WriteFile(switchPath, []byte(state), 0); err != nil {
			t.Fatal(err)
		}
	}
	set("1")
	t.Cleanup(func() { set("1") })
	for name, cycle := range map[string]func(*Profiler){
		"noticed": func(p *Profiler) {
			set("0")
			waitForCPUs(t, p, 1)
			set("1")
			waitForCPUs(t, p, 2)
		},
		"in a moment": func(p *Profiler) {
			set("0")
			set("1")
			time.Sleep(2 * houseEvery) // what is tested: it is found within this time
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, got := newKernelTest(t, 199, 1<<22)
			cmd := exec.Command("taskset", "-c", "1", spin(t), "500")
			during(t, p, func() {
				cycle(p)
				if err := cmd.Run(); err != nil {
					t.Fatal(err)
				}
			})
			if n := len(got.ofPID(cmd.Process.Pid)); n < 80 {
				t.Errorf("%d samples on the CPU that came back, want about 100", n)
			}
		})
	}
}

// Close leaves nothing in the kernel.
func TestCloseLeavesNoProgram(t *testing.T) {
	p, _ := newKernelTest(t, 19, 1<<22)
	during(t, p, func() {})
	program, err := ebpf.NewProgramFromFD(dup(t, p.sampler.ProgramFD()))
	if err != nil {
		t.Fatal(err)
	}
	info, err := program.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	program.Close()
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// The kernel frees programs after a grace period (call_rcu).
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			return
		}
		left.Close()
		if time.Now().After(deadline) {
			t.Fatalf("program %d is still loaded", id)
		}
	}
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return copied
}
