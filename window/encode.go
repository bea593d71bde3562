// SPDX-License-Identifier: Apache-2.0

package window

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/fleetprof/fleetprof/sample"
)

// Symbolizer names locations, or says where they are if others name them. It is
// safe for concurrent use: a call that is too slow may outlast Encode.
type Symbolizer interface {
	Symbolize(sample.Location) sample.Symbolized
}

// Encoding is what a profile says beside its samples.
type Encoding struct {
	Symbolizer Symbolizer
	// Host is the label host_name of every sample.
	Host string
}

// gzipLevel costs half the CPU time of level 6 for 3 % more bytes.
const gzipLevel = 5

// Encode makes the pprof profile of a window, gzip-compressed: sample types
// samples/count and cpu/nanoseconds, as runtime/pprof makes them.
//
// It is never in vain: once ctx has ended, the locations not yet named get a
// name without the Symbolizer, and a call to it that is under way is not waited
// for.
func (e Encoding) Encode(ctx context.Context, w *Window) (sample.Profile, error) {
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzipLevel)
	if err != nil {
		return sample.Profile{}, fmt.Errorf("compress profile: %w", err)
	}
	duration := w.end.Sub(w.start)
	p := newEncoder(zip)
	p.header(w.start.UnixNano(), duration.Nanoseconds(), w.period())
	ids := p.names(ctx, e.Symbolizer, w.locations.values())
	var stack []uint64
	w.each(func(locations []uint32, labels sample.Labels, v values) {
		stack = stack[:0]
		for _, l := range locations {
			stack = append(stack, ids[l])
		}
		p.sample(stack, labels, e.Host, uint64(v.ticks), uint64(v.nanoseconds))
	})
	p.finish()
	if err := zip.Close(); err != nil {
		return sample.Profile{}, fmt.Errorf("compress profile: %w", err)
	}
	return sample.Profile{Start: w.start, Duration: duration, Samples: w.total, PProf: out.Bytes()}, nil
}

// ahead is how many locations may be named before they are encoded.
const ahead = 256

// symbolize names locations in their order, in a goroutine of its own, which
// ends with ctx or after the call under way then.
func symbolize(ctx context.Context, s Symbolizer, locations []sample.Location) <-chan sample.Symbolized {
	results := make(chan sample.Symbolized, ahead)
	go func() {
		defer close(results)
		for _, loc := range locations {
			if ctx.Err() != nil {
				return
			}
			select {
			case results <- s.Symbolize(loc):
			case <-ctx.Done():
				return
			}
		}
	}()
	return results
}

// names adds locations to the profile and returns their IDs there.
func (p *encoder) names(ctx context.Context, s Symbolizer, locations []sample.Location) []uint64 {
	results := symbolize(ctx, s, locations)
	ids := make([]uint64, len(locations))
	for i, loc := range locations {
		var result sample.Symbolized
		ok := false
		select {
		case result, ok = <-results:
		case <-ctx.Done():
			results = nil // a later result would go to the wrong location
		}
		if !ok {
			result = atHand(loc)
		}
		ids[i] = p.location(result)
	}
	return ids
}

// pageSize is what pprof expects mappings to be aligned to, in bytes.
const pageSize = 4096

// atHand names a location without looking at its object. Code of files is
// placed as if the file's headers were unknown: addresses are file offsets, in
// a segment that is the whole file. Its limit is not the end of all addresses
// because pprof takes that for "already linked".
func atHand(loc sample.Location) sample.Symbolized {
	o := loc.Object
	switch o.Kind {
	case sample.File:
		base := path.Base(strings.TrimSuffix(o.Path, " (deleted)"))
		return sample.Symbolized{
			Frames:  []sample.Frame{{Function: fmt.Sprintf("%s+0x%x", base, loc.Offset)}},
			Address: loc.Offset,
			Segment: sample.Segment{Limit: math.MaxInt64 &^ (pageSize - 1), File: o.Path, BuildID: o.BuildID},
		}
	case sample.Marker:
		return sample.Symbolized{Frames: []sample.Frame{{Function: o.Path}}}
	}
	name := "[unknown]"
	switch o.Kind {
	case sample.Kernel:
		name = "[kernel]"
	case sample.VDSO:
		name = "[vdso]"
	case sample.Anonymous:
		name = "[anon]"
	}
	return sample.Symbolized{Frames: []sample.Frame{{Function: name}}, Segment: sample.Segment{File: name}}
}
