// SPDX-License-Identifier: Apache-2.0

package uploader

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/fleetprof/fleetprof/uploader/spool"
)

// maxNameBytes bounds the readable part of a spool's name; file systems take 255.
const maxNameBytes = 200

// spoolName is the directory of a destination below SpoolDir, see spool/FORMAT.md.
func spoolName(d Destination) string {
	name := url.PathEscape(d.String())
	if len(name) > maxNameBytes {
		name = fmt.Sprintf("%s~%x", name[:maxNameBytes], sha256.Sum256([]byte(d.String())))[:maxNameBytes+17]
	}
	return name
}

// leftInterval is how often it is looked whether a spool has become too old.
const leftInterval = time.Hour

// leftSpools are the spools of destinations that are not given any more. They are kept until the age that
// bounds all spools, in case the destination is given again, and then removed.
type leftSpools struct {
	dir     string
	age     time.Duration
	inUse   map[string]bool
	log     *slog.Logger
	metrics *metrics
}

func newLeftSpools(o Options, m *metrics) *leftSpools {
	l := &leftSpools{dir: o.SpoolDir, age: o.SpoolAge, inUse: make(map[string]bool), log: o.Logger, metrics: m}
	for _, d := range o.Destinations {
		l.inUse[spoolName(d)] = true
	}
	return l
}

// run tells of them, and removes those that are too old until ctx ends.
func (l *leftSpools) run(ctx context.Context) {
	if l.dir == "" {
		return
	}
	tick := time.NewTicker(leftInterval)
	defer tick.Stop()
	for tell := true; ; tell = false {
		l.look(tell)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *leftSpools) look(tell bool) {
	all, err := os.ReadDir(l.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.log.Error("spools of earlier destinations cannot be looked for", "error", err)
	}
	for _, f := range all {
		if f.IsDir() && !l.inUse[f.Name()] {
			l.judge(f.Name(), tell)
		}
	}
}

// judge removes a spool if its last record is too old, and counts what was in it.
func (l *leftSpools) judge(name string, tell bool) {
	path := filepath.Join(l.dir, name)
	log := l.log.With("directory", path)
	_, records, err := spool.Open(path)
	if err != nil {
		log.Error("spool of an earlier destination cannot be read", "error", err)
		return
	}
	var bytes, samples int64
	var last time.Time
	for _, r := range records {
		bytes, samples, last = bytes+r.Bytes, samples+r.Samples, r.Written
	}
	if time.Since(last) <= l.age {
		if tell {
			log.Warn("profiles wait for a destination that is not given any more; they are removed when they are too old",
				"profiles", len(records), "samples", samples, "bytes", bytes)
		}
		return
	}
	if err := os.RemoveAll(path); err != nil {
		log.Error("spool of an earlier destination cannot be removed", "error", err)
		return
	}
	m := l.metrics.of(destinationOf(name))
	for _, r := range records {
		m.recovered.add(r.Samples)
		m.dropped(reasonTooOld).add(r.Samples)
	}
	log.Warn("spool of an earlier destination is removed: it is too old", "profiles", len(records), "samples", samples, "bytes", bytes)
}

// destinationOf is the inverse of spoolName, as far as there is one.
func destinationOf(name string) string {
	if d, err := url.PathUnescape(name); err == nil {
		return d
	}
	return name
}
