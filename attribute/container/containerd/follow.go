// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"fmt"
	"strconv"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	containers "github.com/containerd/containerd/api/services/containers/v1"
	events "github.com/containerd/containerd/api/services/events/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// The topics of events about containers, see containerd's core/runtime and
// plugins/services/containers. Those of tasks are not needed: a container is made
// before its task and removed after it.
const (
	topicCreate = "/containers/create"
	topicUpdate = "/containers/update"
	topicDelete = "/containers/delete"
)

// settle is when containers are listed for a second time: containerd does not say
// from when on it sends events, but that is a moment after it is asked to.
const settle = 2 * time.Second

// waitingEvents is how many events are read ahead; more wait in containerd.
const waitingEvents = 64

// follow lists the containers, calls listed, and goes on with what happens to them
// until ctx ends or the connection fails.
func (s *Source) follow(ctx context.Context, c *client, listed func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.events.Subscribe(ctx, &events.SubscribeRequest{Filters: []string{
		"topic==" + strconv.Quote(topicCreate), "topic==" + strconv.Quote(topicUpdate), "topic==" + strconv.Quote(topicDelete),
	}})
	if err != nil {
		return fmt.Errorf("subscribe to events of containerd: %w", err)
	}
	happened, broken := make(chan *types.Envelope, waitingEvents), make(chan error, 1)
	go func() {
		broken <- receive(ctx, stream.Recv, happened)
	}()
	if err := s.list(ctx, c); err != nil {
		return err
	}
	listed()
	settled := time.After(settle)
	for {
		select {
		case e := <-happened:
			err = s.apply(ctx, c, e)
		case <-settled:
			err = s.list(ctx, c)
		case err = <-broken:
		}
		if err != nil {
			return err
		}
	}
}

// receive hands on events until there are no more, and says why.
func receive(ctx context.Context, next func() (*types.Envelope, error), to chan<- *types.Envelope) error {
	for {
		e, err := next()
		if err != nil {
			return fmt.Errorf("read events of containerd: %w", err)
		}
		select {
		case to <- e:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// list brings the table to what there is. Between list and events nothing else is put
// into the table, so a container is only taken for gone if it is.
func (s *Source) list(ctx context.Context, c *client) error {
	s.table.BeginSweep()
	err := c.list(ctx, func(namespace string, c *containers.Container) {
		s.metrics.listed.Inc()
		s.table.Put(s.describe.describe(namespace, c))
	})
	if err != nil {
		return err
	}
	s.table.EndSweep()
	return nil
}

// apply brings the table to what an event says.
func (s *Source) apply(ctx context.Context, c *client, e *types.Envelope) error {
	id := s.id(e)
	switch {
	case id == "":
	case e.Topic == topicDelete:
		s.table.Delete(e.Namespace, id)
		s.metrics.deleted.Inc()
	default:
		return s.ask(ctx, c, e, id)
	}
	return nil
}

// id is that of the container that an event is about, "" if that cannot be told.
func (s *Source) id(e *types.Envelope) string {
	// All events about containers have it at the same place, and other things at others.
	about := new(apievents.ContainerDelete)
	err := proto.Unmarshal(e.GetEvent().GetValue(), about)
	if err != nil || about.ID == "" {
		s.metrics.unreadable.Inc()
		s.log.Debug("event not read", "topic", e.Topic, "error", err)
	}
	return about.ID
}

// ask asks for a container that was made or changed.
func (s *Source) ask(ctx context.Context, c *client, e *types.Envelope, id string) error {
	found, err := c.get(ctx, e.Namespace, id)
	at := e.Timestamp.AsTime()
	switch {
	case status.Code(err) == codes.NotFound:
		s.table.Missed(e.Namespace, id, at)
		s.metrics.missed.Inc()
		return nil
	case err != nil:
		return err
	case found.CreatedAt.AsTime().After(at): // it is not the one the event is about
		s.table.Missed(e.Namespace, id, at)
		s.metrics.missed.Inc()
	}
	s.table.Put(s.describe.describe(e.Namespace, found))
	s.metrics.created.Inc()
	return nil
}
