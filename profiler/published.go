// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/sample"
)

// coming belongs to a tick to come.
type coming[T any] struct {
	time uint64
	what T
}

// take removes what came for a tick of a CPU, and returns it if it is for this one.
func take[T any](all map[uint32]coming[T], cpu uint32, time uint64) (what T) {
	c, ok := all[cpu]
	if !ok {
		return what
	}
	delete(all, cpu)
	if c.time == time {
		what = c.what
	}
	return what
}

// labels takes those that are whole: part of a name is another name.
func (d *decoder) labels(record []byte) error {
	h, rest, err := head[bpf.Labels](record, bpf.LabelsBytes)
	if err != nil {
		return err
	}
	if want := int(h.Count) * bpf.LabelBytes; len(rest) < want {
		return malformed{"length of labels", len(rest), want}
	}
	var all []sample.Attribute
	for range h.Count {
		var l bpf.Label
		if l, rest, err = head[bpf.Label](rest, bpf.LabelBytes); err != nil {
			return err
		}
		key, known := goString(l.Key[:], l.KeyLength)
		value, whole := goString(l.Value[:], l.ValueLength)
		if known && whole && key != "" && value != "" {
			all = append(all, sample.Attribute{Key: key, Value: value})
		}
	}
	d.published[h.Cpu] = coming[[]sample.Attribute]{h.TimeNs, all}
	return nil
}

// threadAttributes are those of a thread's OpenTelemetry context, as the program has them.
type threadAttributes struct {
	named uint64 // when it had named them last, by its own clock
	data  []byte
}

// context takes the attributes of a thread's OpenTelemetry context.
func (d *decoder) context(record []byte) error {
	h, rest, err := head[bpf.Attributes](record, bpf.AttributesBytes)
	if err != nil {
		return err
	}
	if len(rest) < int(h.Bytes) {
		return malformed{"length of attributes", len(rest), int(h.Bytes)}
	}
	d.attributes[h.Cpu] = coming[threadAttributes]{h.TimeNs, threadAttributes{h.Named, bytes.Clone(rest[:h.Bytes])}}
	return nil
}
