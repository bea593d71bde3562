// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/procfs"
)

// workloadLabels are all that tell what a sample is of, but the id.
var workloadLabels = []string{
	"container_name", "container_image_name", "k8s_namespace_name", "k8s_pod_name", "k8s_pod_uid",
	"k8s_container_name", "k8s_pod_label_team", "service_name", "systemd_unit", "aws_ecs_task_arn",
	"k8s_node_name", "k8s_deployment_name", "k8s_replicaset_name", "k8s_statefulset_name",
}

// TestPods runs two pods with two containers each, one made through containerd's own API
// and one through CRI. Containers are started, killed, started again and removed, some
// live for half a second of CPU time only, and containerd itself is killed and started
// again. The programs say by the names of their threads which they are.
func TestPods(t *testing.T) {
	needRoot(t)
	c := newContainerd(t)
	const cart, ledger = "0a1b2c3d-0000-4000-8000-000000000001", "0a1b2c3d-0000-4000-8000-000000000002"
	answering := make(chan struct{})
	close(answering)
	agent := newWatcher(t, "--containerd="+c.socket, "--pod-labels=team", "--frequency=1999",
		"--kubernetes="+newClusterAPI(t, answering, cart, ledger), "--node-name=node-1")
	shop := newPlainPod(t, c, podLabels{"shop", "cart-0", cart, "green", "cart", map[string]string{
		"k8s_node_name": "node-1", "k8s_replicaset_name": "cart-5d8f", "k8s_deployment_name": "cart",
	}})
	bankLabels := podLabels{"bank", "ledger-0", ledger, "blue", "ledger", map[string]string{
		"k8s_node_name": "node-1", "k8s_statefulset_name": "ledger",
	}}
	bank := newCRI(t, c.socket).pod(t, bankLabels.namespace, bankLabels.pod, bankLabels.uid,
		map[string]string{"team": "blue", "app": "no", "app.kubernetes.io/name": "ledger"})
	j := podJudge{containers: make(map[string]*podContainer), sandboxes: map[string]map[string]string{
		"sandbox": shop.ofSandbox("sandbox"), bank.id: bankLabels.ofSandbox(""),
	}}
	j.add(t, "web", shop.start(t, "web", "0"), shop.of("web"))
	j.add(t, "db", shop.start(t, "db", "0"), shop.of("db"))
	j.add(t, "api", bank.container(t, "api", "api"), bankLabels.of("api"))
	j.add(t, "tail", bank.container(t, "tail", "tail"), bankLabels.of("tail"))
	// A container of no pod, in a namespace where labels of Kubernetes mean nothing.
	lone := plainPod{c: c, namespace: "default", environ: "OTEL_SERVICE_NAME=declared"}
	j.add(t, "lone", lone.start(t, "lone", "0"), map[string]string{
		"container_name": "lone", "container_image_name": containerImage, "service_name": "declared",
		"aws_ecs_task_arn": "liar", // the image's; ECS makes no containers here
	})
	brief := func(name string) {
		j.containers[name] = &podContainer{id: shop.start(t, name, "0.5"), labels: shop.of(name), used: 0.5, unsure: 0.1}
		shop.ended(t, name)
		shop.remove(t, name)
	}
	brief("brief1")
	time.Sleep(5 * time.Second) // the measuring itself

	c.end(t, unix.SIGKILL)
	time.Sleep(2 * time.Second) // names must survive that
	c.start(t)
	awaitTrue(t, "the agent to follow containerd again", func() bool {
		return metrics(t, agent.address)["fleetprof_containerd_connected"] == 1
	})
	brief("brief2")
	j.containers["web"].stop(t)
	c.run(t, "-n", "k8s.io", "task", "rm", "--force", "web")
	c.run(t, "-n", "k8s.io", "task", "start", "-d", "web")
	j.containers["web"].find(t)
	j.containers["api"].stop(t)
	bank.remove(t, j.containers["api"].id)
	j.add(t, "api2", bank.container(t, "api", "api2"), bankLabels.of("api"))
	time.Sleep(5 * time.Second)
	for _, name := range []string{"web", "db", "tail", "api2", "lone"} {
		j.containers[name].stop(t)
	}
	j.judge(t, agent.windows(t, time.Now().Add(windowLength)))
}

// podLabels are what samples say of a pod.
type podLabels struct {
	namespace, pod, uid, team, service string
	owners                             map[string]string
}

// of are the labels of a container of the pod.
func (p podLabels) of(name string) map[string]string {
	labels := map[string]string{
		"container_name": name, "container_image_name": containerImage, "k8s_namespace_name": p.namespace,
		"k8s_pod_name": p.pod, "k8s_pod_uid": p.uid, "k8s_container_name": name, "k8s_pod_label_team": p.team,
		"service_name": p.service,
	}
	maps.Copy(labels, p.owners)
	return labels
}

// ofSandbox are the labels of the pod's sandbox.
func (p podLabels) ofSandbox(name string) map[string]string {
	labels := p.of(name)
	delete(labels, "k8s_container_name")
	return labels
}

// plainPod makes containers with labels as the kubelet sets them, without CRI.
type plainPod struct {
	c *testContainerd
	podLabels
	namespace string // containerd's
	environ   string
}

func newPlainPod(t *testing.T, c *testContainerd, labels podLabels) plainPod {
	t.Helper()
	p := plainPod{c: c, podLabels: labels, namespace: "k8s.io"}
	p.run(t, "sandbox", nil, "io.cri-containerd.kind=sandbox", "team="+labels.team, "app="+labels.service)
	return p
}

// run starts a container with labels of the pod and more, and removes it in the end.
func (p plainPod) run(t *testing.T, name string, args []string, labels ...string) {
	t.Helper()
	if p.uid != "" {
		labels = append(labels, "io.kubernetes.pod.namespace="+p.podLabels.namespace,
			"io.kubernetes.pod.name="+p.pod, "io.kubernetes.pod.uid="+p.uid)
	}
	all := []string{"-n", p.namespace, "run", "-d", "--net-host"}
	for _, label := range labels {
		all = append(all, "--label", label)
	}
	if p.environ != "" {
		all = append(all, "--env", p.environ)
	}
	p.c.run(t, append(append(all, containerImage, name, "/burn"), args...)...)
	t.Cleanup(func() {
		_ = p.c.command("-n", p.namespace, "task", "rm", "--force", name).Run() // some are gone
		_ = p.c.command("-n", p.namespace, "container", "rm", name).Run()
		removeGroups(t, "/"+p.namespace)
	})
}

// start starts a container that burns so many seconds of CPU time and returns its id.
func (p plainPod) start(t *testing.T, name, seconds string) string {
	t.Helper()
	p.run(t, name, []string{name, seconds}, "io.kubernetes.container.name="+name)
	return name
}

// ended waits until the program of a container has ended.
func (p plainPod) ended(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		for row := range strings.Lines(p.c.run(t, "-n", p.namespace, "task", "ls")) {
			if fields := strings.Fields(row); len(fields) == 3 && fields[0] == name && fields[2] == "STOPPED" {
				return
			}
		}
	}
	t.Fatalf("container %s does not end", name)
}

func (p plainPod) remove(t *testing.T, name string) {
	t.Helper()
	p.c.run(t, "-n", p.namespace, "task", "rm", name)
	p.c.run(t, "-n", p.namespace, "container", "rm", name)
}

// podContainer is a container and what is known of it without the agent.
type podContainer struct {
	thread, id string
	labels     map[string]string
	// usage is the file with its CPU time while it runs, and pid its program.
	usage string
	pid   int
	// used is the CPU time of all programs that were stopped, in seconds, but for what
	// is unsure: runc's, which is in the cgroup for a moment. got is that of samples.
	used, unsure, got float64
}

// find finds the program of a container by its thread, which it must have named.
func (p *podContainer) find(t *testing.T) {
	t.Helper()
	proc := procfs.New("/proc")
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		pids, err := proc.PIDs()
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range pids {
			name, err := proc.Comm(pid)
			executable, _ := proc.Executable(pid)
			if err == nil && name == p.thread && executable == "burn" {
				p.pid, p.usage = int(pid), usageFile(t, pid)
				return
			}
		}
	}
	t.Fatalf("no program of container %s", p.thread)
}

// usageFile is where the kernel tells the CPU time of a process's cgroup.
func usageFile(t *testing.T, pid uint32) string {
	t.Helper()
	proc := procfs.New("/proc")
	cgroups, err := proc.Cgroups(pid)
	if err != nil {
		t.Fatal(err)
	}
	var found string
	err = proc.Mounts(procfs.Self, func(m procfs.Mount) bool {
		for _, c := range cgroups {
			switch {
			case m.Type == "cgroup" && m.Has("cpuacct") && c.Has("cpuacct"):
				found = filepath.Join(m.MountPoint, c.Path, "cpuacct.usage")
			case m.Type == "cgroup2" && c.V2() && found == "":
				found = filepath.Join(m.MountPoint, c.Path, "cpu.stat")
			}
		}
		return true
	})
	if err != nil || found == "" {
		t.Fatalf("no CPU time of process %d: %v", pid, err)
	}
	return found
}

// stop ends the program of a container, and adds what the kernel says that the
// container used.
func (p *podContainer) stop(t *testing.T) {
	t.Helper()
	if err := unix.Kill(p.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(p.usage)
	if err != nil {
		t.Fatal(err)
	}
	var n uint64
	if _, err := fmt.Sscanf(strings.TrimPrefix(string(text), "usage_usec "), "%d", &n); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	unit := 1e9 // cpuacct.usage
	if strings.HasPrefix(string(text), "usage_usec") {
		unit = 1e6
	}
	p.used += float64(n) / unit
	if err := unix.Kill(p.pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// podJudge holds samples against what containers there were, by the names of threads.
type podJudge struct {
	containers map[string]*podContainer
	// sandboxes are the labels of what holds the namespaces of pods, by id. Of those
	// only runc is ever sampled.
	sandboxes map[string]map[string]string
}

func (j podJudge) add(t *testing.T, thread, id string, labels map[string]string) {
	t.Helper()
	p := &podContainer{thread: thread, id: id, labels: labels}
	p.find(t)
	j.containers[thread] = p
}

func (j podJudge) judge(t *testing.T, windows []*profile.Profile) {
	t.Helper()
	byID := make(map[string]*podContainer)
	for _, c := range j.containers {
		byID[c.id] = c
	}
	for id, labels := range j.sandboxes {
		byID[id] = &podContainer{id: id, labels: labels}
	}
	samples, wrong := 0, 0
	for _, w := range windows {
		for _, s := range w.Sample {
			label := func(name string) string { return strings.Join(s.Label[name], ",") }
			c := byID[label("container_id")]
			if truth := j.containers[label("thread_name")]; truth != nil && label("process_executable_name") == "burn" {
				c = truth
			}
			if c == nil {
				c = new(podContainer) // no pod's
			} else {
				samples += int(s.Value[0])
			}
			c.got += seconds64(s) // runc's, too, until it executes the program
			if !c.right(label) {
				wrong++
				t.Errorf("a sample has the labels %v, want %v of container %q", s.Label, c.labels, c.id)
			}
		}
	}
	t.Logf("%d samples of containers, %d sets of labels wrong", samples, wrong)
	period := float64(windows[0].Period) / 1e9 // in seconds
	for thread, c := range j.containers {
		t.Logf("%-8s %.3f s in the profile, %.3f s by the cgroup", thread, c.got, c.used)
		// Three standard deviations, if each sample may be there or not.
		if math.Abs(c.got-c.used) > 0.03*c.used+3*math.Sqrt(c.used*period)+c.unsure {
			t.Errorf("%s: %.3f s of CPU time in the profile, want %.3f s", thread, c.got, c.used)
		}
	}
}

// right reports whether a sample has the labels of a container, or, if that is none of
// the test, those of no pod.
func (c *podContainer) right(label func(string) string) bool {
	if c.id == "" {
		return label("k8s_pod_name") == ""
	}
	return label("container_id") == c.id && !slices.ContainsFunc(workloadLabels, func(name string) bool {
		want := c.labels[name]
		if want == "declared" && label("process_executable_name") != "burn" {
			want = c.labels["container_name"] // runc has another environment
		}
		return label(name) != want
	})
}

// removeGroups removes empty cgroups from all hierarchies, as container managers leave
// behind what they did not make; those that others use stay.
func removeGroups(t *testing.T, paths ...string) {
	t.Helper()
	err := procfs.New("/proc").Mounts(procfs.Self, func(m procfs.Mount) bool {
		for _, path := range paths {
			if m.Type == "cgroup" || m.Type == "cgroup2" {
				_ = unix.Rmdir(filepath.Join(m.MountPoint, path))
			}
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
}
