// SPDX-License-Identifier: Apache-2.0

package storeclient

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/google/pprof/profile"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"google.golang.org/protobuf/proto"

	"github.com/fleetprof/fleetprof/internal/endpoint"
)

// pyroscopeCPU is the CPU time of what fleetprof and the SDKs send to Pyroscope.
const pyroscopeCPU = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"

// pyroscope asks QuerierService of Pyroscope, and of whatever else serves Grafana's data source
// of that name:
// https://github.com/grafana/pyroscope/blob/api/v1.6.0/api/querier/v1/querier.proto
type pyroscope struct {
	address string
	querier querierv1connect.QuerierServiceClient
}

func newPyroscope(to *endpoint.Endpoint, client *http.Client) *pyroscope {
	return &pyroscope{to.String(), querierv1connect.NewQuerierServiceClient(client, to.URL().String(), connect.WithReadMaxBytes(maxAnswer))}
}

func (p *pyroscope) String() string    { return p.address }
func (p *pyroscope) KeepsLabels() bool { return false }

func (p *pyroscope) Profile(ctx context.Context, q Query) (*profile.Profile, error) {
	q = p.typed(q)
	//lint:ignore SA1019 servers before 2.0 know no other
	answer, err := p.querier.SelectMergeProfile(ctx, connect.NewRequest(&querierv1.SelectMergeProfileRequest{
		ProfileTypeID: q.Type, LabelSelector: matchers(q.Selector), Start: q.From.UnixMilli(), End: p.end(q),
	}))
	if err != nil {
		return nil, p.refused(ctx, q, err)
	}
	if len(answer.Msg.Sample) == 0 {
		return nil, p.noSamples(ctx, q)
	}
	raw, err := proto.Marshal(answer.Msg) // it is pprof's own message under another name
	if err != nil {
		return nil, fmt.Errorf("read answer of %v: %w", p, err)
	}
	merged, err := profile.ParseUncompressed(raw)
	if err == nil {
		err = merged.CheckValid()
	}
	if err != nil {
		return nil, fmt.Errorf("read answer of %v: %w", p, err)
	}
	setTime(merged, q)
	return merged, nil
}

// Series asks for sums at points of time. A point t is the sum of (t-step, t]: so the first to
// ask for is one step after the range begins, less the millisecond by which (a, b] is before
// [a, b).
func (p *pyroscope) Series(ctx context.Context, q Query, by []string, step time.Duration) (*Series, error) {
	q = p.typed(q)
	stepMs := step.Milliseconds()
	start := q.From.UnixMilli() - 1 + stepMs
	answer, err := p.querier.SelectSeries(ctx, connect.NewRequest(&querierv1.SelectSeriesRequest{
		ProfileTypeID: q.Type, LabelSelector: matchers(q.Selector), GroupBy: by, Step: step.Seconds(),
		Start: start, End: max(p.end(q), start+1), // a range of one point is none
	}))
	if err != nil {
		return nil, p.refused(ctx, q, err)
	}
	out := &Series{Unit: unit(q.Type)}
	for _, s := range answer.Msg.Series {
		group := Group{Values: make([]string, len(by))}
		for i, name := range by {
			if j := slices.IndexFunc(s.Labels, func(l *typesv1.LabelPair) bool { return l.Name == name }); j >= 0 {
				group.Values[i] = s.Labels[j].Value
			}
		}
		for _, point := range s.Points {
			begin := time.UnixMilli(point.Timestamp + 1 - stepMs).UTC()
			if value := int64(math.Round(point.Value)); value != 0 && !begin.Before(q.From) && begin.Before(q.To) {
				group.Points = append(group.Points, Point{begin, value})
			}
		}
		if len(group.Points) > 0 {
			out.Groups = append(out.Groups, group)
		}
	}
	if len(out.Groups) == 0 {
		return nil, p.noSamples(ctx, q)
	}
	return out, nil
}

func (p *pyroscope) typed(q Query) Query {
	if q.Type == "" {
		q.Type = pyroscopeCPU
	}
	return q
}

// end is the last millisecond that belongs to a query: Pyroscope's ranges include their end.
func (p *pyroscope) end(q Query) int64 { return q.To.UnixMilli() - 1 }

func (p *pyroscope) refused(ctx context.Context, q Query, err error) error {
	if connect.CodeOf(err) == connect.CodeNotFound {
		return p.noSamples(ctx, q)
	}
	return refused(p.address, "Pyroscope", err)
}

func (p *pyroscope) noSamples(ctx context.Context, q Query) error {
	answer, err := p.querier.ProfileTypes(ctx, connect.NewRequest(&querierv1.ProfileTypesRequest{Start: q.From.UnixMilli(), End: p.end(q)}))
	if err != nil {
		return refused(p.address, "Pyroscope", err)
	}
	var all []string
	for _, t := range answer.Msg.ProfileTypes {
		all = append(all, strings.TrimSpace(t.ID))
	}
	return noSamples(p.address, q, all)
}
