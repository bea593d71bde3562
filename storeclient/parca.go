// SPDX-License-Identifier: Apache-2.0

package storeclient

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/google/pprof/profile"
	profilestorepb "github.com/parca-dev/parca/gen/proto/go/parca/profilestore/v1alpha1"
	querypb "github.com/parca-dev/parca/gen/proto/go/parca/query/v1alpha1"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fleetprof/fleetprof/internal/endpoint"
)

// parcaCPU is the CPU time of what fleetprof sends to Parca. delta are profiles of a duration.
const parcaCPU = "process_cpu:cpu:nanoseconds:cpu:nanoseconds:delta"

// parca asks QueryService of Parca, tested with v0.28:
// https://github.com/parca-dev/parca/blob/v0.28.0/proto/parca/query/v1alpha1/query.proto
type parca struct {
	address string
	query   *connect.Client[querypb.QueryRequest, querypb.QueryResponse]
	series  *connect.Client[querypb.QueryRangeRequest, querypb.QueryRangeResponse]
	types   *connect.Client[querypb.ProfileTypesRequest, querypb.ProfileTypesResponse]
}

func newParca(to *endpoint.Endpoint, client *http.Client) *parca {
	service := to.URL().JoinPath("parca.query.v1alpha1.QueryService").String() + "/"
	options := []connect.ClientOption{connect.WithGRPC(), connect.WithReadMaxBytes(maxAnswer)}
	return &parca{
		address: to.String(),
		query:   connect.NewClient[querypb.QueryRequest, querypb.QueryResponse](client, service+"Query", options...),
		series:  connect.NewClient[querypb.QueryRangeRequest, querypb.QueryRangeResponse](client, service+"QueryRange", options...),
		types:   connect.NewClient[querypb.ProfileTypesRequest, querypb.ProfileTypesResponse](client, service+"ProfileTypes", options...),
	}
}

func (p *parca) String() string    { return p.address }
func (p *parca) KeepsLabels() bool { return false }

// Profile asks for the PPROF report of a merge. It comes without period, duration and labels,
// and with a time of its own; samples/count come as CPU time.
func (p *parca) Profile(ctx context.Context, q Query) (*profile.Profile, error) {
	q = p.typed(q)
	answer, err := p.query.CallUnary(ctx, connect.NewRequest(&querypb.QueryRequest{
		Mode: querypb.QueryRequest_MODE_MERGE,
		Options: &querypb.QueryRequest_Merge{Merge: &querypb.MergeProfile{
			Query: q.Type + matchers(q.Selector), Start: timestamppb.New(q.From), End: p.end(q),
		}},
		ReportType: querypb.QueryRequest_REPORT_TYPE_PPROF,
	}))
	if err != nil {
		return nil, p.refused(ctx, q, err)
	}
	gz := answer.Msg.GetPprof()
	if len(gz) == 0 {
		return nil, p.noSamples(ctx, q)
	}
	merged, err := profile.ParseData(gz)
	if err != nil {
		return nil, fmt.Errorf("read answer of %v: %w", p, err)
	}
	if len(merged.Sample) == 0 {
		return nil, p.noSamples(ctx, q)
	}
	setTime(merged, q)
	return merged, nil
}

// setTime gives a profile the range that was asked for.
func setTime(p *profile.Profile, q Query) {
	p.TimeNanos, p.DurationNanos = q.From.UnixNano(), int64(q.To.Sub(q.From))
}

// Series asks for a range. Its steps are counted from the Unix epoch.
func (p *parca) Series(ctx context.Context, q Query, by []string, step time.Duration) (*Series, error) {
	q = p.typed(q)
	answer, err := p.series.CallUnary(ctx, connect.NewRequest(&querypb.QueryRangeRequest{
		Query: q.Type + matchers(q.Selector), Start: timestamppb.New(q.From), End: p.end(q),
		Step: durationpb.New(step), SumBy: by,
	}))
	if err != nil {
		return nil, p.refused(ctx, q, err)
	}
	out := &Series{Unit: unit(q.Type)}
	for _, s := range answer.Msg.GetSeries() {
		if u := s.GetSampleType().GetUnit(); u != "" {
			out.Unit = u // of samples/count it is that of the period
		}
		group := Group{Values: make([]string, len(by))}
		for i, name := range by {
			j := slices.IndexFunc(s.GetLabelset().GetLabels(), func(l *profilestorepb.Label) bool { return l.GetName() == name })
			if j >= 0 {
				group.Values[i] = s.GetLabelset().GetLabels()[j].GetValue()
			}
		}
		for _, v := range s.GetSamples() {
			if v.GetValue() != 0 {
				group.Points = append(group.Points, Point{v.GetTimestamp().AsTime(), v.GetValue()})
			}
		}
		out.Groups = append(out.Groups, group)
	}
	if len(out.Groups) == 0 {
		return nil, p.noSamples(ctx, q)
	}
	return out, nil
}

func (p *parca) typed(q Query) Query {
	if q.Type == "" {
		q.Type = parcaCPU
	}
	return q
}

// end is the last time that belongs to a query: Parca's ranges include their end.
func (p *parca) end(q Query) *timestamppb.Timestamp {
	return timestamppb.New(q.To.Add(-time.Nanosecond))
}

func (p *parca) refused(ctx context.Context, q Query, err error) error {
	if connect.CodeOf(err) == connect.CodeNotFound {
		return p.noSamples(ctx, q)
	}
	return refused(p.address, "Parca", err)
}

func (p *parca) noSamples(ctx context.Context, q Query) error {
	answer, err := p.types.CallUnary(ctx, connect.NewRequest(&querypb.ProfileTypesRequest{Start: timestamppb.New(q.From), End: p.end(q)}))
	if err != nil {
		return refused(p.address, "Parca", err)
	}
	var all []string
	for _, t := range answer.Msg.GetTypes() {
		parts := []string{t.GetName(), t.GetSampleType(), t.GetSampleUnit(), t.GetPeriodType(), t.GetPeriodUnit()}
		if t.GetDelta() {
			parts = append(parts, "delta")
		}
		all = append(all, strings.Join(parts, ":"))
	}
	return noSamples(p.address, q, all)
}

// unit is that of a profile type, name:sample_type:sample_unit:period_type:period_unit.
func unit(profileType string) string {
	if parts := strings.Split(profileType, ":"); len(parts) > 2 {
		return parts[2]
	}
	return ""
}
