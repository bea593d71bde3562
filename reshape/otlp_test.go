// SPDX-License-Identifier: Apache-2.0

package reshape_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/profiles/v1development"
	"google.golang.org/protobuf/proto"

	"github.com/fleetprof/fleetprof/reshape"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
)

// text writes out the value of an attribute.
func text(v *common.AnyValue) string {
	if n, ok := v.Value.(*common.AnyValue_IntValue); ok {
		return fmt.Sprint(n.IntValue)
	}
	return v.GetStringValue()
}

// dictionary resolves indexes, and fails the test where one leads nowhere.
type dictionary struct {
	t testing.TB
	*otlp.ProfilesDictionary
}

func at[T any](d dictionary, table []T, i int32) T {
	d.t.Helper()
	if i < 0 || int(i) >= len(table) {
		d.t.Fatalf("index %d into a table of %d", i, len(table))
	}
	return table[i]
}

func (d dictionary) attributes(indices []int32, to map[string]string) {
	for _, i := range indices {
		a := at(d, d.AttributeTable, i)
		name := at(d, d.StringTable, a.KeyStrindex)
		if _, twice := to[name]; twice || name == "" {
			d.t.Errorf("attribute %q is there twice or has no name", name)
		}
		to[name] = text(a.Value)
	}
}

// spell writes out a stack as the function of that name does for pprof, but for the flags, which
// OTLP does not have.
func (d dictionary) spell(stack int32) string {
	var b strings.Builder
	str := func(i int32) string { return at(d, d.StringTable, i) }
	for _, i := range at(d, d.StackTable, stack).LocationIndices {
		l := at(d, d.LocationTable, i)
		if l.MappingIndex != 0 {
			m := at(d, d.MappingTable, l.MappingIndex)
			of := map[string]string{}
			d.attributes(m.AttributeIndices, of)
			fmt.Fprintf(&b, "[%x %x %x %s %s truetruetruefalse]", m.MemoryStart, m.MemoryLimit, m.FileOffset, str(m.FilenameStrindex), of["process.executable.build_id.gnu"])
		}
		fmt.Fprintf(&b, "%x false", l.Address)
		for _, line := range l.Lines {
			f := at(d, d.FunctionTable, line.FunctionIndex)
			fmt.Fprintf(&b, " %s|%s|%s|%d:%d:%d", str(f.NameStrindex), str(f.SystemNameStrindex), str(f.FilenameStrindex), f.StartLine, line.Line, line.Column)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// ofOTLP gives the totals of parts; the first of each two values is 0.
func ofOTLP(t testing.TB, parts []reshape.Part) totals {
	t.Helper()
	sums := totals{}
	for n, part := range parts {
		d := dictionary{t, part.Data.Dictionary}
		var samples, profiles int64
		for _, s := range part.OfProfiles {
			samples += s
		}
		for _, r := range part.Data.ResourceProfiles {
			for _, p := range r.ScopeProfiles[0].Profiles {
				var cpu int64
				for _, s := range p.Samples {
					cpu += s.Values[0]
				}
				if of := part.OfProfiles[profiles] * profiletest.Period; of != cpu {
					t.Errorf("profile %d has %d ns, its samples are %d", profiles, cpu, of)
				}
				profiles++
				if kind := at(d, d.StringTable, p.SampleType.TypeStrindex); kind != "cpu" || p.TimeUnixNano != uint64(start.UnixNano())+uint64(n)*1e6 || len(p.ProfileId) != 16 {
					t.Errorf("a profile of %s at %d with the id %x", kind, p.TimeUnixNano, p.ProfileId)
				}
				for _, s := range p.Samples {
					labels := map[string]string{}
					for _, kv := range r.Resource.Attributes {
						labels[kv.Key] = text(kv.Value)
					}
					d.attributes(s.AttributeIndices, labels)
					sums.add(d.spell(s.StackIndex)+spellLabels(labels), []int64{0, s.Values[0]})
				}
			}
		}
		if samples != part.Samples || int(profiles) != len(part.OfProfiles) {
			t.Errorf("part %d has %d samples, those of its profiles are %v", n, part.Samples, part.OfProfiles)
		}
	}
	return sums
}

// dotted gives labels their names of OpenTelemetry.
func dotted(labels map[string]string) {
	for name, value := range maps.Clone(labels) {
		delete(labels, name)
		if name != "__name__" {
			labels[strings.ReplaceAll(name, "_", ".")] = value
		}
	}
	labels["service.name"] = "unknown_service"
}

func TestOTLP(t *testing.T) {
	p := window(4, 300)
	want := ofWindow(p, dotted)
	for key, values := range want {
		want[key] = [2]int64{0, values[1]} // samples/count is not sent
	}
	for _, limit := range []int{10 << 20, 50_000} {
		parts, cuts := reshape.OTLP(decode(t, p), limit)
		if got := ofOTLP(t, parts); !maps.Equal(got, want) || cuts.Any() {
			t.Errorf("%d totals are not the %d of the window; %+v", len(got), len(want), cuts)
		}
		var samples int64
		for _, part := range parts {
			samples += part.Samples
			if size := proto.Size(part.Data); size > limit {
				t.Errorf("a part has %d bytes", size)
			}
		}
		if window := decode(t, p); samples != window.Samples() || (len(parts) > 1) != (limit < 1<<20) {
			t.Errorf("%d parts have %d samples", len(parts), samples)
		}
	}
}

// What the semantic conventions know has their name, and stands where it belongs.
func TestAttributes(t *testing.T) {
	labels := map[string]string{
		sample.LabelHost: "web-1", sample.LabelService: "shop", sample.LabelPod: "cart-1", sample.LabelPodPrefix + "app_name": "cart",
		sample.LabelUnit: "cart.service", sample.LabelImage: "cart:1",
		sample.LabelPID: "42", sample.LabelHTTPMethod: "GET", sample.LabelRPCSystem: "grpc", sample.LabelAttribution: "exact", "team": "a",
	}
	parts, cuts := reshape.OTLP(decode(t, profiletest.New(start, profiletest.Sample{Stack: "main", Labels: labels, Count: 1})), 1<<20)
	r := parts[0].Data.ResourceProfiles[0]
	resource, ofSample := map[string]string{}, map[string]string{}
	for _, kv := range r.Resource.Attributes {
		resource[kv.Key] = text(kv.Value)
	}
	dictionary{t, parts[0].Data.Dictionary}.attributes(r.ScopeProfiles[0].Profiles[0].Samples[0].AttributeIndices, ofSample)
	if want := map[string]string{
		"host.name": "web-1", "service.name": "shop", "k8s.pod.name": "cart-1", "k8s.pod.label.app_name": "cart",
		"systemd_unit": "cart.service", "container.image.name": "cart:1",
	}; !maps.Equal(resource, want) {
		t.Errorf("resource attributes are %v", resource)
	}
	if want := map[string]string{
		"process.pid": "42", "http.request.method": "GET", "rpc.system.name": "grpc", "request_attribution": "exact", "team": "a",
	}; !maps.Equal(ofSample, want) || cuts.Any() {
		t.Errorf("sample attributes are %v; %+v", ofSample, cuts)
	}
}

// A window that is sent again has the same identifiers.
func TestProfileIDs(t *testing.T) {
	p := decode(t, profiletest.Random(5, "web-1", start, 100))
	one, _ := reshape.OTLP(p, 20_000)
	two, _ := reshape.OTLP(p, 20_000)
	seen := map[string]bool{}
	for i := range one {
		if !proto.Equal(one[i].Data, two[i].Data) {
			t.Errorf("part %d differs", i)
		}
		for _, r := range one[i].Data.ResourceProfiles {
			id := string(r.ScopeProfiles[0].Profiles[0].ProfileId)
			if seen[id] {
				t.Errorf("identifier %x is there twice", id)
			}
			seen[id] = true
		}
	}
}

// checkOTLP wants the totals of each type, and indexes that lead somewhere.
func checkOTLP(t *testing.T, window *columns.Profile, limit int) {
	t.Helper()
	want, got := map[string]int64{}, map[string]int64{}
	for i, column := range window.Values {
		name := window.Strings[window.Types[i].Type]
		if name == "samples" && len(window.Values) > 1 {
			continue
		}
		for _, v := range column {
			want[name] += v
		}
	}
	parts, _ := reshape.OTLP(window, limit)
	for _, part := range parts {
		d := dictionary{t, part.Data.Dictionary}
		for _, r := range part.Data.ResourceProfiles {
			for _, p := range r.ScopeProfiles[0].Profiles {
				for _, s := range p.Samples {
					got[at(d, d.StringTable, p.SampleType.TypeStrindex)] += s.Values[0]
					_ = d.spell(s.StackIndex)
					d.attributes(s.AttributeIndices, map[string]string{})
				}
			}
		}
	}
	for name, sum := range want {
		if got[name] != sum {
			t.Errorf("%s adds up to %d, want %d", name, got[name], sum)
		}
	}
}
