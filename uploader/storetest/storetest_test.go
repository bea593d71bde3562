// SPDX-License-Identifier: Apache-2.0

package storetest_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/pprof/profile"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	profilestorepb "github.com/parca-dev/parca/gen/proto/go/parca/profilestore/v1alpha1"
	collector "go.opentelemetry.io/proto/otlp/collector/profiles/v1development"
	otlp "go.opentelemetry.io/proto/otlp/profiles/v1development"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/uploader/storetest"
)

var start = time.Now().Add(-time.Minute)

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	_, host, _ := strings.Cut(address, "://")
	c, err := grpc.NewClient(host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// changed is a good profile after a change.
func changed(t *testing.T, change func(*profile.Profile)) []byte {
	t.Helper()
	p := profiletest.New(start, profiletest.Sample{Stack: "main;work", Count: 3})
	change(p)
	return profiletest.Gzip(t, p)
}

func unchanged(*profile.Profile) {}

func TestParcaRefuses(t *testing.T) {
	named := func(pairs ...string) (set []*profilestorepb.Label) {
		for i := 0; i < len(pairs); i += 2 {
			set = append(set, &profilestorepb.Label{Name: pairs[i], Value: pairs[i+1]})
		}
		return set
	}
	good := named("__name__", "process_cpu")
	for _, c := range []struct {
		name   string
		labels []*profilestorepb.Label
		raw    []byte
		code   codes.Code
		dead   bool
	}{
		{"good", good, changed(t, unchanged), codes.OK, false},
		{"no name", named("a", "b"), changed(t, unchanged), codes.InvalidArgument, false},
		{"name of a label", named("__name__", "process_cpu", "a.b", "c"), changed(t, unchanged), codes.InvalidArgument, false},
		{"the same twice", named("__name__", "process_cpu", "a", "b", "a", "c"), changed(t, unchanged), codes.InvalidArgument, false},
		{"no gzip", good, []byte("profile"), codes.Unknown, false},
		{"no profile", good, profiletest.Gzip(t, profiletest.New(start))[:0], codes.Unknown, false},
		{"name of a type", good, changed(t, func(p *profile.Profile) { p.SampleType[0].Type = "off-cpu" }), codes.Unknown, false},
		{"no period type", good, changed(t, func(p *profile.Profile) { p.PeriodType = nil }), codes.Unavailable, true},
		{"too large", good, make([]byte, 65<<20), codes.ResourceExhausted, false},
	} {
		s := &storetest.Parca{}
		client := profilestorepb.NewProfileStoreServiceClient(dial(t, s.Serve(t)))
		write := func(raw []byte) codes.Code {
			_, err := client.WriteRaw(t.Context(), &profilestorepb.WriteRawRequest{Series: []*profilestorepb.RawProfileSeries{
				{Labels: &profilestorepb.LabelSet{Labels: c.labels}, Samples: []*profilestorepb.RawSample{{RawProfile: raw}}},
			}})
			return status.Code(err)
		}
		if code := write(c.raw); code != c.code || (s.Dead() != nil) != c.dead || (len(s.Totals()) > 0) != (code == codes.OK) {
			t.Errorf("%s: code %v, dead: %v, totals %v", c.name, code, s.Dead(), s.Totals())
		}
		if code := write(changed(t, unchanged)); c.dead && code != codes.Unavailable {
			t.Errorf("%s: code %v after the end", c.name, code)
		}
	}
	// Labels of samples are lost, and it says nothing of that.
	s := &storetest.Parca{}
	client := profilestorepb.NewProfileStoreServiceClient(dial(t, s.Serve(t)))
	raw := changed(t, func(p *profile.Profile) { p.Sample[0].Label = map[string][]string{"route": {"/"}} })
	_, err := client.WriteRaw(t.Context(), &profilestorepb.WriteRawRequest{Series: []*profilestorepb.RawProfileSeries{
		{Labels: &profilestorepb.LabelSet{Labels: good}, Samples: []*profilestorepb.RawSample{{RawProfile: raw}}},
	}})
	if got := fmt.Sprint(s.Totals()); err != nil || strings.Contains(got, "route") || !strings.Contains(got, "process_cpu") {
		t.Errorf("totals are %s, %v", got, err)
	}
}

func TestPyroscopeRefuses(t *testing.T) {
	pair := func(name, value string) *typesv1.LabelPair { return &typesv1.LabelPair{Name: name, Value: value} }
	good := []*typesv1.LabelPair{pair("__name__", "process_cpu"), pair("service_name", "shop")}
	with := func(more ...*typesv1.LabelPair) []*typesv1.LabelPair { return append(good[:2:2], more...) }
	many := func(n int) (more []*typesv1.LabelPair) {
		for i := range n {
			more = append(more, pair(fmt.Sprint("l", i), "x"))
		}
		return more
	}
	samples := func(n int) []byte {
		all := make([]profiletest.Sample, n)
		for i := range all {
			all[i] = profiletest.Sample{Stack: fmt.Sprintf("f%d;g%d", i/130, i%130), Count: 1}
		}
		return profiletest.Gzip(t, profiletest.New(start, all...))
	}
	huge := func(n int) []byte {
		return changed(t, func(p *profile.Profile) { p.Function[0].Name = strings.Repeat("x", n) })
	}
	const ok, invalid, later = 0, connect.CodeInvalidArgument, connect.CodeResourceExhausted
	for _, c := range []struct {
		name   string
		labels []*typesv1.LabelPair
		raw    []byte
		code   connect.Code
	}{
		{"good", good, changed(t, unchanged), ok},
		{"30 names", with(many(28)...), changed(t, unchanged), ok},
		{"31 names", with(many(29)...), changed(t, unchanged), invalid},
		{"name of 1,025", with(pair(strings.Repeat("n", 1025), "x")), changed(t, unchanged), invalid},
		{"value of 2,049", with(pair("a", strings.Repeat("x", 2049))), changed(t, unchanged), invalid},
		{"no service", good[:1], changed(t, unchanged), invalid},
		{"16,000 samples", good, samples(16_000), ok},
		{"16,001 samples", good, samples(16_001), invalid},
		{"1.9 MB", good, huge(1_900_000), ok},
		{"2.1 MB", good, huge(2_100_000), later},
		{"61 minutes", good, changed(t, func(p *profile.Profile) { p.TimeNanos -= int64(time.Hour) }), invalid},
		{"name of a type", good, changed(t, func(p *profile.Profile) { p.SampleType[0].Type = "off-cpu" }), invalid},
		{"invalid UTF-8", good, changed(t, func(p *profile.Profile) { p.Mapping[0].File = "\xff" }), invalid},
	} {
		s := &storetest.Pyroscope{}
		client := pushv1connect.NewPusherServiceClient(http.DefaultClient, strings.TrimPrefix(s.Serve(t), "pyroscope+"), connect.WithSendGzip())
		_, err := client.Push(t.Context(), connect.NewRequest(&pushv1.PushRequest{Series: []*pushv1.RawProfileSeries{
			{Labels: c.labels, Samples: []*pushv1.RawSample{{RawProfile: c.raw}}},
		}}))
		if code := connect.CodeOf(err); err == nil && c.code != ok || err != nil && code != c.code || (len(s.Totals()) > 0) != (err == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A body in zstd is answered with 501, and the 5,001st series with 429, beside which the others
// of its request are stored.
func TestPyroscopeAnswers(t *testing.T) {
	s := &storetest.Pyroscope{Now: func() func() time.Time {
		now := start
		return func() time.Time { now = now.Add(time.Millisecond); return now }
	}()}
	address := strings.TrimPrefix(s.Serve(t), "pyroscope+")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address+"/push.v1.PusherService/Push", bytes.NewReader([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/proto")
	req.Header.Set("Content-Encoding", "zstd")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusNotImplemented {
		t.Errorf("zstd is answered with %s %s", resp.Status, text)
	}
	raw, request := changed(t, unchanged), &pushv1.PushRequest{}
	for i := range 5001 {
		request.Series = append(request.Series, &pushv1.RawProfileSeries{
			Labels:  []*typesv1.LabelPair{{Name: "__name__", Value: "process_cpu"}, {Name: "service_name", Value: fmt.Sprint(i)}},
			Samples: []*pushv1.RawSample{{RawProfile: raw}},
		})
	}
	_, err = pushv1connect.NewPusherServiceClient(http.DefaultClient, address).Push(t.Context(), connect.NewRequest(request))
	if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(fmt.Sprint(err), "push series with index 5000 and id  failed: maximum active series") || len(s.Totals()) != 10_000 {
		t.Errorf("%d totals, %v", len(s.Totals()), err)
	}
}

func TestOTLPRefuses(t *testing.T) {
	good := func() *collector.ExportProfilesServiceRequest {
		return &collector.ExportProfilesServiceRequest{
			Dictionary: &otlp.ProfilesDictionary{
				MappingTable: []*otlp.Mapping{{}}, LocationTable: []*otlp.Location{{}}, FunctionTable: []*otlp.Function{{}}, LinkTable: []*otlp.Link{{}},
				StringTable: []string{"", "cpu", "nanoseconds"}, AttributeTable: []*otlp.KeyValueAndUnit{{}}, StackTable: []*otlp.Stack{{}},
			},
			ResourceProfiles: []*otlp.ResourceProfiles{{ScopeProfiles: []*otlp.ScopeProfiles{{Profiles: []*otlp.Profile{{
				SampleType: &otlp.ValueType{TypeStrindex: 1, UnitStrindex: 2}, TimeUnixNano: 1, ProfileId: make([]byte, 16),
				Samples: []*otlp.Sample{{Values: []int64{1}}},
			}}}}}},
		}
	}
	profileOf := func(m *collector.ExportProfilesServiceRequest) *otlp.Profile {
		return m.ResourceProfiles[0].ScopeProfiles[0].Profiles[0]
	}
	for _, c := range []struct {
		name   string
		change func(*collector.ExportProfilesServiceRequest)
		code   codes.Code
	}{
		{"good", func(*collector.ExportProfilesServiceRequest) {}, codes.OK},
		{"no dictionary", func(m *collector.ExportProfilesServiceRequest) { m.Dictionary = nil }, codes.InvalidArgument},
		{"first stack", func(m *collector.ExportProfilesServiceRequest) {
			m.Dictionary.StackTable[0].LocationIndices = []int32{0}
		}, codes.InvalidArgument},
		{"no first link", func(m *collector.ExportProfilesServiceRequest) { m.Dictionary.LinkTable = nil }, codes.InvalidArgument},
		{"stack", func(m *collector.ExportProfilesServiceRequest) { profileOf(m).Samples[0].StackIndex = 1 }, codes.InvalidArgument},
		{"attribute", func(m *collector.ExportProfilesServiceRequest) { profileOf(m).Samples[0].AttributeIndices = []int32{1} }, codes.InvalidArgument},
		{"no id", func(m *collector.ExportProfilesServiceRequest) { profileOf(m).ProfileId = nil }, codes.InvalidArgument},
		{"too large", func(m *collector.ExportProfilesServiceRequest) {
			m.Dictionary.StringTable = append(m.Dictionary.StringTable, strings.Repeat("x", 4<<20))
		}, codes.ResourceExhausted},
	} {
		s := &storetest.OTLP{}
		m := good()
		c.change(m)
		_, err := collector.NewProfilesServiceClient(dial(t, s.Serve(t))).Export(t.Context(), m)
		if status.Code(err) != c.code || (len(s.Totals()) > 0) != (err == nil) {
			t.Errorf("%s: %v, totals %v", c.name, err, s.Totals())
		}
	}
}
