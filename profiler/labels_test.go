// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// readyLabels names the program of testdata/labels for machines without a compiler, see
// docs/kernels.md.
const readyLabels = "FLEETPROF_TEST_LABELS"

// stretch is some time that a thread of testdata/labels worked under labels.
type stretch struct {
	TID        uint32
	Begin, End uint64
	Name       string
	Labels     map[string]string
}

// buildGo builds a program of testdata with some Go; the test is skipped if that is
// not on the machine.
func buildGo(t *testing.T, source, toolchain string, env, flags []string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", source))); err != nil {
		t.Fatal(err)
	}
	language := strings.Join(strings.Split(strings.TrimPrefix(toolchain, "go"), ".")[:2], ".")
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.org/program\n\ngo "+language+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", append(append([]string{"build", "-o", "program"}, flags...), ".")...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GOTOOLCHAIN="+toolchain, "GOPROXY=off", "GOWORK=off"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "toolchain not available") || strings.Contains(string(out), "GOPROXY=off") {
			t.Skipf("no toolchain %s: %s", toolchain, out)
		}
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "program")
}

// Labels that a Go program sets are on the samples of the goroutine that has them, and
// on no others. The program says when each thread had which.
func TestGoLabels(t *testing.T) {
	if binary := os.Getenv(readyLabels); binary != "" {
		testGoLabels(t, binary, "8s", 99) // it takes some seconds until the program is read
		return
	}
	stripped := []string{"-ldflags=-s -w", "-trimpath"}
	for name, c := range map[string]struct {
		toolchain  string
		env, flags []string
	}{
		"1.20":           {toolchain: "go1.20.14"},
		"1.23 stripped":  {toolchain: "go1.23.12", flags: stripped},
		"1.24":           {toolchain: "go1.24.0"},
		"1.25 stripped":  {toolchain: "go1.25.6", flags: stripped},
		"newest":         {toolchain: runtime.Version()},
		"newest, as PIE": {toolchain: runtime.Version(), flags: append([]string{"-buildmode=pie"}, stripped...)},
	} {
		t.Run(name, func(t *testing.T) {
			testGoLabels(t, buildGo(t, "labels", c.toolchain, append(c.env, "CGO_ENABLED=0"), c.flags), "2s", 499)
		})
	}
}

func testGoLabels(t *testing.T, binary, lasting string, frequency int) {
	t.Helper()
	p, got := newKernelTest(t, frequency, 1<<22)
	cmd := exec.Command(binary, lasting)
	var out []byte
	during(t, p, func() {
		var err error
		if out, err = cmd.Output(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * pollEvery)
	})
	judgeLabels(t, stretchesOf(t, out), got.ofPID(cmd.Process.Pid))
}

func stretchesOf(t *testing.T, out []byte) (all []stretch) {
	t.Helper()
	for line := range bytes.Lines(out) {
		var s stretch
		if err := json.Unmarshal(line, &s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// judgeLabels holds what samples say against what the program says.
func judgeLabels(t *testing.T, stretches []stretch, samples []*sample.Sample) {
	t.Helper()
	seen, executors := make(map[string]int), make(map[sample.ExecutorKind]int)
	for _, s := range samples {
		executors[s.Executor.Kind]++
		labels := make(map[string]string)
		for _, a := range s.Published {
			labels[a.Key] = a.Value
		}
		for _, truth := range stretches {
			if s.TID != truth.TID || s.Time < truth.Begin || s.Time > truth.End {
				continue
			}
			if s.Executor.Kind != sample.Goroutine && len(labels) == 0 {
				continue // nobody had looked at the program yet, or it was the runtime's own work
			}
			if want := fitting(truth); !maps.Equal(labels, want) && !(truth.Name == "twelve" && partOf(labels, truth.Labels)) {
				t.Errorf("%s: got %v, want %v", truth.Name, labels, want)
			}
			seen[truth.Name]++
		}
	}
	t.Logf("%v, by kind of executor %v", seen, executors)
	for _, name := range []string{"none", "two", "three", "two again", "child", "odd", "long", "eight", "twelve"} {
		if seen[name] < 10 {
			t.Errorf("%d samples of %q", seen[name], name)
		}
	}
}

// fitting are those of a stretch's labels that are short enough.
func fitting(s stretch) map[string]string {
	want := make(map[string]string)
	for key, value := range s.Labels {
		if key != "" && value != "" && len(key) <= 32 && len(value) <= 128 {
			want[key] = value
		}
	}
	return want
}

// partOf reports whether labels are some of all: of many, ten are read, or none if
// they are in a map.
func partOf(labels, all map[string]string) bool {
	for key, value := range labels {
		if all[key] != value {
			return false
		}
	}
	return len(labels) == 10 || len(labels) == 0
}
