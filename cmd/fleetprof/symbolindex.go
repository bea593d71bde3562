// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/debuginfod"
	"github.com/fleetprof/fleetprof/symbolize/index"
)

// indexing is the flags of what is kept of names.
type indexing struct {
	Bytes units.Base2Bytes `help:"Disk space in --state-dir for indexes of what debug information tells of programs, so that it is read once; those that were not used for the longest time are removed beyond it. One may have a quarter of it. 0 is none." name:"symbol-index-bytes" default:"256MiB" placeholder:"SIZE"`
}

// leastIndexes is room for the indexes of some programs.
const leastIndexes = 8 << 20

func (i *indexing) validate() error {
	if i.Bytes != 0 && i.Bytes < leastIndexes {
		return badFlag("symbol-index-bytes", "must be 0 or at least 8MiB")
	}
	return nil
}

// open takes the directory of indexes within the state directory; nil if there are to be none, or they cannot be kept, which is
// told once.
func (i *indexing) open(stateDir string, log *slog.Logger) *index.Dir {
	if i.Bytes == 0 {
		return nil
	}
	d, err := index.OpenDir(filepath.Join(stateDir, "symbols"), int64(i.Bytes))
	if err != nil {
		log.Warn("indexes of names are not kept; give another directory with --state-dir, or --symbol-index-bytes=0", "error", err)
		return nil
	}
	return d
}

// nameFiles are files in the state directory that help to name code; nil is none.
type nameFiles struct {
	fetch   *debuginfod.Client
	indexes *index.Dir
}

// openNameFiles opens them in a directory that belongs to this agent.
func (c *agentCommand) openNameFiles(reg prometheus.Registerer, log *slog.Logger) (n nameFiles, err error) {
	if n.fetch, err = c.fetching.client(c.StateDir, reg, log); err == nil {
		n.indexes = c.indexing.open(c.StateDir, log)
	}
	return n, err
}

// Close closes what there is.
func (n nameFiles) Close() (err error) {
	if n.fetch != nil {
		err = n.fetch.Close()
	}
	if n.indexes != nil {
		err = errors.Join(err, n.indexes.Close())
	}
	return err
}
