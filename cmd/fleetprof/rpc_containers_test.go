// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/attribute/container"
	"github.com/fleetprof/fleetprof/internal/procfs"
)

// TestContainersAddUp runs servers and work in the background in two containers, and holds
// all that is said of the samples of each against what the kernel accounts to its cgroup.
func TestContainersAddUp(t *testing.T) {
	needRoot(t)
	hierarchies := containerHierarchies(t)
	h := builtHandlers(t, buildGoHTTP)
	h.agent = newWatcher(t)
	all := []*handlerContainer{
		{servers: []string{"go-http"}, want: []string{"exact", "inferred", "unattributed", "runtime"}},
		{servers: []string{"python-threads", "node-async"}, want: []string{"exact", "ambiguous", "unattributed"}},
	}
	var stops []func() int64
	for i, c := range all {
		c.make(t, hierarchies, fmt.Sprintf("%064x", time.Now().UnixNano()+int64(i)))
		c.background(t)
		for _, name := range c.servers {
			server := handlerServerNamed(name)
			server.run = "sh enter.sh " + strings.Join(c.dirs, ":") + " " + server.run
			p := h.start(t, server, make(map[string]*servingHandlers))
			stops = append(stops, loadUntil(t, p))
		}
	}
	time.Sleep(3 * windowLength) // the agent meets the programs, which takes it longer than a window
	trial := handlerTrial{begin: h.agent.nextWindow(t)}
	trial.end = trial.begin.Add(5 * windowLength)
	time.Sleep(time.Until(trial.begin))
	for _, c := range all {
		c.used = -c.usage(t)
	}
	time.Sleep(time.Until(trial.end))
	for _, c := range all {
		c.used += c.usage(t)
	}
	for _, stop := range stops {
		stop()
	}
	windows := h.agent.windows(t, trial.end)
	for _, c := range all {
		t.Run(strings.Join(c.servers, ","), func(t *testing.T) { c.addsUp(t, windows, trial) })
	}
}

// containerHierarchies are those that the agent tells containers by, and that of version
// 2, which accounts CPU time; they may be one.
func containerHierarchies(t *testing.T) []string {
	t.Helper()
	proc := procfs.New("/proc")
	tells, err := container.Detect(proc)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{tells.MountPoint}
	err = proc.Mounts(procfs.Self, func(m procfs.Mount) bool {
		if m.Type == "cgroup2" && m.Root == "/" && m.MountPoint != all[0] {
			all = append(all, m.MountPoint)
			return false
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if !tells.V2 && len(all) == 1 {
		t.Skip("no cgroup v2, whose cpu.stat is the truth")
	}
	return all
}

// handlerContainer is a container with servers in it.
type handlerContainer struct {
	servers []string
	// want are attributions that there must be.
	want []string
	id   string
	// dirs are its cgroups, the last one in the hierarchy of version 2.
	dirs []string
	// used is the CPU time between two moments, in seconds.
	used float64
}

// make makes the cgroups as container managers do, and removes them when all processes
// in them have ended.
func (c *handlerContainer) make(t *testing.T, hierarchies []string, id string) {
	t.Helper()
	c.id = id
	for _, h := range hierarchies {
		dir := filepath.Join(h, id)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		c.dirs = append(c.dirs, dir)
		t.Cleanup(func() {
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				err := unix.Rmdir(dir)
				if errors.Is(err, unix.EBUSY) && time.Now().Before(deadline) {
					continue // a process has only just ended
				}
				if err != nil {
					t.Errorf("remove %s: %v", dir, err)
				}
				return
			}
		})
	}
}

// background starts work in the container that serves nobody.
func (c *handlerContainer) background(t *testing.T) {
	t.Helper()
	const work = "import time\nwhile True: sum(range(100_000)); time.sleep(.02)"
	cmd := exec.Command("sh", "enter.sh", strings.Join(c.dirs, ":"), "python3", "-c", work)
	cmd.Dir, cmd.Stderr = "testdata/rpc", t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// usage is the CPU time of the container so far, in seconds: cpu.stat of
// Documentation/admin-guide/cgroup-v2.rst.
func (c *handlerContainer) usage(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dirs[len(c.dirs)-1], "cpu.stat"))
	if err != nil {
		t.Fatal(err)
	}
	var microseconds uint64
	if _, err := fmt.Sscanf(string(text), "usage_usec %d", &microseconds); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return float64(microseconds) / 1e6
}

// addsUp checks that each sample of the container has one attribution, and that all of
// them are the CPU time of the container.
func (c *handlerContainer) addsUp(t *testing.T, windows []*profile.Profile, trial handlerTrial) {
	parts := make(map[string]float64)
	var sum float64
	within(windows, trial, func(s *profile.Sample) {
		if slices.Equal(s.Label["container_id"], []string{c.id}) {
			parts[strings.Join(s.Label["request_attribution"], ",")] += seconds64(s)
			sum += seconds64(s)
		}
	})
	t.Logf("%.2f s of CPU time in the profile, %.2f s in cpu.stat: %v", sum, c.used, parts)
	if math.Abs(sum-c.used) > 0.05*c.used {
		t.Errorf("%.2f s of CPU time in the profile, %.2f s in cpu.stat", sum, c.used)
	}
	for part := range parts {
		if !slices.Contains(attributions, part) {
			t.Errorf("%.2f s are %q", parts[part], part)
		}
	}
	for _, part := range c.want {
		if parts[part] == 0 {
			t.Errorf("nothing is %s", part)
		}
	}
}
