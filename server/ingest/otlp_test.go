// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/profiles/v1development"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	profiles "go.opentelemetry.io/proto/otlp/profiles/v1development"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/fleetprof/fleetprof/server/columns"
)

// dictionary makes the tables of a request.
type dictionary struct{ profiles.ProfilesDictionary }

func newDictionary() *dictionary {
	d := &dictionary{}
	d.StringTable = []string{""}
	d.MappingTable = []*profiles.Mapping{{}}
	d.FunctionTable = []*profiles.Function{{}}
	d.LocationTable = []*profiles.Location{{}}
	d.AttributeTable = []*profiles.KeyValueAndUnit{{}}
	d.StackTable = []*profiles.Stack{{}}
	return d
}

func (d *dictionary) text(s string) int32 {
	if i := slices.Index(d.StringTable, s); i >= 0 {
		return int32(i)
	}
	d.StringTable = append(d.StringTable, s)
	return int32(len(d.StringTable) - 1)
}

func (d *dictionary) valueType(kind, unit string) *profiles.ValueType {
	return &profiles.ValueType{TypeStrindex: d.text(kind), UnitStrindex: d.text(unit)}
}

func (d *dictionary) attribute(key string, v *common.AnyValue) int32 {
	d.AttributeTable = append(d.AttributeTable, &profiles.KeyValueAndUnit{KeyStrindex: d.text(key), Value: v})
	return int32(len(d.AttributeTable) - 1)
}

// stack adds one of functions, innermost first; a name that begins with a digit is an address
// without one.
func (d *dictionary) stack(functions ...string) int32 {
	if len(d.MappingTable) == 1 {
		d.MappingTable = append(d.MappingTable, &profiles.Mapping{
			MemoryStart: 0x1000, MemoryLimit: 0x9000, FilenameStrindex: d.text("app"),
			AttributeIndices: []int32{d.attribute("process.executable.build_id.htlhash", text("h")), d.attribute("process.executable.build_id.gnu", text("abc"))},
		})
	}
	s := &profiles.Stack{}
	for _, f := range functions {
		l := &profiles.Location{MappingIndex: 1, Address: 0x1000 + uint64(len(d.LocationTable))}
		if f[0] > '9' {
			d.FunctionTable = append(d.FunctionTable, &profiles.Function{NameStrindex: d.text(f), FilenameStrindex: d.text(f + ".c"), StartLine: 3})
			l.Lines = []*profiles.Line{{FunctionIndex: int32(len(d.FunctionTable) - 1), Line: 7}}
		}
		d.LocationTable = append(d.LocationTable, l)
		s.LocationIndices = append(s.LocationIndices, int32(len(d.LocationTable)-1))
	}
	d.StackTable = append(d.StackTable, s)
	return int32(len(d.StackTable) - 1)
}

func text(s string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: s}}
}

func number(n int64) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: n}}
}

// export is a request as the profiler of OpenTelemetry makes it: samples with times, frames that
// have names and others that have none.
func export(start time.Time) *collector.ExportProfilesServiceRequest {
	d := newDictionary()
	at := uint64(start.UnixNano())
	thread := d.attribute("thread.name", text("io"))
	pid := d.attribute("process.pid", number(42))
	list := d.attribute("process.command_args", &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: &common.ArrayValue{}}})
	cpu := &profiles.Profile{
		SampleType: d.valueType("samples", "count"), PeriodType: d.valueType("cpu", "nanoseconds"), Period: 50_000_000,
		TimeUnixNano: at, DurationNano: 5e9,
		Samples: []*profiles.Sample{
			{StackIndex: d.stack("work", "main"), AttributeIndices: []int32{thread, pid, list}, TimestampsUnixNano: []uint64{at, at + 1, at + 2}},
			{StackIndex: d.stack("0x1", "main"), AttributeIndices: []int32{pid}, Values: []int64{1, 4}, TimestampsUnixNano: []uint64{at, at + 1}},
		},
	}
	heap := &profiles.Profile{
		SampleType: d.valueType("inuse_space", "bytes"), PeriodType: d.valueType("space", "bytes"), Period: 524288,
		TimeUnixNano: at, Samples: []*profiles.Sample{{StackIndex: d.stack("alloc"), Values: []int64{4096}}},
	}
	of := func(p *profiles.Profile, attributes ...*common.KeyValue) *profiles.ResourceProfiles {
		return &profiles.ResourceProfiles{
			Resource:      &resource.Resource{Attributes: attributes},
			ScopeProfiles: []*profiles.ScopeProfiles{{Profiles: []*profiles.Profile{p}}},
		}
	}
	byIndex := &common.KeyValue{KeyStrindex: d.text("container.id"), Value: &common.AnyValue{Value: &common.AnyValue_StringValueStrindex{StringValueStrindex: d.text("c1")}}}
	return &collector.ExportProfilesServiceRequest{
		ResourceProfiles: []*profiles.ResourceProfiles{
			of(cpu, &common.KeyValue{Key: "host.name", Value: text("a")}, byIndex), of(heap, &common.KeyValue{Key: "service.name", Value: text("shop")}),
		},
		Dictionary: &d.ProfilesDictionary,
	}
}

// exported is what of that is stored.
var exported = map[string]int64{
	"cpu samples/count container_id=c1 host_name=a process_pid=42 thread_name=io":   3,
	"cpu samples/count container_id=c1 host_name=a process_pid=42":                  5,
	"cpu cpu/nanoseconds container_id=c1 host_name=a process_pid=42 thread_name=io": 150_000_000,
	"cpu cpu/nanoseconds container_id=c1 host_name=a process_pid=42":                250_000_000,
	"memory inuse_space/bytes service_name=shop":                                    4096,
}

func TestOTLP(t *testing.T) {
	s := &shelf{}
	client := collector.NewProfilesServiceClient(dial(t, serve(t, s, false)))
	start := time.Now().Add(-time.Minute)
	for range 2 {
		answer, err := client.Export(t.Context(), export(start), grpc.UseCompressor("gzip"))
		if err != nil || answer.GetPartialSuccess().GetRejectedProfiles() != 0 {
			t.Fatal(answer, err)
		}
	}
	wantTotals(t, s, exported)
	p := s.profiles[0]
	if p.Start != start.UnixNano() || p.Duration != 5e9 || p.Period != 50_000_000 {
		t.Errorf("head is %d %d %d", p.Start, p.Duration, p.Period)
	}
	m := p.Mappings[0]
	if p.Strings[m.File] != "app" || p.Strings[m.BuildID] != "abc" || m.Resolved != columns.HasFunctions|columns.HasFilenames|columns.HasLineNumbers {
		t.Errorf("mapping is %+v %v", m, p.Strings)
	}
	stack := p.Stack(1)
	if len(stack) != 2 || len(p.LocationLines(int(stack[0]))) != 0 || p.Locations[stack[0]].Address == 0 {
		t.Errorf("the frame without a name is %v", stack)
	}
	line := p.LocationLines(int(stack[1]))[0]
	if f := p.Functions[line.Function]; p.Strings[f.Name] != "main" || p.Strings[f.File] != "main.c" || line.Line != 7 {
		t.Errorf("its caller is %+v", line)
	}
}

func postOTLP(t *testing.T, h http.Handler, m *collector.ExportProfilesServiceRequest, change func(r *http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "/v1development/profiles", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/x-protobuf")
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestPlainOTLP(t *testing.T) {
	s := &shelf{}
	h, _ := newHandler(t, s)
	if w := postOTLP(t, h, export(time.Now().Add(-time.Minute)), nil); w.Code != http.StatusOK || w.Body.Len() > 0 {
		t.Fatalf("answer is %d %q", w.Code, w.Body)
	}
	wantTotals(t, s, exported)
	for name, c := range map[string]struct {
		header, value, want string
	}{
		"json":     {"Content-Type", "application/json", "application/x-protobuf only"},
		"snappy":   {"Content-Encoding", "snappy", "gzip or none"},
		"not gzip": {"Content-Encoding", "gzip", "unpack gzip"},
	} {
		w := postOTLP(t, h, export(time.Now()), func(r *http.Request) { r.Header.Set(c.header, c.value) })
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: answer is %d %q", name, w.Code, w.Body)
		}
	}
}

// TestOTLPRefuses has profiles that can never be taken beside one that can.
func TestOTLPRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(p *profiles.Profile, d *profiles.ProfilesDictionary)
		want   string
	}{
		"stack":          {func(p *profiles.Profile, _ *profiles.ProfilesDictionary) { p.Samples[0].StackIndex = 99 }, "find stack 99"},
		"negative stack": {func(p *profiles.Profile, _ *profiles.ProfilesDictionary) { p.Samples[0].StackIndex = -1 }, "find stack -1"},
		"attribute":      {func(p *profiles.Profile, _ *profiles.ProfilesDictionary) { p.Samples[0].AttributeIndices[0] = 99 }, "find attribute 99"},
		"type":           {func(p *profiles.Profile, _ *profiles.ProfilesDictionary) { p.SampleType = nil }, "sample type"},
		"value":          {func(p *profiles.Profile, _ *profiles.ProfilesDictionary) { p.Samples[0].Values = []int64{-1, 5} }, "a value is -1"},
		"future":         {func(p *profiles.Profile, _ *profiles.ProfilesDictionary) { p.TimeUnixNano += 2 * 3600e9 }, "set the clocks"},
		"deep stack": {func(_ *profiles.Profile, d *profiles.ProfilesDictionary) {
			d.StackTable[1].LocationIndices = make([]int32, 100_000)
		}, "8192 frames in a stack"},
		"label": {func(_ *profiles.Profile, d *profiles.ProfilesDictionary) {
			d.AttributeTable[1].Value = text(strings.Repeat("x", 5000))
		}, "the value of thread_name"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shelf{}
			client := collector.NewProfilesServiceClient(dial(t, serve(t, s, false)))
			m := export(time.Now().Add(-time.Minute))
			c.change(m.ResourceProfiles[0].ScopeProfiles[0].Profiles[0], m.Dictionary)
			answer, err := client.Export(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			if p := answer.GetPartialSuccess(); p.GetRejectedProfiles() != 1 || !strings.Contains(p.GetErrorMessage(), c.want) {
				t.Errorf("answer is %v, want %s", p, c.want)
			}
			wantTotals(t, s, map[string]int64{"memory inuse_space/bytes service_name=shop": 4096})
		})
	}
}

// FuzzOTLP has any message.
func FuzzOTLP(f *testing.F) {
	seed, err := proto.Marshal(export(time.Now().Add(-time.Minute)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, body []byte) {
		h, _ := newHandler(t, &shelf{})
		r := httptest.NewRequest(http.MethodPost, "/v1development/profiles", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/x-protobuf")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("answer is %d %s", w.Code, w.Body)
		}
	})
}
