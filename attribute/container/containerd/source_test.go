// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	apievents "github.com/containerd/containerd/api/events"
	containers "github.com/containerd/containerd/api/services/containers/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/proto"

	"github.com/fleetprof/fleetprof/attribute/container"
	"github.com/fleetprof/fleetprof/sample"
)

// follower is a Source at work.
type follower struct {
	*Source
	*container.Table
}

func follow(t testing.TB, socket string, size int) follower {
	t.Helper()
	registry := prometheus.NewRegistry()
	table := container.NewTable(size, registry)
	s, err := New(Options{
		Socket: socket, PodLabels: []string{"team"}, Table: table, Logger: slog.New(slog.DiscardHandler), Registerer: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return follower{s, table}
}

func (f follower) awaitConnected(t testing.TB, connected float64) {
	t.Helper()
	eventually(t, "not connected, or not disconnected", func() bool { return testutil.ToFloat64(f.metrics.connected) == connected })
}

// named reports whether a container of a pod has its labels, those of the pod included.
func (f follower) named(c *containers.Container) bool {
	m, ok := f.Lookup(c.ID)
	return ok && m.Labels.Get(sample.LabelPodContainer) == c.Labels[containerName] && m.App == "shop" &&
		m.Labels.Get(sample.LabelPod) == c.Labels[podName] && m.Labels.Get("k8s_pod_label_team") == "green"
}

func (f follower) awaitNamed(t testing.TB, c *containers.Container) {
	t.Helper()
	eventually(t, "container "+c.ID+" has no name", func() bool { return f.named(c) })
}

func TestSourceListsAndFollows(t *testing.T) {
	server := newFake(t)
	before, after := podContainer(1, 1), podContainer(1, 2)
	server.create(kubernetes, before)
	server.create(kubernetes, sandbox(1))
	f := follow(t, server.socket, 100)
	f.awaitConnected(t, 1)
	f.awaitNamed(t, before)
	server.create(kubernetes, after)
	f.awaitNamed(t, after)
	server.remove(kubernetes, after.ID)
	eventually(t, "the end was not heard of", func() bool { return testutil.ToFloat64(f.metrics.deleted) == 1 })
	if !f.named(after) {
		t.Error("a container that has ended lost its name at once")
	}
	eventually(t, "nothing was listed again", func() bool { server.mu.Lock(); defer server.mu.Unlock(); return server.lists == 4 })
}

// An update has more of a container than its id, which is asked for.
func TestSourceUpdates(t *testing.T) {
	server := newFake(t)
	f := follow(t, server.socket, 10)
	f.awaitConnected(t, 1)
	c := &containers.Container{ID: "web", Image: "localhost/first:1"}
	server.create("default", c)
	imageIs := func(image string) func() bool {
		return func() bool {
			m, _ := f.Lookup("web")
			return m.Labels.Get(sample.LabelImage) == image
		}
	}
	eventually(t, "not named", imageIs("localhost/first:1"))
	server.mu.Lock()
	changed := proto.CloneOf(c)
	changed.Image = "localhost/second:1"
	server.all[[2]string{"default", "web"}] = changed
	server.tell("default", topicUpdate, &apievents.ContainerUpdate{ID: "web", Image: changed.Image, Labels: map[string]string{"team": "green"}})
	server.mu.Unlock()
	eventually(t, "the update was not heard of", imageIs("localhost/second:1"))
	if got := testutil.ToFloat64(f.metrics.unreadable); got != 0 { // the list would have told of it too
		t.Errorf("%v events were not read", got)
	}
}

// A container that is gone before it is asked for is not taken for one of its name.
func TestSourceMisses(t *testing.T) {
	server := newFake(t)
	f := follow(t, server.socket, 100)
	f.awaitConnected(t, 1)
	server.mu.Lock()
	server.tell("default", topicCreate, &apievents.ContainerCreate{ID: "web"})
	server.mu.Unlock()
	eventually(t, "it was not missed", func() bool { return testutil.ToFloat64(f.metrics.missed) == 1 })
	server.create("default", &containers.Container{ID: "web", Image: "localhost/other:1"})
	eventually(t, "the other was not found", func() bool { return testutil.ToFloat64(f.metrics.created) == 1 })
	if m, ok := f.Lookup("web"); ok {
		t.Errorf("one of two containers called web is %v", m)
	}
}

// Names stay when containerd goes, and what happened meanwhile is known when it is back.
func TestSourceReconnects(t *testing.T) {
	server := newFake(t)
	stays, comes := podContainer(1, 1), podContainer(1, 2)
	server.create(kubernetes, sandbox(1))
	server.create(kubernetes, stays)
	f := follow(t, server.socket, 100)
	f.awaitNamed(t, stays)
	for range 3 {
		server.stop()
		f.awaitConnected(t, 0)
		if !f.named(stays) {
			t.Fatal("a running container lost its name")
		}
		server.create(kubernetes, comes)
		server.start(t)
		f.awaitConnected(t, 1)
		f.awaitNamed(t, comes)
		server.remove(kubernetes, comes.ID)
		comes = podContainer(1, 3)
	}
	if got := testutil.ToFloat64(f.metrics.failures); got < 3 {
		t.Errorf("%v failures, want one for each restart", got)
	}
}

// A runtime that does not answer keeps nobody from asking the table, and from ending.
func TestSourceStuck(t *testing.T) {
	server := newFake(t)
	known := podContainer(1, 1)
	server.create(kubernetes, sandbox(1))
	server.create(kubernetes, known)
	f := follow(t, server.socket, 100)
	f.awaitNamed(t, known)
	stuck := make(chan struct{})
	server.mu.Lock()
	server.stuck = stuck
	server.mu.Unlock()
	late := podContainer(1, 2)
	server.create(kubernetes, late)
	for range 1000 {
		if !f.named(known) || f.named(late) {
			t.Fatal("names changed without an answer")
		}
	}
	server.mu.Lock()
	server.stuck = nil
	server.mu.Unlock()
	close(stuck)
	f.awaitNamed(t, late)
}

func TestSourceWithoutContainerd(t *testing.T) {
	f := follow(t, filepath.Join(t.TempDir(), "none"), 100)
	if _, ok := f.Lookup("web"); ok {
		t.Error("a name out of nothing")
	}
}

func TestDescribe(t *testing.T) {
	random := strings.Repeat("0123456789abcdef", 4)
	kubelet := map[string]string{
		podNamespace: "shop", podName: "cart-0", podUID: "uid", containerName: "web", ecsTask: "liar", nerdctlName: "liar",
	}
	pod := map[string]string{
		kind: "sandbox", podNamespace: "shop", podName: "cart-0", podUID: "uid",
		"team": "green", "app.kubernetes.io/name": "cart", "app": "no", "other": "no",
	}
	tests := []struct {
		name, namespace string
		c               *containers.Container
		want            map[string]string
		pod             *container.Pod
		uid             string
	}{
		{"kubelet", kubernetes, &containers.Container{ID: random, Image: "localhost/a:1", Labels: kubelet}, map[string]string{
			"container_image_name": "localhost/a:1", "container_name": "web", "k8s_container_name": "web",
			"k8s_namespace_name": "shop", "k8s_pod_name": "cart-0", "k8s_pod_uid": "uid",
		}, nil, "uid"},
		{"sandbox", kubernetes, &containers.Container{ID: random, Labels: pod}, map[string]string{
			"k8s_namespace_name": "shop", "k8s_pod_name": "cart-0", "k8s_pod_uid": "uid",
		}, &container.Pod{Labels: sample.NewLabelSet(map[string]string{"k8s_pod_label_team": "green"}), App: "cart"}, "uid"},
		{"labels of Kubernetes elsewhere", "default", &containers.Container{ID: "web", Labels: pod}, map[string]string{"container_name": "web"}, nil, ""},
		{"ECS", "moby", &containers.Container{ID: random, Labels: map[string]string{
			ecsTask: "arn:aws:ecs:r:1:task/c/t", ecsFamily: "shop", ecsRevision: "7", ecsContainer: "web",
		}}, map[string]string{
			"aws_ecs_task_arn": "arn:aws:ecs:r:1:task/c/t", "aws_ecs_task_family": "shop", "aws_ecs_task_revision": "7", "container_name": "web",
		}, nil, ""},
		{"nerdctl", "default", &containers.Container{ID: random, Labels: map[string]string{nerdctlName: "web"}}, map[string]string{"container_name": "web"}, nil, ""},
		{"Docker", "moby", &containers.Container{ID: random}, nil, nil, ""},
		{"hostile", "default", &containers.Container{ID: random, Image: strings.Repeat("a", 513), Labels: map[string]string{nerdctlName: "a\x00b"}}, nil, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := newDescriber([]string{"team"}, prometheus.NewCounter(prometheus.CounterOpts{Name: "x"}))
			if err != nil {
				t.Fatal(err)
			}
			got := d.describe(tt.namespace, tt.c)
			if got.ID != tt.c.ID || got.Namespace != tt.namespace || got.PodUID != tt.uid || got.Labels != sample.NewLabelSet(tt.want) {
				t.Errorf("%+v, want labels %v", got, tt.want)
			}
			if (got.Pod == nil) != (tt.pod == nil) || got.Pod != nil && *got.Pod != *tt.pod {
				t.Errorf("pod %+v, want %+v", got.Pod, tt.pod)
			}
		})
	}
}

func TestPodLabels(t *testing.T) {
	_, err := New(Options{PodLabels: []string{"a-b", "a.b"}, Registerer: prometheus.NewRegistry()})
	if err == nil {
		t.Error("two labels that would be one are accepted")
	}
	if got := podLabel("app.kubernetes.io/name"); got != "k8s_pod_label_app_kubernetes_io_name" {
		t.Errorf("label %q", got)
	}
}
