// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"

	"github.com/fleetprof/fleetprof/internal/statedir"
)

// openState opens the directory of what outlives a restart. Without one, which is told
// once, an agent works all the same: nil.
func openState(path string, log *slog.Logger) (d *statedir.Dir, end func() error) {
	if path != "" {
		d, err := statedir.Open(path)
		if err == nil {
			return d, d.Close
		}
		log.Warn("nothing is kept for a restart; give another directory with --state-dir, or none", "error", err)
	}
	return nil, func() error { return nil }
}
