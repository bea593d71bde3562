// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/internal/procfs"
)

// needRoot skips a test that must load BPF programs.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loading BPF programs needs root")
	}
}

// daemon is a `fleetprof run` or `fleetprof server` of a test.
type daemon struct {
	cmd *exec.Cmd
	url string
	log *bytes.Buffer
	end chan error
}

var pageAddress = regexp.MustCompile(`https?://127\.0\.0\.1:[0-9]+`)

// start runs a long-lived command on a free port and waits for its page.
func start(t *testing.T, args ...string) *daemon {
	t.Helper()
	return startOn(t, "127.0.0.1:0", args...)
}

// startOn is start on a port of the caller's choice.
func startOn(t *testing.T, address string, args ...string) *daemon {
	t.Helper()
	d := &daemon{
		cmd: exec.Command(fleetprof, append(args, "--listen="+address)...),
		log: new(bytes.Buffer), end: make(chan error, 1),
	}
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	page := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			fmt.Fprintln(d.log, lines.Text())
			if url := pageAddress.FindString(lines.Text()); url != "" {
				select {
				case page <- url:
				default:
				}
			}
		}
		d.end <- d.cmd.Wait()
	}()
	t.Cleanup(func() { d.cmd.Process.Kill() })
	select {
	case d.url = <-page:
	case err := <-d.end:
		t.Fatalf("fleetprof %s: %v\n%s", strings.Join(args, " "), err, d.log)
	case <-time.After(30 * time.Second):
		t.Fatalf("fleetprof %s says no address\n%s", strings.Join(args, " "), d.log)
	}
	return d
}

// interrupt is Ctrl-C: everything must have ended within two seconds.
func (d *daemon) interrupt(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-d.end:
		if err != nil {
			t.Errorf("ended with %v\n%s", err, d.log)
		}
	case <-time.After(2 * time.Second):
		t.Error("still running two seconds after Ctrl-C")
		d.cmd.Process.Kill()
		<-d.end
	}
}

// profile asks for everything that is stored; nil if there is nothing yet.
func (d *daemon) profile(t *testing.T, parameters string) *profile.Profile {
	t.Helper()
	answer, err := http.Get(d.url + "/api/v1/pprof?last=1h&" + parameters)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNotFound {
		return nil
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", answer.Status, body, err)
	}
	p, err := profile.ParseData(body)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// burner is a program that burns CPU until the test ends it.
type burner struct {
	name string
	cmd  *exec.Cmd
	// inner are functions of which one is in at least this share of the stacks.
	inner []string
	share float64
	// used is the CPU time it had when it was ended, in seconds.
	used float64
}

// burners compiles and starts a C program with frame pointers, a Go program
// and a shell loop.
func burners(t testing.TB) []*burner {
	t.Helper()
	dir := t.TempDir()
	for _, build := range [][]string{
		{"gcc", "-O2", "-fno-omit-frame-pointer", "-o", dir + "/burnc", "testdata/burn.c"},
		{"go", "build", "-o", dir + "/burngo", "./testdata/burngo"},
	} {
		if out, err := exec.Command(build[0], build[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", build, err, out)
		}
	}
	return []*burner{
		{name: "burnc", cmd: exec.Command(dir + "/burnc"), inner: []string{"burn_inner"}, share: 0.9},
		{name: "burngo", cmd: exec.Command(dir + "/burngo"), inner: []string{"main.burnInner"}, share: 0.9},
		// bash has no frame pointers, so that only the innermost frame is seen,
		// and that is often one of libc or a function that bash does not export.
		{name: "bash", cmd: exec.Command("bash", "-c", "while :; do x=$((x+1)); done"), inner: bashFunctions(t), share: 0.2},
	}
}

// bashFunctions are the functions bash exports to its loadable builtins.
func bashFunctions(t testing.TB) (names []string) {
	t.Helper()
	path, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("nm", "-D", "--defined-only", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) == 3 && strings.ContainsAny(fields[1], "TtWw") {
			names = append(names, fields[2])
		}
	}
	return names
}

// stop reads from /proc/PID/stat what the burner used, and ends it.
func (b *burner) stop(t *testing.T) {
	t.Helper()
	stat, err := procfs.New("/proc").Stat(uint32(b.cmd.Process.Pid))
	if err != nil {
		t.Error(err)
	}
	b.used = float64(stat.User+stat.System) / procfs.TicksPerSecond
	b.cmd.Process.Kill()
	b.cmd.Wait()
}

// The way of a sample from the kernel to the answer of the store, and the
// three kinds of program a user tries first: each must show with its functions
// by name and with the CPU time that /proc says it used. A sampler that does
// not sample, a wrong name, or a window lost at the end fails here.
func TestRunShowsWhatRuns(t *testing.T) {
	needRoot(t)
	data := t.TempDir() + "/data"
	d := start(t, "run", "--frequency=997", "--window=3s", "--data="+data)
	running := burners(t)
	for _, b := range running {
		if err := b.cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(10 * time.Second) // the measuring itself
	for _, b := range running {
		b.stop(t)
	}
	loaded := d.programs(t)
	d.interrupt(t)
	unloaded(t, loaded)

	// Another process answers from what was stored, the last window included.
	d = start(t, "server", "--data="+data)
	for _, b := range running {
		p := d.profile(t, fmt.Sprintf(`query={process_pid="%d"}`, b.cmd.Process.Pid))
		if p == nil {
			t.Errorf("%s: no samples", b.name)
			continue
		}
		b.check(t, p)
	}
	all := d.profile(t, "")
	inKernel := 0.0
	for _, s := range all.Sample {
		if len(s.Location) > 0 && s.Location[0].Mapping != nil && s.Location[0].Mapping.File == "[kernel.kallsyms]" {
			inKernel += seconds64(s)
		}
	}
	if inKernel == 0 {
		t.Error("no kernel frames at all")
	}
	d.interrupt(t)
}

// check holds a profile of one burner against what the burner is.
func (b *burner) check(t *testing.T, p *profile.Profile) {
	t.Helper()
	var total, inner float64
	for _, s := range p.Sample {
		if got := s.Label["process_executable_name"]; !slices.Equal(got, []string{b.name}) {
			if slices.Equal(got, []string{"fleetprof.test"}) {
				continue // between fork and exec
			}
			t.Errorf("%s: a sample of executable %q", b.name, got)
		}
		if len(s.Label["host_name"]) != 1 || len(s.Label["thread_name"]) != 1 {
			t.Errorf("%s: labels %v", b.name, s.Label)
		}
		total += seconds64(s)
		if slices.ContainsFunc(names(s), func(name string) bool { return slices.Contains(b.inner, name) }) {
			inner += seconds64(s)
		}
	}
	if math.Abs(total-b.used) > b.used/10 {
		t.Errorf("%s: %.2f s of CPU time in the profile, %.2f s in /proc", b.name, total, b.used)
	}
	t.Logf("%s: %.2f s in the profile, %.2f s in /proc, %.1f %% in its functions", b.name, total, b.used, 100*inner/total)
	if inner < total*b.share {
		t.Errorf("%s: %.2f of %.2f s are in its functions", b.name, inner, total)
	}
}

func seconds64(s *profile.Sample) float64 { return float64(s.Value[1]) / 1e9 }

// programs are the ids of the BPF programs a process holds, see proc_pid_fdinfo(5).
func (d *daemon) programs(t *testing.T) (ids []ebpf.ProgramID) {
	t.Helper()
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range infos {
		text, _ := os.ReadFile(path) // a descriptor may be closed meanwhile
		for _, match := range regexp.MustCompile(`(?m)^prog_id:\s*(\d+)$`).FindAllSubmatch(text, -1) {
			id, err := strconv.ParseUint(string(match[1]), 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, ebpf.ProgramID(id))
		}
	}
	return ids
}

// unloaded waits until the kernel has freed programs: it does so after a grace
// period of RCU.
func unloaded(t *testing.T, ids []ebpf.ProgramID) {
	t.Helper()
	if len(ids) == 0 {
		t.Error("no BPF program was loaded at all")
	}
	for _, id := range ids {
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			left, err := ebpf.NewProgramFromID(id)
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			left.Close()
			if time.Now().After(deadline) {
				t.Errorf("BPF program %d left behind", id)
				break
			}
		}
	}
}

// fleetprof is the binary under test, built as users get it.
var fleetprof string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "fleetprof-test")
	if err != nil {
		panic(err)
	}
	fleetprof = filepath.Join(dir, "fleetprof")
	build := exec.Command("go", "build", "-o", fleetprof, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	os.Setenv("FLEETPROF_CPU_BUDGET", "0") // for its own test alone
	os.Setenv("FLEETPROF_STATE_DIR", "")   // many agents run at a time, and leave nothing behind
	os.Unsetenv("KUBERNETES_SERVICE_HOST") // tests that run in a pod do not ask its cluster
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}
