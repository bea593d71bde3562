// SPDX-License-Identifier: Apache-2.0

package reshape

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/profiles/v1development"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/columns"
)

// Scope is the name of the instrumentation scope. It is an identifier because Parca makes of it the name of
// the profile, which is part of its queries.
const Scope = "fleetprof"

// buildIDAttribute is that of a mapping.
const buildIDAttribute = "process.executable.build_id.gnu"

// Part is a window, or some of it, in the form of OpenTelemetry.
type Part struct {
	Data *otlp.ProfilesData
	// Samples is the sum of samples/count, see columns.Profile.Samples.
	Samples int64
	// OfProfiles is the same for each profile in Data, in its order. Samples that have values of
	// several types are in several.
	OfProfiles []int64
}

// OTLP makes the profiles of OpenTelemetry of a window: a resource for each set of labels that say where
// samples come from, the other labels as attributes of the samples. Data has at most so many
// bytes, not compressed; a window that has more becomes several, each of which begins a
// millisecond after the one before.
//
// A profile has one type of values there. Each of the window's becomes one, but for samples/count
// beside another: Pyroscope makes CPU time of it, and would then have that twice.
func OTLP(p *columns.Profile, bytes int) (parts []Part, cuts Cuts) {
	all := make([]int, p.Len())
	for i := range all {
		all[i] = i
	}
	waiting := [][]int{all}
	for len(waiting) > 0 {
		samples := waiting[0]
		c := newConverter(p, len(parts))
		data := c.convert(samples)
		if n := len(samples); proto.Size(data) > bytes && n > 0 {
			if n > 1 {
				waiting = append([][]int{samples[:n/2], samples[n/2:]}, waiting[1:]...)
				continue
			}
			cuts.Stacks++
			c = newConverter(p, len(parts))
			c.bare = true
			data = c.convert(samples)
		}
		cuts.Labels += c.cuts.Labels
		parts, waiting = append(parts, Part{data, c.count(samples), c.ofProfiles}), waiting[1:]
	}
	return parts, cuts
}

// converter fills one dictionary. Index 0 of each of its tables is nothing, as the format demands.
type converter struct {
	p    *columns.Profile
	part int
	bare bool // leave the stacks off
	cuts Cuts
	out  *otlp.ProfilesDictionary

	ofProfiles []int64 // samples

	mappings, functions, locations numbering
	strings                        map[string]int32
	stacks                         map[string]int32    // by the bytes of their locations
	attributes                     map[[2]string]int32 // by name and value
}

func newConverter(p *columns.Profile, part int) *converter {
	return &converter{
		p: p, part: part,
		out: &otlp.ProfilesDictionary{
			MappingTable: []*otlp.Mapping{{}}, LocationTable: []*otlp.Location{{}}, FunctionTable: []*otlp.Function{{}},
			LinkTable: []*otlp.Link{{}}, StringTable: []string{""}, AttributeTable: []*otlp.KeyValueAndUnit{{}}, StackTable: []*otlp.Stack{{}},
		},
		mappings:  numbering{numbers: make([]uint32, len(p.Mappings))},
		functions: numbering{numbers: make([]uint32, len(p.Functions))},
		locations: numbering{numbers: make([]uint32, len(p.Locations))},
		strings:   map[string]int32{"": 0}, stacks: map[string]int32{"": 0}, attributes: map[[2]string]int32{},
	}
}

func (c *converter) count(samples []int) (sum int64) {
	t := c.p.Type("samples", "count")
	for _, i := range samples {
		if t < 0 {
			sum++
		} else {
			sum += c.p.Values[t][i]
		}
	}
	return sum
}

// attributed is what a label set became.
type attributed struct {
	resource []*common.KeyValue
	key      string // of the resource
	sample   []int32
}

// resourced is what a resource became.
type resourced struct {
	profiles []*otlp.Profile // one for each type
	first    int             // of them in ofProfiles
}

// convert makes the message of some samples.
func (c *converter) convert(samples []int) *otlp.ProfilesData {
	data := &otlp.ProfilesData{Dictionary: c.out}
	sets := make([]*attributed, c.p.LabelSets())
	resources := map[string]resourced{}
	for _, i := range samples {
		set := sets[c.p.LabelSet[i]]
		if set == nil {
			set = c.labels(int(c.p.LabelSet[i]))
			sets[c.p.LabelSet[i]] = set
		}
		r, known := resources[set.key]
		if !known {
			r = resourced{c.profiles(set.key), len(c.ofProfiles)}
			c.ofProfiles = append(c.ofProfiles, make([]int64, len(r.profiles))...)
			resources[set.key] = r
			data.ResourceProfiles = append(data.ResourceProfiles, &otlp.ResourceProfiles{
				Resource:      &resource.Resource{Attributes: set.resource},
				ScopeProfiles: []*otlp.ScopeProfiles{{Scope: &common.InstrumentationScope{Name: Scope}, Profiles: r.profiles}},
			})
		}
		stack := c.stack(i)
		for at, t := range c.types() {
			r.profiles[at].Samples = append(r.profiles[at].Samples, &otlp.Sample{
				StackIndex: stack, AttributeIndices: set.sample, Values: []int64{c.p.Values[t][i]},
			})
			c.ofProfiles[r.first+at] += c.count([]int{i})
		}
	}
	return data
}

// types is which types of values are sent.
func (c *converter) types() (types []int) {
	count := c.p.Type("samples", "count")
	for t := range c.p.Types {
		if t != count || len(c.p.Types) == 1 {
			types = append(types, t)
		}
	}
	return types
}

// profiles makes an empty profile for each type.
func (c *converter) profiles(resource string) (all []*otlp.Profile) {
	p := c.p
	for _, t := range c.types() {
		id := sha256.New()
		for _, part := range []string{resource, p.Strings[p.Types[t].Type], p.Strings[p.Types[t].Unit]} {
			id.Write([]byte(part + "\x00"))
		}
		id.Write(binary.LittleEndian.AppendUint64(nil, uint64(p.Start)))
		id.Write(binary.LittleEndian.AppendUint64(nil, uint64(c.part)))
		all = append(all, &otlp.Profile{
			SampleType:   c.valueType(p.Types[t]),
			TimeUnixNano: uint64(p.Start + int64(c.part)*int64(time.Millisecond)),
			DurationNano: uint64(p.Duration),
			PeriodType:   c.valueType(p.PeriodType),
			Period:       p.Period,
			ProfileId:    id.Sum(nil)[:16], // the same when it is sent again
		})
	}
	return all
}

func (c *converter) valueType(t columns.ValueType) *otlp.ValueType {
	return &otlp.ValueType{TypeStrindex: c.string(c.p.Strings[t.Type]), UnitStrindex: c.string(c.p.Strings[t.Unit])}
}

// labels divides a label set between resource and samples.
func (c *converter) labels(set int) *attributed {
	a := &attributed{}
	seen, service := map[string]bool{}, false
	var key strings.Builder
	add := func(label, value string) {
		name := attribute(label)
		switch {
		case value == "" || seen[name]:
			c.cuts.Labels++ // a number, or there twice
			return
		case ofResource(label):
			a.resource = append(a.resource, &common.KeyValue{Key: name, Value: anyValue(label, value)})
			key.WriteString(name + "\x00" + value + "\x00")
		default:
			a.sample = append(a.sample, c.attribute(label, name, value))
		}
		seen[name] = true
		service = service || label == sample.LabelService
	}
	for _, l := range c.p.Labels(set) {
		if l.Text != 0 || l.Number != 0 {
			add(c.p.Strings[l.Key], c.p.Strings[l.Text])
		}
	}
	if !service {
		add(sample.LabelService, unknownService)
	}
	a.key = key.String()
	return a
}

func (c *converter) attribute(label, name, value string) int32 {
	key := [2]string{name, value}
	index, known := c.attributes[key]
	if !known {
		index = int32(len(c.out.AttributeTable))
		c.attributes[key] = index
		c.out.AttributeTable = append(c.out.AttributeTable, &otlp.KeyValueAndUnit{KeyStrindex: c.string(name), Value: anyValue(label, value)})
	}
	return index
}

// stack gives the index of a sample's stack.
func (c *converter) stack(i int) int32 {
	if c.bare {
		return 0
	}
	stack := c.p.Stack(i)
	key := make([]byte, 0, 4*len(stack))
	for _, l := range stack {
		key = binary.LittleEndian.AppendUint32(key, l)
	}
	index, known := c.stacks[string(key)]
	if !known {
		locations := make([]int32, len(stack))
		for i, l := range stack {
			locations[i] = c.location(l)
		}
		index = int32(len(c.out.StackTable))
		c.stacks[string(key)] = index
		c.out.StackTable = append(c.out.StackTable, &otlp.Stack{LocationIndices: locations})
	}
	return index
}

func (c *converter) location(index uint32) int32 {
	id, fresh := c.locations.of(index)
	if !fresh {
		return int32(id)
	}
	l := c.p.Locations[index]
	out := &otlp.Location{Address: l.Address}
	if l.Mapping != 0 {
		out.MappingIndex = c.mapping(l.Mapping - 1)
	}
	for _, line := range c.p.LocationLines(int(index)) {
		out.Lines = append(out.Lines, &otlp.Line{FunctionIndex: c.function(line.Function), Line: line.Line, Column: line.Column})
	}
	c.out.LocationTable = append(c.out.LocationTable, out)
	return int32(id)
}

func (c *converter) mapping(index uint32) int32 {
	id, fresh := c.mappings.of(index)
	if !fresh {
		return int32(id)
	}
	m := c.p.Mappings[index]
	out := &otlp.Mapping{
		MemoryStart: m.Start, MemoryLimit: m.Limit, FileOffset: m.Offset, FilenameStrindex: c.string(c.p.Strings[m.File]),
	}
	if build := c.p.Strings[m.BuildID]; build != "" {
		out.AttributeIndices = []int32{c.attribute("", buildIDAttribute, build)}
	}
	c.out.MappingTable = append(c.out.MappingTable, out)
	return int32(id)
}

func (c *converter) function(index uint32) int32 {
	id, fresh := c.functions.of(index)
	if !fresh {
		return int32(id)
	}
	f := c.p.Functions[index]
	c.out.FunctionTable = append(c.out.FunctionTable, &otlp.Function{
		NameStrindex: c.string(c.p.Strings[f.Name]), SystemNameStrindex: c.string(c.p.Strings[f.SystemName]),
		FilenameStrindex: c.string(c.p.Strings[f.File]), StartLine: f.StartLine,
	})
	return int32(id)
}

// string gives the index of a string.
func (c *converter) string(s string) int32 {
	index, known := c.strings[s]
	if !known {
		index = int32(len(c.out.StringTable))
		c.strings[s] = index
		c.out.StringTable = append(c.out.StringTable, s)
	}
	return index
}
