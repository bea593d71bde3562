// SPDX-License-Identifier: Apache-2.0

package columns_test

import (
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/server/columns"
)

// TestBuilderAgreesWithDecode builds anew what Decode has read.
func TestBuilderAgreesWithDecode(t *testing.T) {
	for _, p := range []*columns.Profile{mustDecode(t, raw(t, everything())), mustDecode(t, raw(t, heap()))} {
		got, err := rebuild(p)
		if err != nil {
			t.Fatal(err)
		}
		if g, w := render(got), render(p); !maps.Equal(g, w) {
			t.Errorf("samples differ:\n got %v\nwant %v", g, w)
		}
		if got.Name != p.Name || got.Start != p.Start || got.Duration != p.Duration || got.Period != p.Period ||
			got.Samples() != p.Samples() || len(got.Comments) != len(p.Comments) || got.LabelSets() > p.LabelSets() {
			t.Errorf("head is %+v, want %+v", got, p)
		}
	}
}

func mustDecode(t *testing.T, raw []byte) *columns.Profile {
	t.Helper()
	p, err := columns.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func rebuild(p *columns.Profile) (*columns.Profile, error) {
	b := columns.NewBuilder(p.Name)
	str := func(i uint32) uint32 { return b.String(p.Strings[i]) }
	valueType := func(v columns.ValueType) columns.ValueType {
		return columns.ValueType{Type: str(v.Type), Unit: str(v.Unit)}
	}
	var types []columns.ValueType
	for _, v := range p.Types {
		types = append(types, valueType(v))
	}
	b.SetHead(p.Start, p.Duration, p.Period, valueType(p.PeriodType), types...)
	for _, m := range p.Mappings {
		m.File, m.BuildID = str(m.File), str(m.BuildID)
		b.Mapping(m)
	}
	for _, f := range p.Functions {
		f.Name, f.SystemName, f.File = str(f.Name), str(f.SystemName), str(f.File)
		b.Function(f)
	}
	for i, l := range p.Locations {
		b.Location(l, p.LocationLines(i)...)
	}
	for _, c := range p.Comments {
		b.Comment(str(c))
	}
	for i, set := range p.LabelSet {
		var labels []columns.Label
		for _, l := range p.Labels(int(set)) {
			labels = append(labels, columns.Label{Key: str(l.Key), Text: str(l.Text), Unit: str(l.Unit), Number: l.Number})
		}
		var values []int64
		for _, column := range p.Values {
			values = append(values, column[i])
		}
		b.Sample(p.Stack(i), b.LabelSet(labels), values...)
	}
	return b.Finish()
}

func TestBuilderRefuses(t *testing.T) {
	for _, c := range []struct {
		name, want string
		build      func(b *columns.Builder)
	}{
		{"no head", "read time", func(*columns.Builder) {}},
		{"no types", "sample types", func(b *columns.Builder) { b.SetHead(1, 1, 1, columns.ValueType{}) }},
		{"no name", "read name", nil},
		{"invalid UTF-8", "invalid UTF-8", func(b *columns.Builder) { b.String("\xff") }},
		{"missing string", "find string 9", func(b *columns.Builder) { b.Mapping(columns.Mapping{File: 9}) }},
		{"missing mapping", "find mapping 0", func(b *columns.Builder) { b.Location(columns.Location{Mapping: 1}) }},
		{"missing function", "find function 0", func(b *columns.Builder) { b.Location(columns.Location{}, columns.Line{}) }},
		{"missing location", "find location 0", func(b *columns.Builder) { b.Sample([]uint32{0}, b.LabelSet(nil), 1) }},
		{"missing label set", "find label set 0", func(b *columns.Builder) { b.Sample(nil, 0, 1) }},
		{"two values", "2 values, want one", func(b *columns.Builder) { b.Sample(nil, b.LabelSet(nil), 1, 2) }},
		{"negative value", "want 0 or more", func(b *columns.Builder) { b.Sample(nil, b.LabelSet(nil), -1) }},
		{"huge total", "the sum of cpu", func(b *columns.Builder) { b.Sample(nil, b.LabelSet(nil), math.MaxInt64) }},
		{"deep stack", "locations in a stack", func(b *columns.Builder) {
			l := b.Location(columns.Location{Address: 1})
			stack := make([]uint32, 1<<13+1)
			for i := range stack {
				stack[i] = l
			}
			b.Sample(stack, b.LabelSet(nil), 1)
		}},
		{"many labels", "labels of a sample", func(b *columns.Builder) { b.LabelSet(make([]columns.Label, 300)) }},
		{"many mappings", "entries of one kind", func(b *columns.Builder) {
			for range 1<<20 + 1 {
				b.Mapping(columns.Mapping{})
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := columns.NewBuilder("cpu")
			if c.build == nil {
				b = columns.NewBuilder("")
			}
			if c.name != "no head" {
				b.SetHead(1, 1, 1, columns.ValueType{}, columns.ValueType{Type: b.String("cpu")})
			}
			if c.build != nil {
				c.build(b)
			}
			if _, err := b.Finish(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Finish gives %v, want an error with %q", err, c.want)
			}
		})
	}
}
