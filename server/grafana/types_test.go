// SPDX-License-Identifier: Apache-2.0

package grafana_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/pprof/profile"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"google.golang.org/protobuf/proto"

	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/query"
)

const (
	allocated = "space:alloc_space:bytes:space:bytes"
	inUse     = "space:inuse_space:bytes:space:bytes"
)

// heap is a profile of a heap of host c: 4,000 bytes allocated, 1,500 in use.
func heap(start time.Time) *profile.Profile {
	p := profiletest.New(start, profiletest.Sample{Stack: "main;grow", Labels: map[string]string{"host_name": "c", "service_name": "bank", "version": "7"}, Count: 1})
	p.SampleType = []*profile.ValueType{{Type: "alloc_space", Unit: "bytes"}, {Type: "inuse_space", Unit: "bytes"}}
	p.PeriodType, p.Period, p.DurationNanos = &profile.ValueType{Type: "space", Unit: "bytes"}, 512<<10, 0
	p.Sample[0].Value = []int64{4000, 1500}
	return p
}

// serveHeap is the shop, and a heap half a minute later than its end.
func serveHeap(t *testing.T) querierv1connect.QuerierServiceClient {
	t.Helper()
	c, _ := serve(t, query.Options{}, append(shop(), heap(base.Add(90*time.Second)))...)
	return c
}

// TestTypesOfTheStore: what is offered is what there is in the range.
func TestTypesOfTheStore(t *testing.T) {
	c := serveHeap(t)
	for _, tt := range []struct {
		start, end time.Duration
		want       []string
	}{
		{0, time.Hour, []string{cpu, samples, allocated, inUse}},
		{0, time.Minute - time.Millisecond, []string{cpu, samples}},
		{80 * time.Second, time.Hour, []string{allocated, inUse}},
		{time.Hour, 2 * time.Hour, nil},
	} {
		answer, err := c.ProfileTypes(t.Context(), connect.NewRequest(&querierv1.ProfileTypesRequest{Start: ms(tt.start), End: ms(tt.end)}))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range answer.Msg.ProfileTypes {
			got = append(got, p.ID)
			if p.ID != strings.Join([]string{p.Name, p.SampleType, p.SampleUnit, p.PeriodType, p.PeriodUnit}, ":") {
				t.Errorf("%v", p)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%v to %v: %q, want %q", tt.start, tt.end, got, tt.want)
		}
	}
}

// TestLabelsOfTypes: lists are of all types, or of those that are selected.
func TestLabelsOfTypes(t *testing.T) {
	c := serveHeap(t)
	for _, tt := range []struct{ name, matcher, want string }{
		{"host_name", `{}`, "a b c"},
		{"host_name", `{__profile_type__="` + inUse + `"}`, "c"},
		{"host_name", `{__profile_type__="` + samples + `"}`, "a b"},
		{"host_name", `{__name__=~"space|process_cpu", service_name="bank"}`, "b c"},
		{"host_name", `{__type__!="cpu", __unit__="bytes"}`, "c"},
		{"host_name", `{__name__="memory"}`, ""},
		{"__type__", `{service_name="bank"}`, "alloc_space cpu inuse_space samples"},
		{"__type__", `{service_name="shop"}`, "cpu samples"},
		{"__unit__", `{__name__="space"}`, "bytes"},
		{"", `{__unit__="bytes"}`, "host_name service_name version"},
	} {
		start, end := ms(0), ms(time.Hour)
		var got []string
		if tt.name == "" {
			answer, err := c.LabelNames(t.Context(), connect.NewRequest(&typesv1.LabelNamesRequest{Matchers: []string{tt.matcher}, Start: start, End: end}))
			if err != nil {
				t.Fatal(err)
			}
			got = answer.Msg.Names
		} else {
			answer, err := c.LabelValues(t.Context(), connect.NewRequest(&typesv1.LabelValuesRequest{Name: tt.name, Matchers: []string{tt.matcher}, Start: start, End: end}))
			if err != nil {
				t.Fatal(err)
			}
			got = answer.Msg.Names
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%q %s: %q, want %q", tt.name, tt.matcher, got, tt.want)
		}
	}
}

// TestSumsOfTypes: each call answers with values of the type that is asked for.
func TestSumsOfTypes(t *testing.T) {
	c := serveHeap(t)
	for id, want := range map[string]int64{
		cpu: 160 * profiletest.Period, samples: 160, allocated: 4000, inUse: 1500, "space:inuse_objects:count:space:bytes": 0,
	} {
		start, end := ms(0), ms(time.Hour)
		g, err := c.SelectMergeStacktraces(t.Context(), connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{ProfileTypeID: id, LabelSelector: "{}", Start: start, End: end}))
		if err != nil || g.Msg.Flamegraph.Total != want {
			t.Errorf("%s: flame graph of %v, want %d: %v", id, g, want, err)
		}
		s, err := c.SelectSeries(t.Context(), connect.NewRequest(&querierv1.SelectSeriesRequest{ProfileTypeID: id, LabelSelector: "{}", Start: start, End: end, Step: 3600}))
		if err != nil {
			t.Fatal(err)
		}
		var sum float64
		for _, one := range s.Msg.Series {
			for _, p := range one.Points {
				sum += p.Value
			}
		}
		if int64(sum) != want {
			t.Errorf("%s: series of %v, want %d", id, sum, want)
		}
		p := merged(t, c, id, "{}")
		sum = 0
		for _, one := range p.Sample {
			if len(one.Value) != 1 {
				t.Fatalf("%s: values are %v", id, one.Value)
			}
			sum += float64(one.Value[0])
		}
		if int64(sum) != want {
			t.Errorf("%s: profile of %v, want %d", id, sum, want)
		}
		if parts := strings.Split(id, ":"); want > 0 && (len(p.SampleType) != 1 || p.SampleType[0].Type != parts[1] || p.SampleType[0].Unit != parts[2] || p.DefaultSampleType != parts[1] || p.PeriodType.Type != parts[3]) {
			t.Errorf("%s: profile of %v by %v, %q", id, p.SampleType, p.PeriodType, p.DefaultSampleType)
		}
	}
}

// merged asks for a profile, which google/pprof must take; an empty one if nothing is selected.
func merged(t *testing.T, c querierv1connect.QuerierServiceClient, id, selector string) *profile.Profile {
	t.Helper()
	//lint:ignore SA1019 clients still call it
	answer, err := c.SelectMergeProfile(t.Context(), connect.NewRequest(&querierv1.SelectMergeProfileRequest{
		ProfileTypeID: id, LabelSelector: selector, Start: ms(0), End: ms(time.Hour),
	}))
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Msg.Sample) == 0 {
		return new(profile.Profile)
	}
	raw, err := proto.Marshal(answer.Msg)
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.ParseUncompressed(raw)
	if err == nil {
		err = p.CheckValid()
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMergeProfile(t *testing.T) {
	c := serveHeap(t)
	p := merged(t, c, samples, `{host_name="a"}`)
	sums := map[string]int64{}
	for _, s := range p.Sample {
		sums[s.Location[0].Line[0].Function.Name] += s.Value[0]
	}
	if !maps.Equal(sums, map[string]int64{"work": 42, "idle": 18}) || p.PeriodType.Type != "cpu" || p.DurationNanos != int64(time.Minute) {
		t.Errorf("sums are %v of %v", sums, p)
	}
}
