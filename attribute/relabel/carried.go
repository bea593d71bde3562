// SPDX-License-Identifier: Apache-2.0

package relabel

import (
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/fleetprof/fleetprof/sample"
)

// The bounds of what rules may add to the samples of one process. A store takes a
// profile only as a whole, and refuses one with 256 labels at a sample.
const (
	maxLabels = 64
	// maxValueBytes bounds each value. One that is longer is left out, not cut: half
	// a name is another name.
	maxValueBytes = 1024
	// maxBytes bounds all names and values together.
	maxBytes = 4096
)

// carried makes of what the rules left what samples carry.
func (r *Relabeler) carried(all labels.Labels) (l sample.Labels) {
	more := make(map[string]string)
	l.NoHost = all.Get(sample.LabelHost) == ""
	bytes := 0
	all.Range(func(label labels.Label) {
		name, value := label.Name, label.Value
		switch {
		case strings.HasPrefix(name, model.ReservedLabelPrefix), name == sample.LabelHost && value == r.host:
			return
		case sample.OfSample(name), !model.LegacyValidation.IsValidLabelName(name):
			r.metrics.invalid.Inc()
			return
		case len(value) > maxValueBytes, bytes+len(name)+len(value) > maxBytes, len(more) >= maxLabels:
			r.metrics.tooLong.Inc()
			return
		}
		bytes += len(name) + len(value)
		switch name {
		case sample.LabelExecutable:
			l.Executable = value
		case sample.LabelPID:
			l.PID = value
		case sample.LabelContainer:
			l.Container = value
		case sample.LabelUnit:
			l.Unit = value
		case sample.LabelService:
			l.Service = value
		default:
			more[name] = value
		}
	})
	l.More = sample.NewLabelSet(more)
	return l
}
