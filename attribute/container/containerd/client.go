// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"fmt"
	"io"
	"time"

	containers "github.com/containerd/containerd/api/services/containers/v1"
	events "github.com/containerd/containerd/api/services/events/v1"
	namespaces "github.com/containerd/containerd/api/services/namespaces/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

const (
	// callTime bounds one call, and the wait for one message of a list. A containerd
	// that is slower is taken for broken, and asked again later.
	callTime = 10 * time.Second
	// maxMessage bounds a message in bytes: the description of one container is
	// some 20 KiB, 200 KiB in the worst cases seen.
	maxMessage = 4 << 20
	// window is how many bytes may be on their way.
	window = 1 << 20
	// namespaceHeader names the namespace of a call: GRPCHeader of containerd's
	// pkg/namespaces.
	namespaceHeader = "containerd-namespace"
)

// client is one connection to containerd.
type client struct {
	connection *grpc.ClientConn
	containers containers.ContainersClient
	events     events.EventsClient
	namespaces namespaces.NamespacesClient
}

// dial prepares a connection, which is made by the first call.
func dial(socket string) (*client, error) {
	c, err := grpc.NewClient("unix:"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the socket's permissions decide
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		// Fixed windows: else every message is followed by a ping that measures.
		grpc.WithInitialWindowSize(window),
		grpc.WithInitialConnWindowSize(window),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to containerd at %s: %w", socket, err)
	}
	return &client{
		connection: c,
		containers: containers.NewContainersClient(c),
		events:     events.NewEventsClient(c),
		namespaces: namespaces.NewNamespacesClient(c),
	}, nil
}

func (c *client) close() { _ = c.connection.Close() } // nothing is pending that matters

// within makes the context of calls in a namespace.
func within(ctx context.Context, namespace string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, namespaceHeader, namespace)
}

// get asks for one container.
func (c *client) get(ctx context.Context, namespace, id string) (*containers.Container, error) {
	ctx, cancel := context.WithTimeout(within(ctx, namespace), callTime)
	defer cancel()
	answer, err := c.containers.Get(ctx, &containers.GetContainerRequest{ID: id})
	if err != nil {
		return nil, fmt.Errorf("ask for container %s in namespace %s: %w", id, namespace, err)
	}
	if answer.Container.GetID() != id || id == "" {
		return nil, fmt.Errorf("ask for container %s in namespace %s: answer is of %q", id, namespace, answer.Container.GetID())
	}
	return answer.Container, nil
}

// list calls f for every container of every namespace.
func (c *client) list(ctx context.Context, f func(namespace string, c *containers.Container)) error {
	asking, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	all, err := c.namespaces.List(asking, &namespaces.ListNamespacesRequest{})
	if err != nil {
		return fmt.Errorf("list namespaces: %w", err)
	}
	for _, namespace := range all.Namespaces {
		if err := c.listOne(ctx, namespace.Name, f); err != nil {
			return fmt.Errorf("list containers of namespace %s: %w", namespace.Name, err)
		}
	}
	return nil
}

// listOne calls f for every container of a namespace. They come one by one, so that
// there is never more than one of them in memory.
func (c *client) listOne(ctx context.Context, namespace string, f func(string, *containers.Container)) error {
	ctx, cancel := context.WithCancel(within(ctx, namespace))
	defer cancel()
	tooSlow := time.AfterFunc(callTime, cancel)
	defer tooSlow.Stop()
	stream, err := c.containers.ListStream(ctx, &containers.ListContainersRequest{})
	if err != nil {
		return err
	}
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		tooSlow.Reset(callTime)
		if message.Container.GetID() != "" {
			f(namespace, message.Container)
		}
	}
}
