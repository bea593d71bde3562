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
	"regexp"
	"testing"

	"github.com/google/pprof/profile"
	profilestorepb "github.com/parca-dev/parca/gen/proto/go/parca/profilestore/v1alpha1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Parca takes WriteRaw as Parca v0.28 does. Where its own words matter, they are from
// https://github.com/parca-dev/parca/blob/v0.28.0/pkg/normalizer/normalizer.go
type Parca struct {
	Server
	profilestorepb.UnimplementedProfileStoreServiceServer
	// Refuse makes it refuse a series for a reason of its own.
	Refuse func(labels map[string]string) bool

	dead error
}

// parcaMessage is the largest message.
const parcaMessage = 64 << 20

// Serve serves until the test ends, and gives the address.
func (p *Parca) Serve(t testing.TB) (address string) {
	host, _ := p.serve(t, p.handler(), false)
	return "parca://" + host
}

// ServeTLS does so with TLS.
func (p *Parca) ServeTLS(t testing.TB) (address string, ca []byte) {
	host, ca := p.serve(t, p.handler(), true)
	return "parcas://" + host, ca
}

func (p *Parca) handler() http.Handler {
	s := grpc.NewServer(grpc.MaxRecvMsgSize(parcaMessage))
	profilestorepb.RegisterProfileStoreServiceServer(s, p)
	return s
}

// Dead is why the process would have ended; nil if it lives.
func (p *Parca) Dead() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// WriteRaw stores all series of a request or none.
func (p *Parca) WriteRaw(_ context.Context, m *profilestorepb.WriteRawRequest) (*profilestorepb.WriteRawResponse, error) {
	if err := p.Dead(); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	add := Totals{}
	for _, series := range m.Series {
		labels, err := parcaLabels(series.Labels)
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		if p.Refuse != nil && p.Refuse(labels) {
			return nil, status.Error(codes.InvalidArgument, "this series is refused")
		}
		for _, sample := range series.Samples {
			profile, err := parcaProfile(sample.RawProfile)
			if err != nil {
				return nil, err
			}
			if profile.PeriodType.Type == "" {
				p.mu.Lock()
				p.dead = errors.New("a profile has no period type")
				p.mu.Unlock()
				return nil, status.Error(codes.Unavailable, "connection reset by peer")
			}
			if err := promQL(labels["__name__"], profile); err != nil {
				return nil, err // without a code
			}
			add.addProfile(labels, profile) // labels of samples are dropped
		}
	}
	p.record(func(t Totals) {
		for key, v := range add {
			t[key] += v
		}
	})
	return &profilestorepb.WriteRawResponse{}, nil
}

var identifier = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

func parcaLabels(set *profilestorepb.LabelSet) (map[string]string, error) {
	labels := map[string]string{}
	for _, l := range set.GetLabels() {
		if !identifier.MatchString(l.Name) {
			return nil, fmt.Errorf("invalid label name: %v", l.Name)
		}
		if _, ok := labels[l.Name]; ok {
			return nil, fmt.Errorf("duplicate label name: %v", l.Name)
		}
		labels[l.Name] = l.Value
	}
	if labels["__name__"] == "" {
		return nil, errors.New("missing __name__ label")
	}
	return labels, nil
}

func parcaProfile(gz []byte) (*profile.Profile, error) {
	zip, err := gzip.NewReader(bytes.NewReader(gz))
	if err != nil {
		return nil, fmt.Errorf("decompressing profile: %w", err)
	}
	raw, err := io.ReadAll(zip)
	if err != nil {
		return nil, fmt.Errorf("decompressing profile: %w", err)
	}
	p, err := profile.ParseUncompressed(raw)
	if err == nil {
		err = p.CheckValid()
	}
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "invalid profile: %v", err)
	}
	return p, nil
}

// promQL refuses what the query language has no word for.
func promQL(name string, p *profile.Profile) error {
	words := []string{name, p.PeriodType.Type, p.PeriodType.Unit}
	for _, t := range p.SampleType {
		words = append(words, t.Type, t.Unit)
	}
	for _, w := range words {
		if !identifier.MatchString(w) {
			return fmt.Errorf("%q is no identifier", w)
		}
	}
	return nil
}
