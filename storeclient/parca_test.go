// SPDX-License-Identifier: Apache-2.0

package storeclient

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/pprof/profile"
	profilestorepb "github.com/parca-dev/parca/gen/proto/go/parca/profilestore/v1alpha1"
	querypb "github.com/parca-dev/parca/gen/proto/go/parca/query/v1alpha1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// fakeParca answers as Parca v0.28.0 does; what it does with periods, times, bounds and
// steps is taken from pkg/parcacol/querier.go and pkg/query there.
type fakeParca struct {
	mu      sync.Mutex
	windows []window
}

func (f *fakeParca) serve(t *testing.T) (address string) {
	mux := http.NewServeMux()
	handle(mux, "/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw", f.writeRaw)
	handle(mux, "/parca.query.v1alpha1.QueryService/Query", f.query)
	handle(mux, "/parca.query.v1alpha1.QueryService/QueryRange", f.queryRange)
	handle(mux, "/parca.query.v1alpha1.QueryService/ProfileTypes", f.profileTypes)
	s := httptest.NewUnstartedServer(mux)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true) // nothing else, as gRPC servers do
	s.Start()
	t.Cleanup(s.Close)
	return "parca" + strings.TrimPrefix(s.URL, "http")
}

func handle[Req, Res any](mux *http.ServeMux, procedure string, f func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error)) {
	mux.Handle(procedure, connect.NewUnaryHandler(procedure, f))
}

func (f *fakeParca) writeRaw(_ context.Context, r *connect.Request[profilestorepb.WriteRawRequest]) (*connect.Response[profilestorepb.WriteRawResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range r.Msg.Series {
		w := window{labels: map[string]string{}}
		for _, l := range s.Labels.Labels {
			w.labels[l.Name] = l.Value
		}
		for _, raw := range s.Samples {
			if err := w.read(raw.RawProfile); err != nil {
				return nil, connect.NewError(connect.CodeInvalidArgument, err)
			}
			f.windows = append(f.windows, w)
		}
	}
	return connect.NewResponse(&profilestorepb.WriteRawResponse{}), nil
}

// read takes the stacks and the time of a profile.
func (w *window) read(gz []byte) error {
	p, err := profile.Parse(bytes.NewReader(gz))
	if err != nil {
		return err
	}
	w.start, w.stacks = time.Unix(0, p.TimeNanos), map[string]int64{}
	for _, s := range p.Sample {
		var names []string
		for _, l := range slices.Backward(s.Location) {
			names = append(names, l.Line[0].Function.Name)
		}
		w.stacks[strings.Join(names, ";")] += s.Value[0]
	}
	return nil
}

// find gives the windows of a query, and how many nanoseconds a sample is.
func (f *fakeParca) find(query string, from, to *timestamppb.Timestamp) (all []window, err error) {
	profileType, rest, found := strings.Cut(query, "{")
	if !found || profileType != parcaCPU && profileType != "process_cpu:samples:count:cpu:nanoseconds:delta" {
		return nil, nil // of a type there is not
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.windows {
		ok, err := w.matches("{" + rest)
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
		if ok && !w.start.Before(from.AsTime()) && !w.start.After(to.AsTime()) {
			all = append(all, w)
		}
	}
	return all, nil
}

func (f *fakeParca) query(_ context.Context, r *connect.Request[querypb.QueryRequest]) (*connect.Response[querypb.QueryResponse], error) {
	if err := r.Msg.Validate(); err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	merge := r.Msg.GetMerge()
	if merge == nil || r.Msg.ReportType != querypb.QueryRequest_REPORT_TYPE_PPROF {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("only merges as pprof"))
	}
	windows, err := f.find(merge.Query, merge.Start, merge.End)
	if err != nil {
		return nil, err
	}
	sum := window{stacks: map[string]int64{}, start: time.UnixMilli(merge.Start.AsTime().UnixNano())} // its mistake
	for _, w := range windows {
		for stack, n := range w.stacks {
			sum.stacks[stack] += n
		}
	}
	p := sum.profile()
	p.Period, p.DurationNanos, p.SampleType = 0, 0, p.SampleType[1:]
	for _, s := range p.Sample {
		s.Value = s.Value[1:]
	}
	var gz bytes.Buffer
	if err := p.Write(&gz); err != nil {
		return nil, err
	}
	return connect.NewResponse(&querypb.QueryResponse{Report: &querypb.QueryResponse_Pprof{Pprof: gz.Bytes()}}), nil
}

func (f *fakeParca) queryRange(_ context.Context, r *connect.Request[querypb.QueryRangeRequest]) (*connect.Response[querypb.QueryRangeResponse], error) {
	if err := r.Msg.Validate(); err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	windows, err := f.find(r.Msg.Query, r.Msg.Start, r.Msg.End)
	if err != nil {
		return nil, err
	}
	if len(windows) == 0 {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("No data found for the query, try a different query or time range or no data has been written to be queried yet."))
	}
	series := map[string]*querypb.MetricsSeries{}
	step := int64(r.Msg.Step.AsDuration())
	for _, w := range windows {
		set := &profilestorepb.LabelSet{}
		for _, name := range slices.Sorted(slices.Values(r.Msg.SumBy)) {
			if v := w.labels[name]; v != "" {
				set.Labels = append(set.Labels, &profilestorepb.Label{Name: name, Value: v})
			}
		}
		s := series[set.String()]
		if s == nil {
			s = &querypb.MetricsSeries{Labelset: set, SampleType: &querypb.ValueType{Type: "cpu", Unit: "nanoseconds"}}
			series[set.String()] = s
		}
		bucket := timestamppb.New(time.Unix(0, w.start.UnixNano()/step*step))
		i := slices.IndexFunc(s.Samples, func(m *querypb.MetricsSample) bool { return m.Timestamp.AsTime().Equal(bucket.AsTime()) })
		if i < 0 {
			i = len(s.Samples)
			s.Samples = append(s.Samples, &querypb.MetricsSample{Timestamp: bucket})
		}
		for _, n := range w.stacks {
			s.Samples[i].Value += n * period
		}
	}
	answer := &querypb.QueryRangeResponse{}
	for _, s := range series {
		answer.Series = append(answer.Series, s)
	}
	return connect.NewResponse(answer), nil
}

func (f *fakeParca) profileTypes(context.Context, *connect.Request[querypb.ProfileTypesRequest]) (*connect.Response[querypb.ProfileTypesResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := &querypb.ProfileTypesResponse{}
	if len(f.windows) > 0 {
		for _, t := range [][2]string{{"cpu", "nanoseconds"}, {"samples", "count"}} {
			answer.Types = append(answer.Types, &querypb.ProfileType{
				Name: "process_cpu", SampleType: t[0], SampleUnit: t[1], PeriodType: "cpu", PeriodUnit: "nanoseconds", Delta: true,
			})
		}
	}
	return connect.NewResponse(answer), nil
}

// writeParca sends windows as agents do.
func writeParca(t *testing.T, address string, windows []window) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	client.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	write := connect.NewClient[profilestorepb.WriteRawRequest, profilestorepb.WriteRawResponse](client,
		"http"+strings.TrimPrefix(address, "parca")+"/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw", connect.WithGRPC())
	request := &profilestorepb.WriteRawRequest{}
	for _, w := range windows {
		set := &profilestorepb.LabelSet{Labels: []*profilestorepb.Label{{Name: "__name__", Value: "process_cpu"}}}
		for name, value := range w.labels {
			set.Labels = append(set.Labels, &profilestorepb.Label{Name: name, Value: value})
		}
		request.Series = append(request.Series, &profilestorepb.RawProfileSeries{
			Labels: set, Samples: []*profilestorepb.RawSample{{RawProfile: w.gzip()}},
		})
	}
	if _, err := write.CallUnary(t.Context(), connect.NewRequest(request)); err != nil {
		t.Fatal(err)
	}
}

func TestParca(t *testing.T) {
	address := new(fakeParca).serve(t)
	checkStore(t, address, writeParca)
	c, err := New(address)
	if err != nil {
		t.Fatal(err)
	}
	checkNoSamples(t, c, "process_cpu:cpu:nanoseconds:cpu:nanoseconds:delta, process_cpu:samples:count:cpu:nanoseconds:delta (--type)")
	checkNotReachable(t, "parca://", "Parca")
}
