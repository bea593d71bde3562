// SPDX-License-Identifier: Apache-2.0

package block

import (
	"strconv"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/dictionary"
)

// ProcessLabel names the process of a sample. In blocks it is a column of rows: short programs would have a label
// set each otherwise, hundreds of thousands an hour, which differ in nothing else.
const ProcessLabel = sample.LabelPID

// version3 is that of blocks whose label sets say the process of each, as those of the head do. They are read, and
// no longer written.
const version3 = 3

// ProcessText is what the label of a process says, empty for none.
func ProcessText(process uint32) string {
	if process == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(process), 10)
}

// processOf is the number of a process, or 0 if ProcessText does not give the same text for any.
func processOf(text string) uint32 {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || ProcessText(uint32(n)) != text {
		return 0
	}
	return uint32(n)
}

// withoutProcesses gives label sets without their process, and that of each. A set keeps a process that is no such
// number, or is one of several.
func withoutProcesses(d *dictionary.Dictionary) (*dictionary.Dictionary, []uint32) {
	labels := d.LabelSets.Labels()
	numbers, isProcess := make([]uint32, len(labels)), make([]bool, len(labels))
	without := &dictionary.Dictionary{Strings: d.Strings}
	for i, l := range labels {
		if isProcess[i] = d.Strings[l.Key] == ProcessLabel; isProcess[i] && l.Text != 0 {
			numbers[i] = processOf(d.Strings[l.Text])
		}
		without.LabelSets.Label(l)
	}
	processes := make([]uint32, d.LabelSets.Len())
	var rest []uint32
	for set := range processes {
		all := d.LabelSets.Numbers(uint32(set))
		rest = rest[:0]
		for _, n := range all {
			if isProcess[n] {
				processes[set] = numbers[n]
			} else {
				rest = append(rest, n)
			}
		}
		if processes[set] == 0 || len(rest) != len(all)-1 {
			processes[set], rest = 0, append(rest[:0], all...)
		}
		without.LabelSets.AddNumbered(rest...)
	}
	return without, processes
}
