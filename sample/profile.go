// SPDX-License-Identifier: Apache-2.0

package sample

import "time"

// Profile is one window encoded: the last form a sample takes on its host.
type Profile struct {
	// Start is wall-clock time; the window covers [Start, Start+Duration).
	Start    time.Time
	Duration time.Duration
	// Samples is the sum of the samples/count values, lost ones included.
	Samples int64
	// PProf is a gzip-compressed profile.proto message.
	PProf []byte
	// Exemplars are the window's Exemplars in gzip-compressed JSON; nil if there are
	// none.
	Exemplars []byte
}
