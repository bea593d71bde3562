// SPDX-License-Identifier: Apache-2.0

package storeclient

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"google.golang.org/protobuf/proto"
)

// fakePyroscope answers as Pyroscope 2 does: ranges in milliseconds include their ends, and a
// point of a series is the sum of the step before it.
type fakePyroscope struct {
	querierv1connect.UnimplementedQuerierServiceHandler
	mu      sync.Mutex
	windows []window
}

func (f *fakePyroscope) serve(t *testing.T) (address string) {
	mux := http.NewServeMux()
	mux.Handle(querierv1connect.NewQuerierServiceHandler(f))
	mux.Handle(pushv1connect.NewPusherServiceHandler(f))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return "pyroscope+" + s.URL
}

func (f *fakePyroscope) Push(_ context.Context, r *connect.Request[pushv1.PushRequest]) (*connect.Response[pushv1.PushResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range r.Msg.Series {
		w := window{labels: map[string]string{}}
		for _, l := range s.Labels {
			w.labels[l.Name] = l.Value
		}
		for _, raw := range s.Samples {
			if err := w.read(raw.RawProfile); err != nil {
				return nil, connect.NewError(connect.CodeInvalidArgument, err)
			}
			f.windows = append(f.windows, w)
		}
	}
	return connect.NewResponse(&pushv1.PushResponse{}), nil
}

func (f *fakePyroscope) find(profileType, selector string, start, end int64) (all []window, err error) {
	if start <= 0 || start >= end {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("invalid time range"))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.windows {
		ok, err := w.matches(selector)
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
		if at := w.start.UnixMilli(); ok && profileType == pyroscopeCPU && start <= at && at <= end {
			all = append(all, w)
		}
	}
	return all, nil
}

func (f *fakePyroscope) SelectMergeProfile(_ context.Context, r *connect.Request[querierv1.SelectMergeProfileRequest]) (*connect.Response[googlev1.Profile], error) {
	windows, err := f.find(r.Msg.ProfileTypeID, r.Msg.LabelSelector, r.Msg.Start, r.Msg.End)
	if err != nil {
		return nil, err
	}
	if len(windows) == 0 {
		return connect.NewResponse(&googlev1.Profile{}), nil
	}
	sum := window{stacks: map[string]int64{}}
	for _, w := range windows {
		for stack, n := range w.stacks {
			sum.stacks[stack] += n
		}
	}
	p := sum.profile()
	p.SampleType = p.SampleType[1:]
	for _, s := range p.Sample {
		s.Value = s.Value[1:]
	}
	var raw bytes.Buffer
	if err := p.WriteUncompressed(&raw); err != nil {
		return nil, err
	}
	answer := new(googlev1.Profile)
	if err := proto.Unmarshal(raw.Bytes(), answer); err != nil {
		return nil, err
	}
	return connect.NewResponse(answer), nil
}

func (f *fakePyroscope) SelectSeries(_ context.Context, r *connect.Request[querierv1.SelectSeriesRequest]) (*connect.Response[querierv1.SelectSeriesResponse], error) {
	step := time.Duration(r.Msg.Step * float64(time.Second)).Milliseconds()
	if step < 1 || r.Msg.Start >= r.Msg.End {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("step must be >= 1ms"))
	}
	windows, err := f.find(r.Msg.ProfileTypeID, r.Msg.LabelSelector, r.Msg.Start-step, r.Msg.End)
	if err != nil {
		return nil, err
	}
	points := map[string]map[int64]float64{}
	sets := map[string][]*typesv1.LabelPair{}
	for _, w := range windows {
		var set []*typesv1.LabelPair
		key := ""
		for _, name := range r.Msg.GroupBy {
			if v := w.labels[name]; v != "" {
				set, key = append(set, &typesv1.LabelPair{Name: name, Value: v}), key+name+v
			}
		}
		at := r.Msg.Start - step
		for at < w.start.UnixMilli() {
			at += step
		}
		if at > r.Msg.End {
			continue
		}
		if sets[key] = set; points[key] == nil {
			points[key] = map[int64]float64{}
		}
		for _, n := range w.stacks {
			points[key][at] += float64(n * period)
		}
	}
	answer := &querierv1.SelectSeriesResponse{}
	for key, set := range sets {
		s := &typesv1.Series{Labels: set}
		for _, at := range slices.Sorted(maps.Keys(points[key])) {
			s.Points = append(s.Points, &typesv1.Point{Timestamp: at, Value: points[key][at]})
		}
		answer.Series = append(answer.Series, s)
	}
	return connect.NewResponse(answer), nil
}

func (f *fakePyroscope) ProfileTypes(context.Context, *connect.Request[querierv1.ProfileTypesRequest]) (*connect.Response[querierv1.ProfileTypesResponse], error) {
	return connect.NewResponse(&querierv1.ProfileTypesResponse{ProfileTypes: []*typesv1.ProfileType{{ID: pyroscopeCPU}}}), nil
}

// writePyroscope sends windows as agents do.
func writePyroscope(t *testing.T, address string, windows []window) {
	t.Helper()
	push := pushv1connect.NewPusherServiceClient(http.DefaultClient, address[len("pyroscope+"):])
	request := &pushv1.PushRequest{}
	for _, w := range windows {
		s := &pushv1.RawProfileSeries{Labels: []*typesv1.LabelPair{{Name: "__name__", Value: "process_cpu"}}, Samples: []*pushv1.RawSample{{RawProfile: w.gzip()}}}
		for name, value := range w.labels {
			s.Labels = append(s.Labels, &typesv1.LabelPair{Name: name, Value: value})
		}
		request.Series = append(request.Series, s)
	}
	if _, err := push.Push(t.Context(), connect.NewRequest(request)); err != nil {
		t.Fatal(err)
	}
}

func TestPyroscope(t *testing.T) {
	address := new(fakePyroscope).serve(t)
	checkStore(t, address, writePyroscope)
	c, err := New(address)
	if err != nil {
		t.Fatal(err)
	}
	checkNoSamples(t, c, "process_cpu:cpu:nanoseconds:cpu:nanoseconds (--type)")
	checkNotReachable(t, "pyroscope+http://", "Pyroscope")
}
