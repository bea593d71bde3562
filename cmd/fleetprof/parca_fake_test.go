// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"connectrpc.com/connect"
	profilestorepb "github.com/parca-dev/parca/gen/proto/go/parca/profilestore/v1alpha1"
	querypb "github.com/parca-dev/parca/gen/proto/go/parca/query/v1alpha1"
	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fleetprof/fleetprof/storeclient"
)

// fakeParca answers by Parca's protocol with what a fleetprof server has, and as Parca does:
// merged profiles have CPU time only, no labels, and no range; what there is not is NotFound.
type fakeParca struct{ server storeclient.Client }

const parcaCPU = "process_cpu:cpu:nanoseconds:cpu:nanoseconds:delta"

// parcaFake starts one before a server: `parca URL NAME` sets the variable NAME to its address.
func parcaFake(ts *testscript.TestScript, _ bool, args []string) {
	client, err := storeclient.New(args[0])
	ts.Check(err)
	f := fakeParca{client}
	const service = "/parca.query.v1alpha1.QueryService/"
	mux := http.NewServeMux()
	mux.Handle(service+"Query", connect.NewUnaryHandler(service+"Query", f.query))
	mux.Handle(service+"QueryRange", connect.NewUnaryHandler(service+"QueryRange", f.queryRange))
	mux.Handle(service+"ProfileTypes", connect.NewUnaryHandler(service+"ProfileTypes", f.profileTypes))
	s := httptest.NewUnstartedServer(mux)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	ts.Defer(s.Close)
	ts.Setenv(args[1], "parca"+strings.TrimPrefix(s.URL, "http"))
}

// question reads a query; ok is false if it is of a type that there is not.
func (f fakeParca) question(text string, from, to *timestamppb.Timestamp) (q storeclient.Query, ok bool) {
	kind, selector, _ := strings.Cut(text, "{")
	return storeclient.Query{Selector: "{" + selector, From: from.AsTime(), To: to.AsTime().Add(time.Nanosecond)}, kind == parcaCPU
}

func notFound() error { return connect.NewError(connect.CodeNotFound, errors.New("no data found")) }

func (f fakeParca) query(ctx context.Context, r *connect.Request[querypb.QueryRequest]) (*connect.Response[querypb.QueryResponse], error) {
	merge := r.Msg.GetMerge()
	if merge == nil || r.Msg.ReportType != querypb.QueryRequest_REPORT_TYPE_PPROF {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("only merges as pprof"))
	}
	q, ok := f.question(merge.Query, merge.Start, merge.End)
	if !ok {
		return nil, notFound()
	}
	p, err := f.server.Profile(ctx, q)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	p.SampleType, p.Period, p.TimeNanos, p.DurationNanos = p.SampleType[1:], 0, 0, 0
	for _, s := range p.Sample {
		s.Value, s.Label = s.Value[1:], nil
	}
	var gz bytes.Buffer
	if err := p.Compact().Write(&gz); err != nil {
		return nil, err
	}
	return connect.NewResponse(&querypb.QueryResponse{Report: &querypb.QueryResponse_Pprof{Pprof: gz.Bytes()}}), nil
}

func (f fakeParca) queryRange(ctx context.Context, r *connect.Request[querypb.QueryRangeRequest]) (*connect.Response[querypb.QueryRangeResponse], error) {
	q, ok := f.question(r.Msg.Query, r.Msg.Start, r.Msg.End)
	if !ok {
		return nil, notFound()
	}
	series, err := f.server.Series(ctx, q, r.Msg.SumBy, r.Msg.Step.AsDuration())
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	answer := &querypb.QueryRangeResponse{}
	for _, g := range series.Groups {
		s := &querypb.MetricsSeries{Labelset: &profilestorepb.LabelSet{}, SampleType: &querypb.ValueType{Type: "cpu", Unit: "nanoseconds"}}
		for i, name := range r.Msg.SumBy {
			if g.Values[i] != "" {
				s.Labelset.Labels = append(s.Labelset.Labels, &profilestorepb.Label{Name: name, Value: g.Values[i]})
			}
		}
		for _, p := range g.Points {
			s.Samples = append(s.Samples, &querypb.MetricsSample{Timestamp: timestamppb.New(p.Time), Value: p.Value})
		}
		answer.Series = append(answer.Series, s)
	}
	return connect.NewResponse(answer), nil
}

func (f fakeParca) profileTypes(context.Context, *connect.Request[querypb.ProfileTypesRequest]) (*connect.Response[querypb.ProfileTypesResponse], error) {
	return connect.NewResponse(&querypb.ProfileTypesResponse{Types: []*querypb.ProfileType{
		{Name: "process_cpu", SampleType: "cpu", SampleUnit: "nanoseconds", PeriodType: "cpu", PeriodUnit: "nanoseconds", Delta: true},
	}}), nil
}
