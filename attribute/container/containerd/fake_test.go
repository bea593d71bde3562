// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	containers "github.com/containerd/containerd/api/services/containers/v1"
	events "github.com/containerd/containerd/api/services/events/v1"
	namespaces "github.com/containerd/containerd/api/services/namespaces/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// fake is a containerd that has no containers but what a test makes.
type fake struct {
	socket string
	server *grpc.Server

	mu          sync.Mutex
	all         map[[2]string]*containers.Container // by namespace and id
	subscribers map[chan *types.Envelope]struct{}
	lists       int
	// stuck, if there is one, holds up every answer until it is closed.
	stuck chan struct{}
}

// The services of a fake; what is not implemented here is not to be asked for.
type (
	fakeContainers struct {
		containers.UnimplementedContainersServer
		*fake
	}
	fakeEvents struct {
		events.UnimplementedEventsServer
		*fake
	}
	fakeNamespaces struct {
		namespaces.UnimplementedNamespacesServer
	}
)

func newFake(t testing.TB) *fake {
	t.Helper()
	f := &fake{
		socket: filepath.Join(t.TempDir(), "socket"), all: make(map[[2]string]*containers.Container),
		subscribers: make(map[chan *types.Envelope]struct{}),
	}
	f.start(t)
	t.Cleanup(f.stop)
	return f
}

func (f *fake) start(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	f.server = grpc.NewServer()
	containers.RegisterContainersServer(f.server, fakeContainers{fake: f})
	events.RegisterEventsServer(f.server, fakeEvents{fake: f})
	namespaces.RegisterNamespacesServer(f.server, fakeNamespaces{})
	go f.server.Serve(listener)
}

// stop ends all connections.
func (f *fake) stop() { f.server.Stop() }

// create makes a container and tells of it.
func (f *fake) create(namespace string, c *containers.Container) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.CreatedAt = timestamppb.Now()
	f.all[[2]string{namespace, c.ID}] = c
	f.tell(namespace, topicCreate, &apievents.ContainerCreate{ID: c.ID, Image: c.Image})
}

func (f *fake) remove(namespace, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, [2]string{namespace, id})
	f.tell(namespace, topicDelete, &apievents.ContainerDelete{ID: id})
}

// tell sends an event to all who listen.
func (f *fake) tell(namespace, topic string, event proto.Message) {
	content, err := proto.Marshal(event)
	if err != nil {
		panic(err) // a mistake in this test
	}
	e := &types.Envelope{
		Timestamp: timestamppb.Now(), Namespace: namespace, Topic: topic,
		Event: &anypb.Any{TypeUrl: string(event.ProtoReflect().Descriptor().FullName()), Value: content},
	}
	for s := range f.subscribers {
		s <- e
	}
}

func (f *fake) wait(ctx context.Context) error {
	f.mu.Lock()
	stuck := f.stuck
	f.mu.Unlock()
	if stuck == nil {
		return nil
	}
	select {
	case <-stuck:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func namespaceOf(ctx context.Context) string {
	values := metadata.ValueFromIncomingContext(ctx, namespaceHeader)
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

// Get is one container, as containerd answers.
func (f fakeContainers) Get(ctx context.Context, r *containers.GetContainerRequest) (*containers.GetContainerResponse, error) {
	if err := f.wait(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.all[[2]string{namespaceOf(ctx), r.ID}]
	if c == nil {
		return nil, status.Errorf(codes.NotFound, "container %q", r.ID)
	}
	return &containers.GetContainerResponse{Container: c}, nil
}

// ListStream is all containers of a namespace.
func (f fakeContainers) ListStream(_ *containers.ListContainersRequest, to containers.Containers_ListStreamServer) error {
	if err := f.wait(to.Context()); err != nil {
		return err
	}
	f.mu.Lock()
	f.lists++
	var all []*containers.Container
	for key, c := range f.all {
		if key[0] == namespaceOf(to.Context()) {
			all = append(all, c)
		}
	}
	f.mu.Unlock()
	for _, c := range all {
		if err := to.Send(&containers.ListContainerMessage{Container: c}); err != nil {
			return err
		}
	}
	return nil
}

// List is two namespaces.
func (fakeNamespaces) List(context.Context, *namespaces.ListNamespacesRequest) (*namespaces.ListNamespacesResponse, error) {
	return &namespaces.ListNamespacesResponse{Namespaces: []*namespaces.Namespace{{Name: "k8s.io"}, {Name: "default"}}}, nil
}

// Subscribe sends events, whatever the filter.
func (f fakeEvents) Subscribe(_ *events.SubscribeRequest, to events.Events_SubscribeServer) error {
	mine := make(chan *types.Envelope, 1000)
	f.mu.Lock()
	f.subscribers[mine] = struct{}{}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.subscribers, mine)
	}()
	for {
		select {
		case e := <-mine:
			if err := to.Send(e); err != nil {
				return err
			}
		case <-to.Context().Done():
			return nil
		}
	}
}

// podContainer is a container of a pod, with a specification of a usual size.
func podContainer(pod, n int) *containers.Container {
	return &containers.Container{
		ID: fmt.Sprintf("%060d%04d", pod, n), Image: "localhost/fleetprof/shop:1.2.3",
		Labels: map[string]string{
			kind: "container", podNamespace: "shop", podName: fmt.Sprint("pod-", pod), podUID: fmt.Sprint("uid-", pod),
			containerName: fmt.Sprint("container-", n),
		},
		Spec: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec", Value: make([]byte, 12<<10)},
	}
}

// sandbox is that of a pod.
func sandbox(pod int) *containers.Container {
	c := podContainer(pod, 0)
	delete(c.Labels, containerName)
	c.Labels[kind], c.Labels["app"], c.Labels["team"] = "sandbox", "shop", "green"
	return c
}

// eventually waits for what takes some milliseconds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}
