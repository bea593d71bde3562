// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
)

// doctorCommand is `fleetprof doctor`.
type doctorCommand struct {
	JSON bool `help:"Print JSON." name:"json"`
}

func (c *doctorCommand) Run(ctx context.Context, con *console) error { return nil }
