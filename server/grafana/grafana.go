// SPDX-License-Identifier: Apache-2.0

// Package grafana answers what Grafana's data source for Pyroscope asks: querier.v1 of Pyroscope
// by the Connect protocol, gRPC and gRPC-Web, at /querier.v1.QuerierService/.
//
//	ProfileTypes            which profile types are stored
//	LabelNames, LabelValues for the editor of queries
//	SelectSeries            the panel over time
//	SelectMergeStacktraces  the flame graph
//	SelectMergeProfile      not for Grafana, but for tools that want pprof
//
// The other calls of the service are about what is not stored here, and are answered as
// unimplemented. The types are those of https://github.com/grafana/pyroscope/tree/api/v1.6.0/api;
// ranges are in milliseconds since the Unix epoch and include both ends.
package grafana

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"connectrpc.com/connect"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"google.golang.org/protobuf/proto"

	"github.com/fleetprof/fleetprof/server/query"
)

const (
	// maxRequest bounds a request, in bytes.
	maxRequest = 1 << 20
	// maxStep bounds the step of a series, in seconds.
	maxStep = 365 * 24 * 3600
	// lately is the range of a question that names none, as the editor of queries does.
	lately = time.Hour
)

// Querier answers. It is safe for concurrent use.
type Querier struct {
	querierv1connect.UnimplementedQuerierServiceHandler
	api *query.API
}

// New makes a Querier that asks api, under its bounds.
func New(api *query.API) *Querier { return &Querier{api: api} }

// Register adds the calls to a mux.
func (q *Querier) Register(mux *http.ServeMux) {
	path, handler := querierv1connect.NewQuerierServiceHandler(q, connect.WithReadMaxBytes(maxRequest))
	mux.Handle(path, q.api.Scope(handler))
}

// SelectSeries sums over time: the point t is the sum of what was between t-step and t. The
// first is at the begin of the range.
func (q *Querier) SelectSeries(ctx context.Context, r *connect.Request[querierv1.SelectSeriesRequest]) (*connect.Response[querierv1.SelectSeriesResponse], error) {
	answer := &querierv1.SelectSeriesResponse{}
	s, err := parseSelection(r.Msg.Start, r.Msg.End, r.Msg.LabelSelector)
	if err != nil {
		return nil, err
	}
	question, some, err := s.sumOf(r.Msg.ProfileTypeID)
	if err != nil || !some {
		return connect.NewResponse(answer), err
	}
	switch {
	case len(r.Msg.StackTraceSelector.GetCallSite()) > 0:
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("select series by stack trace: not supported"))
	case r.Msg.GetAggregation() == typesv1.TimeSeriesAggregationType_TIME_SERIES_AGGREGATION_TYPE_AVERAGE:
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("average series: not supported, only sums"))
	case !(r.Msg.Step >= 0.001 && r.Msg.Step <= maxStep):
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("read step %v: want seconds, from 0.001 to %d", r.Msg.Step, maxStep))
	}
	step := time.Duration(math.Round(r.Msg.Step*1000)) * time.Millisecond
	first := question.Range.From
	points := question.Range.To.Add(-time.Millisecond).Sub(first)/step + 1
	question.Range.From = first.Add(time.Millisecond - step) // (t-step, t] in milliseconds
	question.Range.To = question.Range.From.Add(points * step)
	sums, err := q.api.Series(ctx, question, r.Msg.GroupBy, step)
	if err != nil {
		return nil, refusal(err)
	}
	groups := sums.Groups // the largest first
	if limit := r.Msg.GetLimit(); limit > 0 && int64(len(groups)) > limit {
		groups = groups[:limit]
	}
	for _, g := range groups {
		answer.Series = append(answer.Series, seriesMessage(g, r.Msg.GroupBy, first.UnixMilli(), step.Milliseconds()))
	}
	return connect.NewResponse(answer), nil
}

// seriesMessage is one group; labels that it does not have are left out, and so are points of 0.
func seriesMessage(g *query.Group, by []string, start, step int64) *typesv1.Series {
	out := &typesv1.Series{}
	for i, name := range by {
		if g.Values[i] != "" {
			out.Labels = append(out.Labels, &typesv1.LabelPair{Name: name, Value: g.Values[i]})
		}
	}
	for i, v := range g.Sums {
		if v != 0 {
			out.Points = append(out.Points, &typesv1.Point{Timestamp: start + int64(i)*step, Value: float64(v)})
		}
	}
	return out
}

// SelectMergeStacktraces draws a flame graph.
func (q *Querier) SelectMergeStacktraces(ctx context.Context, r *connect.Request[querierv1.SelectMergeStacktracesRequest]) (*connect.Response[querierv1.SelectMergeStacktracesResponse], error) {
	switch {
	case r.Msg.Format != querierv1.ProfileFormat_PROFILE_FORMAT_UNSPECIFIED && r.Msg.Format != querierv1.ProfileFormat_PROFILE_FORMAT_FLAMEGRAPH:
		return nil, connect.NewError(connect.CodeUnimplemented, fmt.Errorf("write format %v: only flame graphs are supported", r.Msg.Format))
	case len(r.Msg.StackTraceSelector.GetCallSite())+len(r.Msg.ProfileIdSelector)+len(r.Msg.TraceIdSelector)+len(r.Msg.SpanSelector) > 0:
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("select by stack trace, profile, trace or span: not supported, only by labels"))
	}
	answer := &querierv1.SelectMergeStacktracesResponse{Flamegraph: new(querierv1.FlameGraph)}
	s, err := parseSelection(r.Msg.Start, r.Msg.End, r.Msg.LabelSelector)
	if err != nil {
		return nil, err
	}
	question, some, err := s.sumOf(r.Msg.ProfileTypeID)
	if err != nil || !some {
		return connect.NewResponse(answer), err
	}
	g, err := q.api.FlameGraph(ctx, question, r.Msg.GetMaxNodes())
	if err != nil {
		return nil, refusal(err)
	}
	answer.Flamegraph = flameBearer(g)
	return connect.NewResponse(answer), nil
}

// SelectMergeProfile merges into one profile in pprof form, with values of the one type that is
// asked for.
func (q *Querier) SelectMergeProfile(ctx context.Context, r *connect.Request[querierv1.SelectMergeProfileRequest]) (*connect.Response[googlev1.Profile], error) {
	if len(r.Msg.StackTraceSelector.GetCallSite())+len(r.Msg.ProfileIdSelector)+len(r.Msg.TraceIdSelector) > 0 {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("select by stack trace, profile or trace: not supported, only by labels"))
	}
	answer := new(googlev1.Profile)
	s, err := parseSelection(r.Msg.Start, r.Msg.End, r.Msg.LabelSelector)
	if err != nil {
		return nil, err
	}
	question, some, err := s.sumOf(r.Msg.ProfileTypeID)
	if err != nil || !some {
		return connect.NewResponse(answer), err
	}
	raw, err := q.api.Profile(ctx, question)
	if err != nil {
		return nil, refusal(err)
	}
	if err := proto.Unmarshal(raw, answer); err != nil { // it is pprof's own message under another name
		return nil, refusal(fmt.Errorf("unpack profile: %w", err))
	}
	return connect.NewResponse(answer), nil
}

// refusal gives an error of the API the code that Grafana acts on.
func refusal(err error) error {
	switch query.Status(err) {
	case http.StatusBadRequest:
		return connect.NewError(connect.CodeInvalidArgument, err)
	case http.StatusUnprocessableEntity, http.StatusTooManyRequests:
		return connect.NewError(connect.CodeResourceExhausted, err)
	case http.StatusGatewayTimeout:
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	case http.StatusServiceUnavailable:
		return connect.NewError(connect.CodeUnavailable, err)
	}
	return connect.NewError(connect.CodeInternal, err)
}
