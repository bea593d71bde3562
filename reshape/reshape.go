// SPDX-License-Identifier: Apache-2.0

// Package reshape makes of one window's pprof what the stores of others want of it: a series for
// each set of labels (Series), or the profiles of OpenTelemetry (OTLP).
//
// It is pure, and gives the same for the same window each time: what was sent in part can be
// gone on with. The values of the parts add up to those of the window, for each label that is
// kept. Whatever has to be left off is counted in Cuts.
package reshape

import (
	"fmt"

	"github.com/fleetprof/fleetprof/server/columns"
)

// Decode reads a window, gzip-compressed pprof. The bytes come from a disk, so they are checked.
func Decode(gz []byte) (*columns.Profile, error) {
	raw, err := columns.Inflate(gz)
	if err != nil {
		return nil, err
	}
	return columns.Decode(raw)
}

// Cuts counts what a store has no room for.
type Cuts struct {
	// Labels were left off label sets: there were too many, or their names are too long or
	// cannot be told apart.
	Labels int
	// Values of labels were shortened.
	Values int
	// Stacks were left off samples: one alone is larger than a profile may be.
	Stacks int
}

// Any reports whether there is something to count.
func (c Cuts) Any() bool { return c != Cuts{} }

// Limits are what a store takes. 0 is no limit.
type Limits struct {
	// Omit says which labels make no series, nil is none; samples that differ in nothing else are
	// added up.
	Omit func(name string) bool
	// Service is whether each series must have a service_name.
	Service bool
	// Names bounds the labels of a series, __name__ among them; Name and Value their lengths
	// in bytes.
	Names, Name, Value int
	// Bytes bounds a profile before compression; Samples how many it has. A series that has
	// more becomes several profiles, each of which begins a millisecond after the one before: a
	// store may take profiles of one series and time for copies of each other.
	Bytes, Samples int
}

// Series is one profile of what has the same labels.
type Series struct {
	// Labels are ordered by name.
	Labels []Label
	// PProf is gzip-compressed, and without labels of its own.
	PProf []byte
	// RawBytes is its size before compression.
	RawBytes int
	// Samples is the sum of samples/count, see columns.Profile.Samples.
	Samples int64
}

// Split makes series of a window, in the order in which their labels first come.
func Split(p *columns.Profile, l Limits) ([]Series, Cuts, error) {
	var cuts Cuts
	e := newEncoder(p, l)
	var all []Series
	for _, g := range group(p, l, &cuts) {
		profiles, err := e.encode(g.merged(p), &cuts)
		if err != nil {
			return nil, cuts, fmt.Errorf("encode series: %w", err)
		}
		for _, s := range profiles {
			s.Labels = g.labels
			all = append(all, s)
		}
	}
	return all, cuts, nil
}
