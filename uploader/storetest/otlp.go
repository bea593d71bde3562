// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/profiles/v1development"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	profiles "go.opentelemetry.io/proto/otlp/profiles/v1development"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // servers must take it
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// OTLP takes profiles as a collector does, with gRPC's own limit of 4 MiB a message, and refuses what the
// comments of the messages forbid:
// https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/profiles/v1development/profiles.proto
type OTLP struct {
	Server
	collector.UnimplementedProfilesServiceServer
	// Refuse makes it refuse a profile for a reason of its own, by the labels of its resource.
	Refuse func(labels map[string]string) bool

	ids map[string]bool
}

// Serve serves until the test ends, and gives the address.
func (o *OTLP) Serve(t testing.TB) (address string) {
	s := grpc.NewServer()
	collector.RegisterProfilesServiceServer(s, o)
	host, _ := o.serve(t, s, false)
	return "otlp://" + host
}

// Export stores what it takes.
func (o *OTLP) Export(_ context.Context, m *collector.ExportProfilesServiceRequest) (*collector.ExportProfilesServiceResponse, error) {
	d := dictionary{d: m.GetDictionary()}
	d.check()
	add, refused := Totals{}, int64(0)
	for _, r := range m.ResourceProfiles {
		labels := map[string]string{}
		d.attributes(r.GetResource().GetAttributes(), labels)
		for _, scope := range r.ScopeProfiles {
			for _, p := range scope.Profiles {
				if o.Refuse != nil && o.Refuse(labels) {
					refused++
					continue
				}
				if len(p.ProfileId) != 16 || p.TimeUnixNano == 0 || o.known(string(p.ProfileId)) {
					d.fail("profile id %x at %d is none, or there twice", p.ProfileId, p.TimeUnixNano)
				}
				d.profile(p, labels, add)
			}
		}
	}
	if d.err != nil {
		return nil, status.Error(codes.InvalidArgument, d.err.Error())
	}
	o.record(func(t Totals) {
		for key, v := range add {
			t[key] += v
		}
	})
	answer := &collector.ExportProfilesServiceResponse{}
	if refused > 0 {
		answer.PartialSuccess = &collector.ExportProfilesPartialSuccess{RejectedProfiles: refused, ErrorMessage: "these are refused"}
	}
	return answer, nil
}

// known reports whether a profile has come before.
func (o *OTLP) known(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ids == nil {
		o.ids = map[string]bool{}
	}
	known := o.ids[id]
	o.ids[id] = true
	return known
}

// dictionary resolves indexes. The first mistake stays.
type dictionary struct {
	d   *profiles.ProfilesDictionary
	err error
}

func (d *dictionary) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

// check wants each table to begin with nothing.
func (d *dictionary) check() {
	zero := func(name string, n int, first func() proto.Message) {
		if n == 0 || proto.Size(first()) != 0 {
			d.fail("table of %s does not begin with nothing", name)
		}
	}
	t := d.d
	if t == nil || len(t.StringTable) == 0 || t.StringTable[0] != "" {
		d.err = errors.New("there is no string table that begins with the empty string")
		return
	}
	zero("mappings", len(t.MappingTable), func() proto.Message { return t.MappingTable[0] })
	zero("locations", len(t.LocationTable), func() proto.Message { return t.LocationTable[0] })
	zero("functions", len(t.FunctionTable), func() proto.Message { return t.FunctionTable[0] })
	zero("links", len(t.LinkTable), func() proto.Message { return t.LinkTable[0] })
	zero("attributes", len(t.AttributeTable), func() proto.Message { return t.AttributeTable[0] })
	zero("stacks", len(t.StackTable), func() proto.Message { return t.StackTable[0] })
}

func at[T any](d *dictionary, table []T, i int32) (entry T) {
	if i < 0 || int(i) >= len(table) {
		d.fail("index %d into a table of %d", i, len(table))
		return entry
	}
	return table[i]
}

func (d *dictionary) text(i int32) string { return at(d, d.d.GetStringTable(), i) }

func (d *dictionary) attributes(all []*common.KeyValue, to map[string]string) {
	for _, kv := range all {
		d.label(kv.Key, kv.Value, to)
	}
}

func (d *dictionary) label(name string, v *common.AnyValue, to map[string]string) {
	if _, twice := to[name]; twice || name == "" {
		d.fail("attribute %q is there twice or has no name", name)
	}
	to[name] = v.GetStringValue()
	if n, ok := v.GetValue().(*common.AnyValue_IntValue); ok {
		to[name] = fmt.Sprint(n.IntValue)
	}
}

func (d *dictionary) profile(p *profiles.Profile, resource map[string]string, add Totals) {
	kind := d.text(p.GetSampleType().GetTypeStrindex()) + "/" + d.text(p.GetSampleType().GetUnitStrindex())
	for _, s := range p.Samples {
		labels := map[string]string{}
		for name, value := range resource {
			labels[name] = value
		}
		for _, i := range s.AttributeIndices {
			a := at(d, d.d.GetAttributeTable(), i)
			d.label(d.text(a.GetKeyStrindex()), a.GetValue(), labels)
		}
		if len(s.Values) != 1 {
			d.fail("a sample has %d values and no times", len(s.Values))
			return
		}
		add.add(labels, kind, d.stack(s.StackIndex), s.Values[0])
	}
}

func (d *dictionary) stack(i int32) string {
	var names []string
	for _, l := range at(d, d.d.GetStackTable(), i).GetLocationIndices() {
		location := at(d, d.d.GetLocationTable(), l)
		_ = at(d, d.d.GetMappingTable(), location.GetMappingIndex())
		for _, line := range location.GetLines() {
			names = append(names, d.text(at(d, d.d.GetFunctionTable(), line.GetFunctionIndex()).GetNameStrindex()))
		}
	}
	return strings.Join(names, ";")
}
