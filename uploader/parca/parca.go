// SPDX-License-Identifier: Apache-2.0

// Package parca sends profiles to Parca, by WriteRaw of its profile store, tested against v0.28:
// https://github.com/parca-dev/parca/blob/v0.28.0/proto/parca/profilestore/v1alpha1/profilestore.proto
//
// Parca drops the labels of samples without a word, so there is a series for each set of labels.
package parca

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	profilestorepb "github.com/parca-dev/parca/gen/proto/go/parca/profilestore/v1alpha1"

	"github.com/fleetprof/fleetprof/internal/endpoint"
	"github.com/fleetprof/fleetprof/reshape"
	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/uploader/reshaped"
)

const procedure = "/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw"

// requestBytes bounds the compressed profiles of a request, and one profile before compression. Parca
// takes messages of 64 MB, and a fleetprof server, which speaks this too, of 16 MiB.
const requestBytes = 8 << 20

// limits are those of a fleetprof server. Parca has none, but each name of a label becomes a column.
func limits() reshape.Limits {
	return reshape.Limits{Omit: reshape.OfThread, Service: true, Names: 64, Name: 1024, Value: 4096, Bytes: requestBytes}
}

// Destination is one Parca. It is safe for concurrent use.
type Destination struct {
	*reshaped.Sender[*reshape.Series]
	to    *endpoint.Endpoint
	write *connect.Client[profilestorepb.WriteRawRequest, profilestorepb.WriteRawResponse]
}

// New takes the address of a Parca, see endpoint.Parse. It connects only when something is sent.
func New(address string) (*Destination, error) {
	to, err := endpoint.Parse(address, "store", endpoint.Parca)
	if err != nil {
		return nil, err
	}
	d := &Destination{to: to, write: reshaped.GRPC[profilestorepb.WriteRawRequest, profilestorepb.WriteRawResponse](to, procedure)}
	d.Sender = reshaped.NewSender(reshaped.Form[*reshape.Series]{Pieces: pieces, Post: d.post, Bytes: requestBytes})
	return d, nil
}

// String gives the address without what is secret.
func (d *Destination) String() string { return d.to.String() }

func pieces(window *columns.Profile) ([]reshaped.Piece[*reshape.Series], reshape.Cuts, error) {
	return reshaped.SeriesPieces(window, limits(), func(s *reshape.Series) int { return len(s.PProf) })
}

// post writes some series. Parca stores all of them or none.
func (d *Destination) post(ctx context.Context, all []*reshape.Series) error {
	message := &profilestorepb.WriteRawRequest{Normalized: true} // addresses are those of the files
	for _, s := range all {
		set := &profilestorepb.LabelSet{}
		for _, l := range s.Labels {
			set.Labels = append(set.Labels, &profilestorepb.Label{Name: l.Name, Value: l.Value})
		}
		message.Series = append(message.Series, &profilestorepb.RawProfileSeries{
			Labels: set, Samples: []*profilestorepb.RawSample{{RawProfile: s.PProf}},
		})
	}
	_, err := d.write.CallUnary(ctx, connect.NewRequest(message))
	if err == nil {
		return nil
	}
	// Unknown is what it calls most of its reasons to refuse a profile.
	err = reshaped.CallError(err, connect.CodeInvalidArgument, connect.CodeUnknown)
	return fmt.Errorf("send profile to %v: %w", d, err)
}
