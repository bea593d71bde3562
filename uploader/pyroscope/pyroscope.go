// SPDX-License-Identifier: Apache-2.0

// Package pyroscope sends profiles to Pyroscope, by Push of its push.v1.PusherService, a plain POST
// in the Connect protocol, tested against the messages of api/v1.6.0:
// https://github.com/grafana/pyroscope/blob/api/v1.6.0/api/push/v1/push.proto
//
// Labels of samples would become series there, so the series are made here, within the limits that
// Pyroscope has by default.
package pyroscope

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	"google.golang.org/protobuf/proto"

	"github.com/fleetprof/fleetprof/internal/endpoint"
	"github.com/fleetprof/fleetprof/reshape"
	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/uploader"
	"github.com/fleetprof/fleetprof/uploader/reshaped"
)

const procedure = "push.v1.PusherService/Push"

const (
	// requestBytes bounds the profiles of a request before compression. Pyroscope takes 4 MB a second and
	// 2 MB at once of a tenant, and never what is larger than that.
	requestBytes = 1 << 20
	// concurrency is how many windows are sent at a time: a request takes half a second, and two of them
	// are what the rate allows.
	concurrency = 2
)

// limits are the defaults of
// https://grafana.com/docs/pyroscope/latest/configure-server/reference-configuration-parameters/#limits
func limits() reshape.Limits {
	return reshape.Limits{Omit: reshape.OfThread, Service: true, Names: 30, Name: 1024, Value: 2048, Bytes: requestBytes, Samples: 16_000}
}

// Destination is one Pyroscope, or one tenant of it. It is safe for concurrent use.
type Destination struct {
	*reshaped.Sender[*reshape.Series]
	to     *endpoint.Endpoint
	client *http.Client
}

// New takes the address of a Pyroscope, see endpoint.Parse. It connects only when something is
// sent.
func New(address string) (*Destination, error) {
	to, err := endpoint.Parse(address, "store", endpoint.Pyroscope)
	if err != nil {
		return nil, err
	}
	d := &Destination{to: to}
	client, transport := to.Client()
	client.Timeout, transport.MaxConnsPerHost = reshaped.Timeout, concurrency
	d.client = client
	d.Sender = reshaped.NewSender(reshaped.Form[*reshape.Series]{Pieces: pieces, Post: d.post, Bytes: requestBytes})
	return d, nil
}

// String gives the address with the tenant, and without what is secret.
func (d *Destination) String() string { return d.to.String() }

// Concurrency is how many windows are sent at a time.
func (d *Destination) Concurrency() int { return concurrency }

func pieces(window *columns.Profile) ([]reshaped.Piece[*reshape.Series], reshape.Cuts, error) {
	return reshaped.SeriesPieces(window, limits(), func(s *reshape.Series) int { return s.RawBytes })
}

// post pushes some series, each with one profile.
func (d *Destination) post(ctx context.Context, all []*reshape.Series) error {
	message := &pushv1.PushRequest{}
	for _, s := range all {
		series := &pushv1.RawProfileSeries{Samples: []*pushv1.RawSample{{RawProfile: s.PProf}}}
		for _, l := range s.Labels {
			series.Labels = append(series.Labels, &typesv1.LabelPair{Name: l.Name, Value: l.Value})
		}
		message.Series = append(message.Series, series)
	}
	if err := d.push(ctx, message); err != nil {
		return fmt.Errorf("send profile to %v: %w", d, err)
	}
	return nil
}

func (d *Destination) push(ctx context.Context, message *pushv1.PushRequest) error {
	body, err := proto.Marshal(message) // its profiles are compressed
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.to.URL().JoinPath(procedure).String(), bytes.NewReader(body))
	if err != nil {
		return endpoint.Redacted(err)
	}
	req.Header.Set("Content-Type", "application/proto")
	req.Header.Set("Connect-Protocol-Version", "1")
	req.Header.Set("User-Agent", "fleetprof")
	resp, err := d.client.Do(req)
	if err != nil {
		return endpoint.Redacted(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, reshaped.MaxAnswer))
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return err
	}
	// Of an error, what is there will do.
	refusal := uploader.Refusal(resp.StatusCode, resp.Header, text)
	if failed, alike := failedSeries(text, len(message.Series)); len(failed) > 0 {
		return reshaped.Some{Err: refusal, Failed: failed, Alike: alike}
	}
	return refusal
}
