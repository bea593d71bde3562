// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/strip"
	"github.com/fleetprof/fleetprof/uploader/debuginfo"
)

// offering is the flags of debug information that is sent to stores.
type offering struct {
	Rate units.Base2Bytes `help:"With --symbolize=store, bytes of debug information sent in a second, to all stores together. 0 is none: the stores have it from elsewhere." name:"debuginfo-upload-rate" default:"1MiB" placeholder:"SIZE"`
}

const (
	// leastOffered is the least rate but 0: with less a large program takes hours.
	leastOffered = 64 << 10
	// mostOffered bounds what is sent of one file, in bytes.
	mostOffered = 1 << 30
)

// validate checks the flags, given --symbolize and --store.
func (o *offering) validate(symbolize string, stores []string) error {
	if o.Rate != 0 && o.Rate < leastOffered {
		return badFlag("debuginfo-upload-rate", "must be 0 or at least 64KiB")
	}
	if symbolize != symbolizeStore || o.Rate == 0 {
		return nil
	}
	if !slices.ContainsFunc(stores, namesCode) {
		return badFlag("symbolize", "store needs a --store that names code: http(s)://HOST:7171 or parca(s)://HOST:7070; or --debuginfo-upload-rate=0 if who reads the profiles has debug information from elsewhere")
	}
	return nil
}

// namesCode tells stores that take debug information, and name code by it.
func namesCode(store string) bool {
	switch schemeOf(store) {
	case "http", "https", "parca", "parcas":
		return true
	}
	return false
}

func schemeOf(store string) string {
	scheme, _, _ := strings.Cut(store, ":")
	return scheme
}

// debuginfoStore is a store that names code, as one that takes debug information.
func debuginfoStore(store string) (debuginfo.Destination, error) {
	if strings.HasPrefix(store, "parca") {
		return debuginfo.NewParca(store)
	}
	return debuginfo.NewServer(store)
}

// offer has what is sampled be offered to the stores that name it.
func (o *offering) offer(p *pipeline, stores []string, reg prometheus.Registerer, log *slog.Logger) error {
	if p.offered == nil || o.Rate == 0 {
		return nil
	}
	var to []debuginfo.Destination
	for _, store := range stores {
		if !namesCode(store) {
			log.Warn("profiles have no names at a store that does not name code itself", "kind", schemeOf(store))
			continue
		}
		d, err := debuginfoStore(store)
		if err != nil {
			return err
		}
		to = append(to, d)
	}
	u, err := debuginfo.New(debuginfo.Options{
		Destinations: to, Source: stripper{p.profiler.Files()}, Rate: int64(o.Rate), Logger: log, Registerer: reg,
	})
	p.offered.to = u
	return err
}

// offered is what stores are offered of, if they name code. It is set up before anything is sampled.
type offered struct {
	to *debuginfo.Uploader // nil if nothing is sent
}

// meet is told of objects that are left to the store.
func (o *offered) meet(object *sample.Object, buildID string) {
	if o.to != nil {
		o.to.Meet(object, buildID)
	}
}

// stripper has files stripped to what names need.
type stripper struct{ files strip.Files }

// Hold is that of debuginfo.Source.
func (s stripper) Hold(o *sample.Object, buildID string) (debuginfo.Held, error) {
	held, err := strip.Hold(s.files, o, buildID)
	if err != nil {
		return nil, err
	}
	return stripped{held}, nil
}

type stripped struct{ *strip.Held }

// Names is that of debuginfo.Held.
func (s stripped) Names() (io.ReaderAt, int64, error) {
	f, err := s.Held.Names(mostOffered)
	switch {
	case errors.Is(err, strip.ErrNothing):
		return nil, 0, fmt.Errorf("%w: %w", debuginfo.ErrNothing, err)
	case errors.Is(err, strip.ErrTooLarge):
		return nil, 0, fmt.Errorf("%w: %w", debuginfo.ErrTooLarge, err)
	case err != nil:
		return nil, 0, err
	}
	return f, f.Size(), nil
}
