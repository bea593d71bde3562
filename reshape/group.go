// SPDX-License-Identifier: Apache-2.0

package reshape

import (
	"encoding/binary"
	"strings"

	"github.com/fleetprof/fleetprof/server/columns"
)

// grouped is the samples that have the same labels.
type grouped struct {
	labels  []Label
	sets    int   // label sets of the window that became these labels
	samples []int // their indexes
}

// group puts the samples of a window together by what is left of their labels.
func group(p *columns.Profile, l Limits, cuts *Cuts) []*grouped {
	bySet := make([]*grouped, p.LabelSets())
	known := map[string]*grouped{}
	for set := range bySet {
		labels := l.labelsOf(p, set, cuts)
		var key strings.Builder
		for _, label := range labels {
			key.WriteString(label.Name + "\x00" + label.Value + "\x00")
		}
		if known[key.String()] == nil {
			known[key.String()] = &grouped{labels: labels}
		}
		bySet[set] = known[key.String()]
		bySet[set].sets++
	}
	var all []*grouped
	for i, set := range p.LabelSet {
		g := bySet[set]
		if g.samples == nil {
			all = append(all, g)
		}
		g.samples = append(g.samples, i)
	}
	return all
}

// row is one sample to be encoded.
type row struct {
	stack  []uint32 // locations, innermost first
	values []int64
}

// merged gives the samples of a group, those with the same stack added up.
func (g *grouped) merged(p *columns.Profile) []row {
	rows := make([]row, 0, len(g.samples))
	known := map[string]int{}
	var key []byte
	for _, i := range g.samples {
		r := row{p.Stack(i), make([]int64, len(p.Values))}
		for t, column := range p.Values {
			r.values[t] = column[i]
		}
		if g.sets > 1 { // else the window has added up what is the same
			key = key[:0]
			for _, l := range r.stack {
				key = binary.LittleEndian.AppendUint32(key, l)
			}
			if at, ok := known[string(key)]; ok {
				for t, v := range r.values {
					rows[at].values[t] += v
				}
				continue
			}
			known[string(key)] = len(rows)
		}
		rows = append(rows, r)
	}
	return rows
}
