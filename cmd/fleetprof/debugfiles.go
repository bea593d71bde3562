// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"path/filepath"

	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/debuginfod"
)

// fetching is the flags of debug files that are not on the host.
type fetching struct {
	Servers []string         `help:"Ask this server for the debug files of stripped programs, by build ID: http(s)://HOST. Nobody is asked unless named here. Needs --state-dir. Repeatable." name:"debuginfod" placeholder:"URL"`
	Bytes   units.Base2Bytes `help:"Disk space for debug files that were fetched; those that were not used for the longest time are removed beyond it. One may have a quarter of it." name:"debuginfod-bytes" default:"2GiB" placeholder:"SIZE"`
}

// validate checks the flags, given --state-dir.
func (f *fetching) validate(stateDir string) error {
	for _, url := range f.Servers {
		if _, err := debuginfod.NewServer(url); err != nil {
			return badFlag("debuginfod", "is wrong: %w", err)
		}
	}
	if len(f.Servers) > 0 && stateDir == "" {
		return badFlag("debuginfod", "needs --state-dir: files are kept there")
	}
	if f.Bytes < debuginfod.LeastBytes {
		return badFlag("debuginfod-bytes", "must be at least 64MiB")
	}
	return nil
}

// client makes what fetches debug files into the state directory; nil if no server is named or
// files cannot be kept, which is told once.
func (f *fetching) client(stateDir string, reg prometheus.Registerer, log *slog.Logger) (*debuginfod.Client, error) {
	if len(f.Servers) == 0 {
		return nil, nil
	}
	o := debuginfod.Options{Dir: filepath.Join(stateDir, "debuginfod"), Bytes: int64(f.Bytes), Logger: log, Registerer: reg}
	for _, url := range f.Servers {
		s, err := debuginfod.NewServer(url)
		if err != nil {
			return nil, err
		}
		o.Servers = append(o.Servers, s)
	}
	c, err := debuginfod.New(o)
	if err != nil {
		log.Warn("debug files are not fetched", "error", err)
		return nil, nil
	}
	return c, nil
}
