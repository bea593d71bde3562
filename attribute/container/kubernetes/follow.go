// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/fleetprof/fleetprof/sample"
)

// shortWatch is what a watch lasts at least that ends as it should, if it has told of nothing.
// One that tells of nothing has a bookmark every minute.
const shortWatch = 30 * time.Second

var errShortWatch = errors.New("watch ended early")

// follow lists the pods of the node and goes on with what happens to them until ctx ends or
// there is an error. A watch that ends is continued where it ended.
func (s *Source) follow(ctx context.Context) error {
	version, err := s.list(ctx)
	if err != nil {
		return fmt.Errorf("list pods of node %s: %w", s.node, err)
	}
	defer s.metrics.connected.Set(0)
	for ctx.Err() == nil {
		if version, err = s.watch(ctx, version); err != nil {
			return fmt.Errorf("watch pods of node %s: %w", s.node, err)
		}
	}
	return ctx.Err()
}

// ofNode are the options of all calls about pods.
func (s *Source) ofNode(version string) metav1.ListOptions {
	return metav1.ListOptions{FieldSelector: "spec.nodeName=" + s.node, ResourceVersion: version}
}

// list brings the table to what there is, and says as of when that is.
func (s *Source) list(ctx context.Context) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	// Version 0 is answered from the server's memory, as for the kubelet. It may be
	// a moment old; pods that seem to have ended by it keep their names.
	all, err := s.client.Resource(podResource).List(ctx, s.ofNode("0"))
	if err != nil {
		return "", err
	}
	s.owners.beginSweep()
	for i := range all.Items {
		s.metrics.listed.Inc()
		s.put(&all.Items[i])
	}
	s.owners.endSweep()
	s.owners.announce()
	if len(all.Items) == 0 && !s.toldEmpty {
		s.toldEmpty = true
		s.log.Warn("the Kubernetes API knows no pod of this node: is --node-name right?", "node", s.node)
	}
	return all.ResourceVersion, nil
}

// watch follows what happens after a version, and says as of when the table is.
func (s *Source) watch(ctx context.Context, from string) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, watchTime+callTime)
	defer cancel()
	tooSlow := time.AfterFunc(callTime, cancel)
	options, lasting := s.ofNode(from), int64(watchTime/time.Second)
	options.AllowWatchBookmarks, options.TimeoutSeconds = true, &lasting
	began := time.Now()
	stream, err := s.client.Resource(podResource).Watch(ctx, options)
	tooSlow.Stop()
	if err != nil {
		return "", err
	}
	defer stream.Stop()
	s.metrics.connected.Set(1)
	version = from
	for event := range stream.ResultChan() {
		if version, err = s.apply(event, version); err != nil {
			return "", err
		}
	}
	if version == from && time.Since(began) < shortWatch {
		return "", errShortWatch
	}
	return version, nil
}

// apply brings the table to what an event says.
func (s *Source) apply(event watch.Event, before string) (version string, err error) {
	if event.Type == watch.Error {
		return "", apierrors.FromObject(event.Object)
	}
	o, ok := event.Object.(*metav1.PartialObjectMetadata)
	if !ok {
		return "", fmt.Errorf("event %s is about a %T", event.Type, event.Object)
	}
	switch event.Type {
	case watch.Added, watch.Modified:
		s.metrics.changed.Inc()
		s.put(o)
	case watch.Deleted:
		s.metrics.deleted.Inc()
		s.owners.delete(s.uid(o))
	}
	s.owners.announce()
	if o.ResourceVersion == "" {
		return before, nil
	}
	return o.ResourceVersion, nil
}

// uid is what the kubelet calls a pod.
func (s *Source) uid(o *metav1.PartialObjectMetadata) string {
	if uid, mirror := isMirror(o); mirror {
		return uid
	}
	return string(o.UID)
}

// put takes a pod that exists.
func (s *Source) put(o *metav1.PartialObjectMetadata) {
	told := pod{uid: s.uid(o)}
	if told.uid == "" || len(told.uid) > maxUID {
		s.metrics.unfit.Inc()
		return
	}
	labels := map[string]string{sample.LabelNode: s.node}
	if _, mirror := isMirror(o); !mirror {
		label, name, up, ok := controller(o)
		if !ok {
			s.metrics.unfit.Inc()
		}
		labels[label], told.up = name, up
	}
	told.labels = sample.NewLabelSet(labels) // which has nothing without a name
	s.owners.put(told)
}
