// SPDX-License-Identifier: Apache-2.0

package grafana

import (
	"context"
	"slices"
	"strings"

	"connectrpc.com/connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"

	"github.com/fleetprof/fleetprof/server/query"
)

// ProfileTypes lists those that are stored.
func (q *Querier) ProfileTypes(ctx context.Context, r *connect.Request[querierv1.ProfileTypesRequest]) (*connect.Response[querierv1.ProfileTypesResponse], error) {
	s, err := parseSelection(r.Msg.Start, r.Msg.End)
	if err != nil {
		return nil, err
	}
	types, err := q.types(ctx, s)
	if err != nil {
		return nil, err
	}
	answer := &querierv1.ProfileTypesResponse{}
	for _, t := range types {
		answer.ProfileTypes = append(answer.ProfileTypes, t.message())
	}
	return connect.NewResponse(answer), nil
}

// types lists those that are stored and selected.
func (q *Querier) types(ctx context.Context, s selection) (types []profileType, err error) {
	stored, err := q.api.Types(ctx, s.Question)
	if err != nil {
		return nil, refusal(err)
	}
	for _, one := range stored {
		for _, t := range typesOf(one) {
			if s.takes(t) {
				types = append(types, t)
			}
		}
	}
	slices.SortFunc(types, func(a, b profileType) int { return strings.Compare(a.id(), b.id()) })
	return slices.Compact(types), nil
}

// lists makes s a question for a list, of the types that are selected. It is nothing,
// some=false, if there are none.
func (q *Querier) lists(ctx context.Context, s selection) (question query.Question, some bool, err error) {
	question = s.Question
	if len(s.ofType) == 0 {
		return question, true, nil
	}
	types, err := q.types(ctx, s)
	for _, t := range types {
		question.Types = append(question.Types, t.stored())
	}
	return question, len(types) > 0, err
}

// LabelNames lists the labels of what is selected.
func (q *Querier) LabelNames(ctx context.Context, r *connect.Request[typesv1.LabelNamesRequest]) (*connect.Response[typesv1.LabelNamesResponse], error) {
	s, err := parseSelection(r.Msg.Start, r.Msg.End, r.Msg.Matchers...)
	if err != nil {
		return nil, err
	}
	question, some, err := q.lists(ctx, s)
	if err != nil || !some {
		return connect.NewResponse(&typesv1.LabelNamesResponse{}), err
	}
	names, err := q.api.LabelNames(ctx, question)
	if err != nil {
		return nil, refusal(err)
	}
	return connect.NewResponse(&typesv1.LabelNamesResponse{Names: names}), nil
}

// LabelValues lists the values of a label, which may be one of those that stand for the
// profile type.
func (q *Querier) LabelValues(ctx context.Context, r *connect.Request[typesv1.LabelValuesRequest]) (*connect.Response[typesv1.LabelValuesResponse], error) {
	s, err := parseSelection(r.Msg.Start, r.Msg.End, r.Msg.Matchers...)
	if err != nil {
		return nil, err
	}
	if isOfType(r.Msg.Name) {
		types, err := q.types(ctx, s)
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(&typesv1.LabelValuesResponse{Names: typeValues(types, r.Msg.Name)}), nil
	}
	question, some, err := q.lists(ctx, s)
	if err != nil || !some {
		return connect.NewResponse(&typesv1.LabelValuesResponse{}), err
	}
	values, err := q.api.LabelValues(ctx, question, r.Msg.Name)
	if err != nil {
		return nil, refusal(err)
	}
	return connect.NewResponse(&typesv1.LabelValuesResponse{Names: values}), nil
}
