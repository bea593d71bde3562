// SPDX-License-Identifier: Apache-2.0

// Package exemplars reads documents of exemplars, sample.Exemplars in gzip-compressed
// JSON, as agents send them and the store keeps them. The bytes are foreign: what
// Decode accepts is within the bounds below.
package exemplars

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"

	"github.com/fleetprof/fleetprof/sample"
)

const (
	// MaxCompressed bounds a document as it is sent, in bytes.
	MaxCompressed = 1 << 20
	// maxBytes bounds it unpacked: sample.MaxExemplars with labels of 1.5 KiB each.
	maxBytes = 2 << 20
	// maxBraces bounds the values that JSON can make of these bytes. Of real ones,
	// each exemplar has two and its handler up to nine.
	maxBraces = 20 * sample.MaxExemplars
	maxLabels = 32
)

// Decode reads and checks a document. Errors say what is wrong, for whoever made it.
func Decode(gz []byte) (d sample.Exemplars, err error) {
	r, err := gzip.NewReader(bytes.NewReader(gz))
	if err != nil {
		return d, fmt.Errorf("unpack gzip: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return d, fmt.Errorf("unpack gzip: %w", err)
	}
	if len(raw) > maxBytes || bytes.Count(raw, []byte("{")) > maxBraces {
		return d, fmt.Errorf("decode exemplars: more than %d bytes or %d values", maxBytes, maxBraces)
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, fmt.Errorf("decode exemplars: %w", err)
	}
	if len(d.Exemplars) > sample.MaxExemplars {
		return d, fmt.Errorf("decode exemplars: %d of them, want at most %d", len(d.Exemplars), sample.MaxExemplars)
	}
	if d.Duration <= 0 {
		return d, errors.New("decode exemplars: the window has no duration")
	}
	for i := range d.Exemplars {
		if err := check(&d.Exemplars[i]); err != nil {
			return d, fmt.Errorf("decode exemplar %d: %w", i, err)
		}
	}
	return d, nil
}

func check(e *sample.Exemplar) error {
	switch {
	case e.TraceID == sample.TraceID{}, e.SpanID == sample.SpanID{}:
		return errors.New("it has no trace or span id")
	case e.Duration < 0, e.CPU != nil && *e.CPU < 0:
		return errors.New("a time is negative")
	case len(e.Labels) > maxLabels:
		return fmt.Errorf("it has %d labels, want at most %d", len(e.Labels), maxLabels)
	}
	return nil
}
