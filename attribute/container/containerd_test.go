// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/internal/programtest"
	"golang.org/x/sys/unix"
)

// containerd is a container manager of the test's own, with its state in a
// temporary directory.
type containerd struct{ socket string }

func startContainerd(t *testing.T) containerd {
	t.Helper()
	for _, program := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc"} {
		programtest.Need(t, program)
	}
	dir := t.TempDir()
	c := containerd{socket: filepath.Join(dir, "socket")}
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"+
		"[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), c.socket, c.socket+".ttrpc")
	configFile := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(configFile, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("containerd", "--config", configFile, "--log-level", "error")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		<-ended
	})
	for c.command("version").Run() != nil {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("containerd ended: %v", err)
		default:
		}
	}
	return c
}

func (c containerd) command(args ...string) *exec.Cmd {
	return exec.Command("ctr", append([]string{"--address", c.socket, "--connect-timeout", "1s"}, args...)...)
}

func (c containerd) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.command(args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ctr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// pid finds the process of a container in the table that ctr prints.
func (c containerd) pid(t *testing.T, namespace, name string) uint32 {
	t.Helper()
	table := c.run(t, "-n", namespace, "task", "ls")
	for row := range strings.Lines(table) {
		if fields := strings.Fields(row); len(fields) == 3 && fields[0] == name {
			pid, err := strconv.ParseUint(fields[1], 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			return uint32(pid)
		}
	}
	t.Fatalf("no container %s in:\n%s", name, table)
	return 0
}

// pauseRoot makes a root directory with one static program in it.
func pauseRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(root, "pause"), "./testdata/pause")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the container's program: %v\n%s", err, out)
	}
	return root
}

// A container that containerd made is told by the id it has there, in every
// hierarchy that containerd uses.
func TestRealContainer(t *testing.T) {
	all := hierarchies(t)
	c := startContainerd(t)
	names := []string{"fleetprof-test-" + strconv.Itoa(os.Getpid()), id2}
	for _, name := range names {
		const namespace = "k8s.io"
		c.run(t, "-n", namespace, "run", "-d", "--rootfs", pauseRoot(t), name, "/pause")
		t.Cleanup(func() {
			c.run(t, "-n", namespace, "task", "rm", "--force", name)
			c.run(t, "-n", namespace, "container", "rm", name)
			removeEverywhere(t, namespace)
		})
		pid := c.pid(t, namespace, name)
		joined := 0
		for _, h := range all {
			path := cgroupOf(t, h, pid)
			if path == "/" {
				continue
			}
			joined++
			id := makeCgroup(t, filepath.Join(h.MountPoint, path)).id
			r := newResolver(h, proc)
			if got := r.Place(id, pid).Container; got != name {
				t.Errorf("%v, cgroup %s: %q, want %q", h, path, got, name)
			}
			r.expect(t, map[string]float64{"container": 1, "byHandle": 1})
		}
		if joined == 0 {
			t.Errorf("container %s is in no hierarchy of %v", name, all)
		}
		h, err := Detect(proc)
		if err != nil || !slices.Contains(all, h) || cgroupOf(t, h, pid) == "/" {
			t.Errorf("Detect = %v, %v, which does not tell the container apart", h, err)
		}
	}
}

// removeEverywhere removes an empty cgroup from all hierarchies, as containerd
// leaves the one of a namespace behind. It stays where others use it.
func removeEverywhere(t *testing.T, path string) {
	t.Helper()
	err := proc.Mounts(procfs.Self, func(m procfs.Mount) bool {
		if m.Type == "cgroup" || m.Type == "cgroup2" {
			_ = os.Remove(filepath.Join(m.MountPoint, path))
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
}

// cgroupOf gives the path of a process's cgroup.
func cgroupOf(t *testing.T, h Hierarchy, pid uint32) string {
	t.Helper()
	cgroups, err := proc.Cgroups(pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cgroups {
		if h.has(c) {
			return c.Path
		}
	}
	t.Fatalf("process %d is not in %v", pid, h)
	return ""
}
