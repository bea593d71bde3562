// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetprof/fleetprof/sample"
)

// resolve asks for the owners of ReplicaSets and Jobs as pods come that have some, until ctx
// ends. What cannot be had is asked for again.
func (s *Source) resolve(ctx context.Context) {
	for failing := s.pause.first; ; {
		var again <-chan time.Time
		if s.askAll(ctx) {
			failing = s.pause.first
		} else {
			again = time.After(jittered(failing))
			failing = min(2*failing, s.pause.last)
		}
		s.owners.announce()
		select {
		case <-ctx.Done():
			return
		case <-s.owners.wanted:
		case <-again:
		}
	}
}

// askAll asks once for each owner that is not known. It is false if some still are not. Of
// a kind that this agent may not read only one is asked for.
func (s *Source) askAll(ctx context.Context) (all bool) {
	all = true
	refused := make(map[string]bool)
	for r := range s.owners.unsettled() {
		if refused[r.resource.Resource] {
			continue
		}
		err := s.ask(ctx, r)
		switch {
		case ctx.Err() != nil:
			return false
		case err == nil:
			continue
		case isRefused(err):
			refused[r.resource.Resource] = true
			s.metrics.ownersRefused.Inc()
		default:
			s.metrics.ownersFailed.Inc()
		}
		all = false
		s.log.Debug("owner not known", "resource", r.resource.Resource, "namespace", r.namespace, "name", r.name, "error", err)
	}
	return all
}

// ask asks for one owner.
func (s *Source) ask(ctx context.Context, r reference) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	found, err := s.client.Resource(r.resource).Namespace(r.namespace).Get(ctx, r.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), err == nil && string(found.UID) != r.uid:
		s.metrics.ownersGone.Inc() // or another one of its name
		s.owners.settle(r, sample.LabelSet{})
		return nil
	case err != nil:
		return err
	}
	s.metrics.ownersFound.Inc()
	label, name, _, ok := controller(found)
	if !ok {
		s.metrics.unfit.Inc()
	}
	s.owners.settle(r, sample.NewLabelSet(map[string]string{label: name}))
	return nil
}

func isRefused(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) }
