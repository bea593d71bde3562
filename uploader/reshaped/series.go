// SPDX-License-Identifier: Apache-2.0

package reshaped

import (
	"github.com/fleetprof/fleetprof/reshape"
	"github.com/fleetprof/fleetprof/server/columns"
)

// SeriesPieces makes a piece of each series of a window. bytes is what one counts for.
func SeriesPieces(window *columns.Profile, l reshape.Limits, bytes func(*reshape.Series) int) ([]Piece[*reshape.Series], reshape.Cuts, error) {
	all, cuts, err := reshape.Split(window, l)
	pieces := make([]Piece[*reshape.Series], len(all))
	for i := range all {
		s := &all[i]
		pieces[i] = Piece[*reshape.Series]{s, s.Samples, bytes(s)}
	}
	return pieces, cuts, err
}
