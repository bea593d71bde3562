// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"

	"github.com/alecthomas/units"

	"github.com/fleetprof/fleetprof/profiler"
	"github.com/fleetprof/fleetprof/uploader"
)

// sampling is the flags that say how a host is sampled.
type sampling struct {
	Frequency int              `help:"Samples per second and CPU. Odd values do not fall into step with timers." short:"F" default:"${frequency}" placeholder:"HZ"`
	Event     profiler.Event   `help:"What ticks: cpu-clock (a timer, everywhere the same) or cycles (the hardware counter, where there is one)." enum:"cpu-clock,cycles" default:"cpu-clock"`
	Hostname  string           `help:"Value of the label host_name. Default: the kernel's node name." placeholder:"NAME"`
	Ring      units.Base2Bytes `help:"Memory for samples on their way from the kernel; a power of two." default:"1MiB" placeholder:"SIZE"`
}

// continuous is the flags of sampling that goes on.
type continuous struct {
	sampling
	Window time.Duration `help:"Time that one profile covers." default:"10s"`
}

func (c *continuous) Validate() error {
	if c.Window < time.Second || c.Window > 10*time.Minute {
		return errors.New("--window must be between 1s and 10m")
	}
	return c.sampling.Validate()
}

func (s *sampling) Validate() error {
	if ring := int64(s.Ring); ring < 64<<10 || ring > 1<<30 || ring&(ring-1) != 0 {
		return errors.New("--ring must be a power of two between 64KiB and 1GiB")
	}
	_, err := profiler.Period(profiler.CPUClock, s.Frequency)
	return err
}

// agentCommand is `fleetprof agent`.
type agentCommand struct {
	continuous
	Store  []string         `help:"Where profiles go: http(s)://HOST:7171 (a fleetprof server) or dir:PATH. Repeatable." required:"" placeholder:"URL"`
	Queue  units.Base2Bytes `help:"Memory for profiles a store has not taken yet, per store." default:"16MiB" placeholder:"SIZE"`
	Listen string           `help:"Address for /metrics, /healthz and /readyz; empty for none." default:"127.0.0.1:7172" placeholder:"ADDRESS"`
}

// Run samples until ctx ends.
func (c *agentCommand) Run(ctx context.Context, con *console) error {
	var destinations []uploader.Destination
	for _, url := range c.Store {
		d, err := destination(url)
		if err != nil {
			return err
		}
		destinations = append(destinations, d)
	}
	return errors.New("x")
}
