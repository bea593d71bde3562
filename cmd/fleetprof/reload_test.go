// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// replaceFile puts a new file in the place of an old one.
func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// The file is read again at SIGHUP and when it has changed. One that is wrong changes
// nothing; what needs a restart is told once, by name.
func TestReload(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/fleetprof.yaml"
	replaceFile(t, path, "memory-budget: 128MiB\n")
	running, err := readCommandLine([]string{"agent", "--store=dir:" + t.TempDir(), "--config=" + path, "--window=5s"}, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	used := make(chan *invocation, 10)
	registry, log := prometheus.NewRegistry(), new(bytes.Buffer)
	r := newReloader(running, func(i *invocation) { used <- i }, registry, slog.New(slog.NewTextHandler(log, nil)))
	if <-used != running {
		t.Error("the file of the start is not in force")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	// Before Run asks for signals, one would end the test.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	go func() {
		defer close(ended)
		r.Run(ctx)
	}()

	replaceFile(t, path, "memory-budget: 96MiB\nqueue: 1MiB\nwindow: 7s\n")
	awaitUse(t, "a changed file", used)
	hangup := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	hangup()
	awaitUse(t, "SIGHUP", used)

	replaceFile(t, path, "memory-budget: 96MiB\nqueue: lots\n")
	hangup()
	awaitTrue(t, "a wrong file", func() bool { return testutil.ToFloat64(r.metrics.successful) == 0 })
	replaceFile(t, path, "memory-budget: 128MiB\nqueue: 1MiB\nfrequency: 97\n")
	if hertz := awaitUse(t, "a file that is right again", used).continuous().Frequency; hertz != 97 {
		t.Errorf("frequency %d is put in force", hertz)
	}
	cancel()
	<-ended

	if len(used) != 0 {
		t.Errorf("%d more files in force", len(used))
	}
	if got := testutil.ToFloat64(r.metrics.successful); got != 1 {
		t.Errorf("successful is %v", got)
	}
	// --window is given on the command line, so what the file says of it does not matter.
	if got, want := testutil.CollectAndCount(r.metrics.needsRestart), 1; got != want || testutil.ToFloat64(r.metrics.needsRestart.WithLabelValues("queue")) != 1 {
		t.Errorf("%d settings need a restart, want queue", got)
	}
	for message, times := range map[string]int{
		"needs a restart\" setting=memory-budget": 1, "needs a restart\" setting=queue": 1, "setting=window": 0, "setting=frequency": 0,
		"fleetprof.yaml:2:8: queue must be a value such as 16MiB, not": 1,
	} {
		if got := strings.Count(log.String(), message); got != times {
			t.Errorf("%q is said %d times, want %d:\n%s", message, got, times, log)
		}
	}
}

func awaitUse(t *testing.T, what string, used <-chan *invocation) *invocation {
	t.Helper()
	select {
	case i := <-used:
		return i
	case <-time.After(30 * time.Second):
		t.Fatalf("%s is not put in force", what)
		return nil
	}
}

// awaitTrue waits for something that must happen soon.
func awaitTrue(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !happened(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited for %s", what)
		}
	}
}

// metrics are all metrics of a daemon, as text.
func (d *daemon) metrics(t *testing.T) string {
	t.Helper()
	answer, err := http.Get(d.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// metric is one of them, 0 if there is none of the name.
func (d *daemon) metric(t *testing.T, name string) float64 {
	t.Helper()
	match := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(d.metrics(t))
	if match == nil {
		return 0
	}
	value, err := strconv.ParseFloat(match[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// relabelled is a configuration that drops one program and renames the service of
// another one.
func relabelled(drop, service string) string {
	return `relabel_configs:
  - source_labels: [__meta_process_executable_name]
    regex: ` + drop + `
    action: drop
  - source_labels: [__meta_process_executable_path]
    regex: .*/burnkept
    target_label: service_name
    replacement: ` + service + `
`
}

// What rules say is what the store has: with the rules of the start, after the file was
// replaced, after a wrong file, and after SIGHUP.
func TestRulesDecideWhatIsStored(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "fleetprof.yaml")
	replaceFile(t, path, relabelled("burndropped", "first"))
	for _, name := range []string{"burnkept", "burndropped"} {
		burn := filepath.Join(dir, name)
		if out, err := exec.Command("gcc", "-O2", "-o", burn, "testdata/burn.c").CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v\n%s", err, out)
		}
	}
	d := start(t, "run", "--frequency=97", "--window=1s", "--data="+dir+"/data", "--config="+path)
	pids := make(map[string]int)
	for _, name := range []string{"burnkept", "burndropped"} {
		cmd := exec.Command(filepath.Join(dir, name))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pids[name] = cmd.Process.Pid
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
	}
	stored := func(query string) *profile.Profile { return d.profile(t, "query="+query) }
	shows := func(query string) func() bool { return func() bool { return stored(query) != nil } }
	dropped := func() float64 { return d.metric(t, `fleetprof_bpf_events_total{event="excluded"}`) }

	awaitTrue(t, "the first service", shows(`{service_name="first"}`))
	awaitTrue(t, "dropped ticks", func() bool { return dropped() > 0 })
	replaceFile(t, path, relabelled("burndropped", "second"))
	awaitTrue(t, "the second service", shows(`{service_name="second"}`))

	replaceFile(t, path, relabelled("(burndropped", "third"))
	d.cmd.Process.Signal(syscall.SIGHUP)
	awaitTrue(t, "a wrong file", func() bool {
		return strings.Contains(d.metrics(t), "fleetprof_config_last_reload_successful 0")
	})
	before, kept := dropped(), cpuSeconds(stored(`{service_name="second"}`))
	awaitTrue(t, "more dropped and kept after a wrong file", func() bool {
		return dropped() > before && cpuSeconds(stored(`{service_name="second"}`)) > kept
	})
	if stored(`{process_executable_name="burndropped"}`) != nil || stored(`{service_name="third"}`) != nil {
		t.Error("the wrong file is in force")
	}

	replaceFile(t, path, "memory-budget: 256MiB\n"+relabelled("nothing", "fourth"))
	d.cmd.Process.Signal(syscall.SIGHUP)
	awaitTrue(t, "the fourth service", shows(`{service_name="fourth"}`))
	awaitTrue(t, "what was dropped", shows(`{process_executable_name="burndropped",process_pid="`+strconv.Itoa(pids["burndropped"])+`"}`))
	if d.metric(t, `fleetprof_config_needs_restart{setting="memory-budget"}`) != 1 {
		t.Error("memory-budget does not need a restart")
	}
	for _, s := range stored(`{process_executable_name="burnkept"}`).Sample {
		if len(s.Label["service_name"]) != 1 || s.Label["process_pid"][0] != strconv.Itoa(pids["burnkept"]) || len(s.Label["host_name"]) != 1 {
			t.Fatalf("labels %v", s.Label)
		}
	}
	d.interrupt(t)
	if want := "fleetprof.yaml:3:12: error parsing regexp: missing closing"; !strings.Contains(d.log.String(), want) {
		t.Errorf("no %q in the log:\n%s", want, d.log)
	}
}

// cpuSeconds is that of a profile, in seconds.
func cpuSeconds(p *profile.Profile) (sum float64) {
	if p != nil {
		for _, s := range p.Sample {
			sum += seconds64(s)
		}
	}
	return sum
}

// The frequency and the budget change while the agent runs, and no CPU time is lost or
// invented by that.
func TestRatesReload(t *testing.T) {
	needRoot(t)
	t.Setenv("FLEETPROF_CPU_BUDGET", "") // puts it back in the end
	os.Unsetenv("FLEETPROF_CPU_BUDGET")
	path := t.TempDir() + "/fleetprof.yaml"
	write := func(hertz, percent int) {
		replaceFile(t, path, fmt.Sprintf("frequency: %d\ncpu-budget: %d\n", hertz, percent))
	}
	write(49, 0)
	busy := compile(t, "busy", "testdata/bench/deep.c", withoutFramePointers)
	a := startBudgeted(t, "--window=1s", "--config="+path)
	// It samples by then, and listens to signals: what the load used before would be missing.
	awaitTrue(t, "the first window", func() bool { return len(a.written()) > 0 })
	load := background(t, busy, "30")
	for _, step := range []struct{ hertz, percent int }{{49, 0}, {499, 90}, {97, 0}, {251, 80}} {
		write(step.hertz, step.percent)
		if err := a.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		awaitTrue(t, "the settings", func() bool {
			m := metrics(t, a.address)
			return m["fleetprof_governor_wanted_hertz"] == float64(step.hertz) && m["fleetprof_governor_budget_ratio"] == float64(step.percent)/100
		})
		awaitTrue(t, "a window of it", func() bool {
			all := a.written()
			return len(all) > 0 && all[len(all)-1].Period == int64(time.Second)/int64(step.hertz)
		})
	}
	for name := range metrics(t, a.address) {
		if strings.HasPrefix(name, "fleetprof_config_needs_restart") {
			t.Error(name)
		}
	}
	used := cpuOf(t, load.pid).total()
	load.end()
	compareCPU(t, a.profiles(), load.pid, used)
}
