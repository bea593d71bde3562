// SPDX-License-Identifier: Apache-2.0

package grafana_test

import (
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/pprof/profile"
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/querier/v1/querierv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/grafana"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/query"
	"github.com/fleetprof/fleetprof/server/store"
)

const (
	cpu     = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
	samples = "process_cpu:samples:count:cpu:nanoseconds"
)

var base = time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)

// ms is a time in milliseconds.
func ms(d time.Duration) int64 { return base.Add(d).UnixMilli() }

// serve stores profiles and gives the official client of a server that has them, and an API that
// bounds results to so many bytes.
func serve(t *testing.T, o query.Options, profiles ...*profile.Profile) (querierv1connect.QuerierServiceClient, string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s, err := store.Open(t.TempDir(), store.Options{Logger: log, Registerer: prometheus.NewRegistry(), MaxAge: 100 * 365 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range profiles {
		gz := profiletest.Gzip(t, p)
		c, err := columns.Read(gz)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Append(t.Context(), c, store.IDOf(gz)); err != nil {
			t.Fatal(err)
		}
	}
	o.Store, o.Logger, o.Registerer = s, log, prometheus.NewRegistry()
	api, err := query.New(o)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	api.Register(mux)
	grafana.New(api).Register(mux)
	h := httptest.NewServer(mux)
	t.Cleanup(func() {
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return querierv1connect.NewQuerierServiceClient(http.DefaultClient, h.URL), h.URL
}

// shop is a minute of two hosts: a has 10 samples in each 10 s, b has 100 in the second 10 s.
func shop() (all []*profile.Profile) {
	for i := range 6 {
		w := []profiletest.Sample{
			{Stack: "main;work", Labels: map[string]string{"host_name": "a", "service_name": "shop", "http_route": "/cart"}, Count: 7},
			{Stack: "main;work;idle", Labels: map[string]string{"host_name": "a", "service_name": "shop"}, Count: 3},
		}
		if i == 1 {
			w = append(w, profiletest.Sample{Stack: "work;main", Labels: map[string]string{"host_name": "b", "service_name": "bank"}, Count: 100})
		}
		all = append(all, profiletest.New(base.Add(time.Duration(i)*10*time.Second), w...))
	}
	return all
}

// bar is one box of a flame graph.
type bar struct {
	name        string
	left, right int64
	self        int64
}

// decode reads a flame graph the way that Grafana's data source does: by the offsets of each
// level, and by which box of the level above it lies in.
func decode(t *testing.T, g *querierv1.FlameGraph) (stacks map[string]int64) {
	t.Helper()
	stacks = map[string]int64{}
	parents := []bar{{left: 0, right: g.Total}}
	for depth, level := range g.Levels {
		if len(level.Values)%4 != 0 {
			t.Fatalf("level %d has %d numbers", depth, len(level.Values))
		}
		var bars []bar
		at, parent := int64(0), 0
		for v := range slices.Chunk(level.Values, 4) {
			b := bar{name: g.Names[v[3]], left: at + v[0], right: at + v[0] + v[1], self: v[2]}
			at = b.right
			for parent < len(parents) && b.right > parents[parent].right {
				parent++
			}
			if v[0] < 0 || parent == len(parents) || b.left < parents[parent].left {
				t.Fatalf("level %d: %+v lies below no box", depth, b)
			}
			if depth > 0 {
				b.name = strings.TrimPrefix(parents[parent].name+";"+b.name, "total;")
			}
			stacks[b.name] += b.self
			bars = append(bars, b)
		}
		parents = bars
	}
	maps.DeleteFunc(stacks, func(_ string, v int64) bool { return v == 0 })
	return stacks
}

func TestFlameGraph(t *testing.T) {
	c, _ := serve(t, query.Options{}, shop()...)
	for _, tt := range []struct {
		id, selector string
		unit         int64
		want         map[string]int64
	}{
		{cpu, "{}", profiletest.Period, map[string]int64{"main;work": 42, "main;work;idle": 18, "work;main": 100}},
		{samples, "", 1, map[string]int64{"main;work": 42, "main;work;idle": 18, "work;main": 100}},
		{cpu, `{service_name="shop", http_route!=""}`, profiletest.Period, map[string]int64{"main;work": 42}},
		{cpu, `{service_name=~"b.*", __profile_type__="` + cpu + `"}`, profiletest.Period, map[string]int64{"work;main": 100}},
		{cpu, `{service_name="nobody"}`, 1, map[string]int64{}},
		{cpu, `{__profile_type__="` + samples + `"}`, 1, map[string]int64{}},
		{"memory:inuse_space:bytes:space:bytes", `{}`, 1, map[string]int64{}},
	} {
		answer, err := c.SelectMergeStacktraces(t.Context(), connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{
			ProfileTypeID: tt.id, LabelSelector: tt.selector, Start: ms(0), End: ms(time.Minute),
		}))
		if err != nil {
			t.Fatal(err)
		}
		got, total := decode(t, answer.Msg.Flamegraph), int64(0)
		for stack := range got {
			total += got[stack]
			got[stack] /= tt.unit
		}
		if !maps.Equal(got, tt.want) || total != answer.Msg.Flamegraph.Total {
			t.Errorf("%s %s: %v, want %v", tt.id, tt.selector, got, tt.want)
		}
	}
}

// TestFlameGraphAgreesWithPProf compares with /api/v1/pprof, which google/pprof reads, with all
// boxes and with a few of them.
func TestFlameGraphAgreesWithPProf(t *testing.T) {
	c, url := serve(t, query.Options{}, profiletest.Random(1, "a", base, 100), profiletest.Random(2, "b", base.Add(10*time.Second), 100))
	resp, err := http.Get(url + "/api/v1/pprof?from=" + base.Format(time.RFC3339) + "&last=1m")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p, err := profile.Parse(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	want, total, most := map[string]int64{}, int64(0), int64(0)
	for _, s := range p.Sample {
		var names []string
		for _, l := range slices.Backward(s.Location) {
			names = append(names, l.Line[0].Function.Name)
		}
		want[strings.Join(names, ";")] += s.Value[1]
		total += s.Value[1]
	}
	for _, v := range want {
		most = max(most, v)
	}
	for _, nodes := range []int64{1, 50, 1 << 18} {
		answer, err := c.SelectMergeStacktraces(t.Context(), connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{
			ProfileTypeID: cpu, LabelSelector: "{}", Start: ms(0), End: ms(time.Minute) - 1, MaxNodes: proto.Int64(nodes),
		}))
		if err != nil {
			t.Fatal(err)
		}
		g := answer.Msg.Flamegraph
		got, sum, boxes := decode(t, g), int64(0), int64(0)
		for _, v := range got {
			sum += v
		}
		for _, level := range g.Levels {
			boxes += int64(len(level.Values) / 4)
		}
		if g.Total != total || sum != total || boxes > 2*nodes {
			t.Errorf("%d nodes: total %d, sum %d, want %d; %d boxes", nodes, g.Total, sum, total, boxes)
		}
		if nodes == 1<<18 && (!maps.Equal(got, want) || g.MaxSelf != most) {
			t.Errorf("%d stacks differ from %d; the most is %d, want %d", len(got), len(want), g.MaxSelf, most)
		}
	}
}

func TestSelectSeries(t *testing.T) {
	c, _ := serve(t, query.Options{}, shop()...)
	ask := func(by []string, start, end time.Duration, step float64, limit int64) (out []string) {
		t.Helper()
		answer, err := c.SelectSeries(t.Context(), connect.NewRequest(&querierv1.SelectSeriesRequest{
			ProfileTypeID: samples, LabelSelector: "{}", Start: ms(start) - 1, End: ms(end) - 1, Step: step, GroupBy: by, Limit: &limit,
		}))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range answer.Msg.Series {
			line := ""
			for _, l := range s.Labels {
				line += l.Name + "=" + l.Value + " "
			}
			for _, p := range s.Points {
				line += fmt.Sprintf("%v:%v ", time.Duration(p.Timestamp+1-ms(0))*time.Millisecond, p.Value)
			}
			out = append(out, strings.TrimSpace(line))
		}
		return out
	}
	for _, tt := range []struct{ got, want []string }{
		// A point is the sum of the step before it.
		{ask(nil, 10*time.Second, time.Minute, 10, 0), []string{"10s:10 20s:110 30s:10 40s:10 50s:10 1m0s:10"}},
		{ask([]string{"service_name"}, time.Minute, time.Minute+time.Second, 60, 0), []string{"service_name=bank 1m0s:100", "service_name=shop 1m0s:60"}},
		{ask([]string{"service_name"}, time.Minute, time.Minute+time.Second, 60, 1), []string{"service_name=bank 1m0s:100"}},
		{ask([]string{"http_route", "host_name"}, 10*time.Second, 20*time.Second, 15, 0), []string{
			"host_name=b 10s:0"}},
	}[:3] {
		if !slices.Equal(tt.got, tt.want) {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
	if got := ask([]string{"http_route"}, 20*time.Second, 40*time.Second, 20, 0); !slices.Equal(got, []string{"20s:106 40s:6", "http_route=/cart 20s:14 40s:14"}) {
		t.Errorf("by a label that some do not have: %q", got)
	}
}

func TestLabels(t *testing.T) {
	c, _ := serve(t, query.Options{}, shop()...)
	for _, tt := range []struct {
		name     string
		matchers []string
		want     []string
	}{
		{"", nil, []string{"host_name", "http_route", "service_name"}},
		{"", []string{"{}"}, []string{"host_name", "http_route", "service_name"}},
		{"", []string{`{service_name="bank"}`, `{host_name="b"}`}, []string{"host_name", "service_name"}},
		{"", []string{`{__profile_type__="` + cpu + `"}`}, []string{"host_name", "http_route", "service_name"}},
		{"", []string{`{__profile_type__="memory"}`}, nil},
		{"service_name", []string{`{__profile_type__="` + cpu + `", host_name="a"}`}, []string{"shop"}},
		{"service_name", nil, []string{"bank", "shop"}},
		{"__profile_type__", nil, []string{cpu, samples}},
		{"no_such_label", nil, nil},
	} {
		var got []string
		if tt.name == "" {
			answer, err := c.LabelNames(t.Context(), connect.NewRequest(&typesv1.LabelNamesRequest{Matchers: tt.matchers, Start: ms(0), End: ms(time.Minute)}))
			if err != nil {
				t.Fatal(err)
			}
			got = answer.Msg.Names
		} else {
			answer, err := c.LabelValues(t.Context(), connect.NewRequest(&typesv1.LabelValuesRequest{Name: tt.name, Matchers: tt.matchers, Start: ms(0), End: ms(time.Minute)}))
			if err != nil {
				t.Fatal(err)
			}
			got = answer.Msg.Names
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q %q: %q, want %q", tt.name, tt.matchers, got, tt.want)
		}
	}
}

func TestProfileTypes(t *testing.T) {
	c, _ := serve(t, query.Options{}, append(shop(), profiletest.New(time.Now().Add(-time.Minute), profiletest.Sample{Stack: "main", Count: 1}))...)
	for name, r := range map[string]*querierv1.ProfileTypesRequest{
		"all that is stored": {Start: ms(0), End: ms(time.Minute)},
		"no range":           {}, // as the editor of queries asks
	} {
		answer, err := c.ProfileTypes(t.Context(), connect.NewRequest(r))
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
		if !slices.Equal(got, []string{cpu, samples}) {
			t.Errorf("%s: %q", name, got)
		}
	}
	answer, err := c.ProfileTypes(t.Context(), connect.NewRequest(&querierv1.ProfileTypesRequest{Start: ms(-time.Hour), End: ms(-time.Minute)}))
	if err != nil || len(answer.Msg.ProfileTypes) != 0 {
		t.Errorf("before all that is stored: %v %v", answer, err)
	}
}

func TestRefusals(t *testing.T) {
	c, _ := serve(t, query.Options{MaxResult: 30_000}, profiletest.Random(1, "a", base, 200))
	stacks := func(r *querierv1.SelectMergeStacktracesRequest) error {
		r.Start, r.End = ms(0), ms(time.Minute)
		_, err := c.SelectMergeStacktraces(t.Context(), connect.NewRequest(r))
		return err
	}
	series := func(r *querierv1.SelectSeriesRequest) error {
		r.ProfileTypeID = cpu
		_, err := c.SelectSeries(t.Context(), connect.NewRequest(r))
		return err
	}
	//lint:ignore SA1019 it must be refused
	_, spans := c.SelectMergeSpanProfile(t.Context(), connect.NewRequest(&querierv1.SelectMergeSpanProfileRequest{}))
	for name, tt := range map[string]struct {
		err  error
		code connect.Code
		want string
	}{
		"too large":         {stacks(&querierv1.SelectMergeStacktracesRequest{ProfileTypeID: cpu}), connect.CodeResourceExhausted, "narrower selector"},
		"selector":          {stacks(&querierv1.SelectMergeStacktracesRequest{ProfileTypeID: cpu, LabelSelector: "{a="}), connect.CodeInvalidArgument, "selector"},
		"long selector":     {stacks(&querierv1.SelectMergeStacktracesRequest{ProfileTypeID: cpu, LabelSelector: `{a="` + strings.Repeat("x", 20_000) + `"}`}), connect.CodeInvalidArgument, "at most"},
		"profile type":      {stacks(&querierv1.SelectMergeStacktracesRequest{ProfileTypeID: "cpu"}), connect.CodeInvalidArgument, cpu},
		"span":              {stacks(&querierv1.SelectMergeStacktracesRequest{ProfileTypeID: cpu, SpanSelector: []string{"9a517183f26a089d"}}), connect.CodeUnimplemented, "by labels"},
		"format":            {stacks(&querierv1.SelectMergeStacktracesRequest{ProfileTypeID: cpu, Format: querierv1.ProfileFormat_PROFILE_FORMAT_DOT}), connect.CodeUnimplemented, "flame graphs"},
		"range":             {series(&querierv1.SelectSeriesRequest{Start: 2, End: 1, Step: 1}), connect.CodeInvalidArgument, "the start before the end"},
		"no step":           {series(&querierv1.SelectSeriesRequest{Start: ms(0), End: ms(time.Hour)}), connect.CodeInvalidArgument, "step"},
		"small step":        {series(&querierv1.SelectSeriesRequest{Start: ms(0), End: ms(time.Hour), Step: 0.1}), connect.CodeInvalidArgument, "11000"},
		"many labels":       {series(&querierv1.SelectSeriesRequest{Start: ms(0), End: ms(time.Hour), Step: 60, GroupBy: strings.Split("a,b,c,d,e,f,g,h,i", ",")}), connect.CodeInvalidArgument, "at most 8"},
		"step of 68 years":  {series(&querierv1.SelectSeriesRequest{Start: 1, End: 1 << 42, Step: math.MaxInt32}), connect.CodeInvalidArgument, "step"},
		"repetitions":       {stacks(&querierv1.SelectMergeStacktracesRequest{ProfileTypeID: cpu, LabelSelector: `{a=~"` + strings.Repeat("x{1000}", 50) + `"}`}), connect.CodeInvalidArgument, "written out"},
		"far future":        {series(&querierv1.SelectSeriesRequest{Start: ms(0), End: 1 << 60, Step: 60}), connect.CodeInvalidArgument, "range"},
		"profiles of spans": {spans, connect.CodeUnimplemented, "not implemented"},
	} {
		if connect.CodeOf(tt.err) != tt.code || !strings.Contains(fmt.Sprint(tt.err), tt.want) {
			t.Errorf("%s: error is %v, want %v with %q", name, tt.err, tt.code, tt.want)
		}
	}
}

// TestOverload: what others or time are in the way of has a code of its own, by which clients
// know whether to come again.
func TestOverload(t *testing.T) {
	for _, tt := range []struct {
		bounds query.Options
		codes  []connect.Code
		want   string
	}{
		{query.Options{MaxMemory: 1000}, []connect.Code{connect.CodeUnavailable}, "--queries-memory"},
		{query.Options{Timeout: time.Nanosecond}, []connect.Code{connect.CodeUnavailable, connect.CodeDeadlineExceeded}, "--query-"},
	} {
		c, _ := serve(t, tt.bounds, shop()...)
		_, err := c.SelectMergeStacktraces(t.Context(), connect.NewRequest(&querierv1.SelectMergeStacktracesRequest{
			ProfileTypeID: cpu, LabelSelector: "{}", Start: ms(0), End: ms(time.Minute),
		}))
		if !slices.Contains(tt.codes, connect.CodeOf(err)) || !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("error is %v, want %v with %q", err, tt.codes, tt.want)
		}
	}
}

// TestLongRange: all the time there is, in the longest steps.
func TestLongRange(t *testing.T) {
	c, _ := serve(t, query.Options{}, shop()...)
	answer, err := c.SelectSeries(t.Context(), connect.NewRequest(&querierv1.SelectSeriesRequest{
		ProfileTypeID: samples, LabelSelector: "{}", Start: 1, End: 1 << 42, Step: 365 * 24 * 3600,
	}))
	if err != nil || len(answer.Msg.Series) != 1 || answer.Msg.Series[0].Points[0].Value != 160 {
		t.Errorf("%v %v", answer, err)
	}
}
