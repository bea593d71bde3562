// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/pprof/profile"
	googlev1 "github.com/grafana/pyroscope/api/gen/proto/go/google/v1"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"google.golang.org/protobuf/proto"
)

// Pyroscope takes pushes as Pyroscope 2 does, with the limits it has by default. It judges each
// profile for itself and stores those it takes, also where its answer is an error. Where its own
// words matter, they are from
// https://github.com/grafana/pyroscope/blob/v1.15.0/pkg/distributor/distributor.go
type Pyroscope struct {
	Server
	// Now is the clock of its limits.
	Now func() time.Time
	// Refuse makes it refuse a series for a reason of its own.
	Refuse func(labels map[string]string) bool

	bucket float64 // bytes that may come at once
	filled time.Time
	series map[string]bool
}

// The limits of a tenant, and of a profile.
const (
	pyroscopeRate    = 4e6 // bytes a second, before compression
	pyroscopeBurst   = 2e6
	pyroscopeBytes   = 4 << 20
	pyroscopeSamples = 16_000
	pyroscopeLabels  = 30
	pyroscopeName    = 1024
	pyroscopeValue   = 2048
	pyroscopeSeries  = 5000
	pyroscopeAge     = time.Hour
)

// Serve serves until the test ends, and gives the address.
func (p *Pyroscope) Serve(t testing.TB) (address string) {
	mux := http.NewServeMux()
	mux.Handle(pushv1connect.NewPusherServiceHandler(p)) // it answers zstd with 501
	host, _ := p.serve(t, mux, false)
	return "pyroscope+http://" + host
}

// Push stores what it takes.
func (p *Pyroscope) Push(_ context.Context, r *connect.Request[pushv1.PushRequest]) (*connect.Response[pushv1.PushResponse], error) {
	var failures []string
	code := connect.Code(0)
	i := 0
	for _, series := range r.Msg.Series {
		for _, sample := range series.Samples {
			if failed, err := p.pushSeries(series.Labels, sample.RawProfile); err != nil {
				failures = append(failures, fmt.Sprintf("push series with index %d and id %s failed: %v", i, sample.ID, err))
				if code == 0 {
					code = failed
				}
			}
			i++
		}
	}
	if len(failures) > 0 {
		return nil, connect.NewError(code, errors.New(strings.Join(failures, "; ")))
	}
	return connect.NewResponse(&pushv1.PushResponse{}), nil
}

func (p *Pyroscope) pushSeries(pairs []*typesv1.LabelPair, b []byte) (connect.Code, error) {
	raw, err := unpack(b)
	if err != nil {
		return connect.CodeInvalidArgument, err
	}
	if !p.allow(len(raw)) {
		return connect.CodeResourceExhausted, errors.New("request exceeds the rate limit of 4MB/s with a burst of 2MB")
	}
	labels := map[string]string{}
	for _, l := range pairs {
		labels[l.Name] = l.Value
	}
	parsed, err := p.validate(pairs, labels, raw)
	if err != nil {
		return connect.CodeInvalidArgument, err
	}
	if !p.room(spelled(pairs)) {
		return connect.CodeResourceExhausted, errors.New("maximum active series limit exceeded (5000/5000)")
	}
	p.record(func(t Totals) { t.addProfile(labels, parsed) })
	return 0, nil
}

// unpack takes a profile with or without gzip.
func unpack(b []byte) ([]byte, error) {
	if !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		return b, nil
	}
	zip, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zip)
}

// allow takes bytes out of the bucket.
func (p *Pyroscope) allow(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.filled.IsZero() {
		p.bucket = pyroscopeBurst
	} else {
		p.bucket = min(pyroscopeBurst, p.bucket+pyroscopeRate*now.Sub(p.filled).Seconds())
	}
	p.filled = now
	if float64(n) > p.bucket {
		return false
	}
	p.bucket -= float64(n)
	return true
}

func (p *Pyroscope) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}

// room reports whether a series is known or may become so.
func (p *Pyroscope) room(series string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.series == nil {
		p.series = map[string]bool{}
	}
	if !p.series[series] && len(p.series) >= pyroscopeSeries {
		return false
	}
	p.series[series] = true
	return true
}

func (p *Pyroscope) validate(pairs []*typesv1.LabelPair, labels map[string]string, raw []byte) (*profile.Profile, error) {
	switch {
	case len(pairs) == 0 || labels["service_name"] == "" || labels["__name__"] == "":
		return nil, errors.New("error at least one label pair is required per profile, with service_name and __name__")
	case len(pairs) > pyroscopeLabels:
		return nil, fmt.Errorf("profile series has %d label names; limit %d", len(pairs), pyroscopeLabels)
	case len(pairs) != len(labels):
		return nil, errors.New("profile has duplicate label name")
	case p.Refuse != nil && p.Refuse(labels):
		return nil, errors.New("this series is refused")
	case len(raw) > pyroscopeBytes:
		return nil, fmt.Errorf("the profile exceeds the size limit (max_profile_size_byte, actual: %d, limit: %d)", len(raw), pyroscopeBytes)
	}
	for _, l := range pairs {
		if !identifier.MatchString(l.Name) || l.Value == "" || len(l.Name) > pyroscopeName || len(l.Value) > pyroscopeValue {
			return nil, fmt.Errorf("profile has invalid label %.99s", l.Name)
		}
	}
	// Its own message does not take invalid UTF-8 anywhere.
	if err := proto.Unmarshal(raw, new(googlev1.Profile)); err != nil {
		return nil, fmt.Errorf("profile is malformed: %w", err)
	}
	parsed, err := profile.ParseUncompressed(raw)
	if err != nil {
		return nil, fmt.Errorf("profile is malformed: %w", err)
	}
	return parsed, p.check(spelled(pairs), parsed)
}

// spelled is how labels are written in errors.
func spelled(pairs []*typesv1.LabelPair) string {
	var all []string
	for _, l := range pairs {
		all = append(all, fmt.Sprintf("%s=%q", l.Name, l.Value))
	}
	return "{" + strings.Join(slices.Sorted(slices.Values(all)), ", ") + "}"
}

func (p *Pyroscope) check(labels string, parsed *profile.Profile) error {
	if n := len(parsed.Sample); n > pyroscopeSamples {
		return fmt.Errorf("the profile exceeds the samples count limit (max_profile_stacktrace_samples, actual: %d, limit: %d)", n, pyroscopeSamples)
	}
	if age := p.now().Sub(time.Unix(0, parsed.TimeNanos)); age > pyroscopeAge {
		return fmt.Errorf("profile with labels '%s' is outside of ingestion window (profile timestamp: %v, the ingestion window starts at %v)",
			labels, time.Unix(0, parsed.TimeNanos).UTC(), p.now().Add(-pyroscopeAge).UTC())
	}
	for _, t := range parsed.SampleType {
		if strings.Contains(t.Type, "-") {
			return fmt.Errorf("sample type contains -: %s", t.Type)
		}
	}
	for _, s := range parsed.Sample {
		if len(s.Label) > 0 {
			return errors.New("labels of samples would become series, which nobody bounds")
		}
	}
	return nil
}
