// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	profiles "go.opentelemetry.io/proto/otlp/profiles/v1development"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"

	"github.com/fleetprof/fleetprof/server/columns"
)

// fromOTLP makes a profile of one of OpenTelemetry. Attributes of the resource and of the
// profile become labels of all samples, those of a sample its own. Lists, maps and bytes
// are left out; dropped is how many. frames is how many more there may be in this request,
// whose profiles can all refer to the same long stacks.
func fromOTLP(d *profiles.ProfilesDictionary, from *resource.Resource, p *profiles.Profile, frames *int) (_ *columns.Profile, a about, dropped int, err error) {
	c := conversion{
		frames: frames, d: d, b: columns.NewBuilder("unnamed"), mappings: map[int32]uint32{}, functions: map[int32]uint32{},
		locations: map[int32]uint32{}, stacks: map[int32][]uint32{}, resolved: map[int32]columns.Resolved{},
	}
	if n := len(from.GetAttributes()); n > maxAttributes {
		return nil, about{}, 0, fmt.Errorf("read resource: it has %d attributes, want %d at most", n, maxAttributes)
	}
	for _, kv := range from.GetAttributes() {
		c.attribute(&a.labels, cmp.Or(kv.GetKey(), c.text(kv.GetKeyStrindex())), kv.GetValue())
	}
	c.attributes(&a.labels, p.GetAttributeIndices())
	c.resolve(p)
	a.name = c.head(p)
	for _, s := range p.GetSamples() {
		c.sample(s)
	}
	if c.err != nil {
		return nil, about{}, c.dropped, c.err
	}
	out, err := c.b.Finish()
	return out, a, c.dropped, err
}

// Limits of what profiles of OpenTelemetry can multiply: attributes of a resource, frames of one
// stack and of all stacks of a request.
const (
	maxAttributes = 256
	maxStack      = 1 << 13
	maxFrames     = 1 << 24
)

// conversion makes one profile. Its maps have what of the dictionary is in the profile.
// The first mistake stays.
type conversion struct {
	d                              *profiles.ProfilesDictionary
	b                              *columns.Builder
	mappings, functions, locations map[int32]uint32
	stacks                         map[int32][]uint32
	resolved                       map[int32]columns.Resolved // by mapping
	frames                         *int
	dropped                        int
	err                            error
}

// at gives an entry of the dictionary.
func at[T any](c *conversion, table []T, i int32, what string) (entry T) {
	if i >= 0 && int(i) < len(table) {
		return table[i]
	}
	c.fail(fmt.Errorf("find %s %d: the dictionary has %d", what, i, len(table)))
	return entry
}

func (c *conversion) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// text gives a string; number 0 is the empty one, also where there is no dictionary.
func (c *conversion) text(i int32) string {
	if i == 0 {
		return ""
	}
	return at(c, c.d.GetStringTable(), i, "string")
}

func (c *conversion) string(i int32) uint32 { return c.b.String(c.text(i)) }

func (c *conversion) valueType(v *profiles.ValueType) columns.ValueType {
	return columns.ValueType{Type: c.string(v.GetTypeStrindex()), Unit: c.string(v.GetUnitStrindex())}
}

// head sets what the profile says once, and gives it a name.
func (c *conversion) head(p *profiles.Profile) (name string) {
	start := p.GetTimeUnixNano()
	for _, s := range p.GetSamples() {
		for _, t := range s.GetTimestampsUnixNano() {
			if p.GetTimeUnixNano() == 0 && (start == 0 || t < start) {
				start = t
			}
		}
	}
	if start == 0 {
		start = uint64(time.Now().UnixNano())
	}
	c.b.SetHead(int64(min(start, math.MaxInt64)), int64(min(p.GetDurationNano(), math.MaxInt64)), p.GetPeriod(),
		c.valueType(p.GetPeriodType()), c.valueType(p.GetSampleType()))
	kind := c.text(p.GetSampleType().GetTypeStrindex())
	return cmp.Or(profileNameOf(kind, ""), c.text(p.GetPeriodType().GetTypeStrindex()), kind)
}

// sample adds a sample, whose values are one for each time at which it was taken; without
// values, each of these times counts for one.
func (c *conversion) sample(s *profiles.Sample) {
	sum := int64(0)
	for _, v := range s.GetValues() {
		if v < 0 || v > math.MaxInt64-sum {
			c.fail(fmt.Errorf("read sample: a value is %d, want 0 or more and a sum of 63 bits", v))
			return
		}
		sum += v
	}
	if len(s.GetValues()) == 0 {
		sum = int64(len(s.GetTimestampsUnixNano()))
	}
	var labels []label
	c.attributes(&labels, s.GetAttributeIndices())
	set := make([]columns.Label, len(labels))
	for i, l := range labels {
		set[i] = columns.Label{Key: c.b.String(l.name), Text: c.b.String(l.value)}
	}
	if c.err == nil {
		c.b.Sample(c.stack(s.GetStackIndex()), c.b.LabelSet(set), sum)
	}
}

// resolve finds which mappings have names for their code: OpenTelemetry does not say.
func (c *conversion) resolve(p *profiles.Profile) {
	seen := map[int32]bool{}
	for _, s := range p.GetSamples() {
		if i := s.GetStackIndex(); !seen[i] && c.err == nil {
			seen[i] = true
			locations := at(c, c.d.GetStackTable(), i, "stack").GetLocationIndices()
			if *c.frames -= len(locations); *c.frames < 0 || len(locations) > maxStack {
				c.fail(&columns.TooLargeError{What: "frames in a stack, or in all of a request", Limit: maxStack})
				return
			}
			for _, l := range locations {
				location := at(c, c.d.GetLocationTable(), l, "location")
				if len(location.GetLines()) > 0 {
					c.resolved[location.GetMappingIndex()] = columns.HasFunctions | columns.HasFilenames | columns.HasLineNumbers
				}
			}
		}
	}
}

func (c *conversion) stack(i int32) []uint32 {
	if frames, ok := c.stacks[i]; ok {
		return frames
	}
	indices := at(c, c.d.GetStackTable(), i, "stack").GetLocationIndices()
	frames := make([]uint32, len(indices))
	for n, l := range indices {
		frames[n] = c.location(l)
	}
	c.stacks[i] = frames
	return frames
}

func (c *conversion) location(i int32) uint32 {
	if id, ok := c.locations[i]; ok {
		return id
	}
	from := at(c, c.d.GetLocationTable(), i, "location")
	to := columns.Location{Address: from.GetAddress()}
	if m := from.GetMappingIndex(); m != 0 {
		to.Mapping = c.mapping(m) + 1
	}
	lines := make([]columns.Line, len(from.GetLines()))
	for n, l := range from.GetLines() {
		lines[n] = columns.Line{Function: c.function(l.GetFunctionIndex()), Line: l.GetLine(), Column: l.GetColumn()}
	}
	c.locations[i] = c.b.Location(to, lines...)
	return c.locations[i]
}

func (c *conversion) function(i int32) uint32 {
	if id, ok := c.functions[i]; ok {
		return id
	}
	f := at(c, c.d.GetFunctionTable(), i, "function")
	c.functions[i] = c.b.Function(columns.Function{
		Name: c.string(f.GetNameStrindex()), SystemName: c.string(f.GetSystemNameStrindex()),
		File: c.string(f.GetFilenameStrindex()), StartLine: f.GetStartLine(),
	})
	return c.functions[i]
}

// buildIDs are the attributes of mappings that name their files, the best first.
// https://opentelemetry.io/docs/specs/semconv/registry/attributes/process/
var buildIDs = [...]string{"process.executable.build_id.gnu", "process.executable.build_id.go", "process.executable.build_id.htlhash"}

func (c *conversion) mapping(i int32) uint32 {
	if id, ok := c.mappings[i]; ok {
		return id
	}
	m := at(c, c.d.GetMappingTable(), i, "mapping")
	var attributes []label
	c.attributes(&attributes, m.GetAttributeIndices())
	buildID := ""
	for _, name := range buildIDs {
		for _, a := range attributes {
			if a.name == name && buildID == "" {
				buildID = a.value
			}
		}
	}
	c.mappings[i] = c.b.Mapping(columns.Mapping{
		Start: m.GetMemoryStart(), Limit: m.GetMemoryLimit(), Offset: m.GetFileOffset(),
		File: c.string(m.GetFilenameStrindex()), BuildID: c.b.String(buildID), Resolved: c.resolved[i],
	})
	return c.mappings[i]
}

// attributes adds those of the dictionary to labels.
func (c *conversion) attributes(to *[]label, indices []int32) {
	for _, i := range indices {
		kv := at(c, c.d.GetAttributeTable(), i, "attribute")
		if c.err != nil || len(*to) > maxLabels {
			return // settle refuses so many
		}
		if kv.GetKeyStrindex() != 0 {
			c.attribute(to, c.text(kv.GetKeyStrindex()), kv.GetValue())
		}
	}
}

func (c *conversion) attribute(to *[]label, name string, v *common.AnyValue) {
	text := ""
	switch v := v.GetValue().(type) {
	case nil:
	case *common.AnyValue_StringValue:
		text = v.StringValue
	case *common.AnyValue_StringValueStrindex:
		text = c.text(v.StringValueStrindex)
	case *common.AnyValue_BoolValue:
		text = strconv.FormatBool(v.BoolValue)
	case *common.AnyValue_IntValue:
		text = strconv.FormatInt(v.IntValue, 10)
	case *common.AnyValue_DoubleValue:
		text = strconv.FormatFloat(v.DoubleValue, 'g', -1, 64)
	default:
		c.dropped++
		return
	}
	*to = append(*to, label{name, text})
}
