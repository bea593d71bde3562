// SPDX-License-Identifier: Apache-2.0

// Package otlp sends profiles in the form of OpenTelemetry, to a collector or to a store that takes
// it. This is experimental: the protocol is v1development, of which a later version may read what is
// sent otherwise or not at all. Messages are those of v0.3.0:
// https://github.com/open-telemetry/opentelemetry-proto-profile
package otlp

import (
	"context"
	"fmt"
	"slices"

	"connectrpc.com/connect"
	"github.com/klauspost/compress/gzip"
	collector "go.opentelemetry.io/proto/otlp/collector/profiles/v1development"

	"github.com/fleetprof/fleetprof/internal/endpoint"
	"github.com/fleetprof/fleetprof/reshape"
	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/uploader"
	"github.com/fleetprof/fleetprof/uploader/reshaped"
)

const procedure = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export"

// requestBytes bounds a request before compression. Servers made with gRPC for Go, such as
// collectors, take 4 MiB unless they are told otherwise.
const requestBytes = 3 << 20

// Destination is one server. It is safe for concurrent use.
type Destination struct {
	*reshaped.Sender[*reshape.Part]
	to     *endpoint.Endpoint
	export *connect.Client[collector.ExportProfilesServiceRequest, collector.ExportProfilesServiceResponse]
}

// New takes the address of a server, see endpoint.Parse. It connects only when something is sent.
func New(address string) (*Destination, error) {
	to, err := endpoint.Parse(address, "store", endpoint.OTLP)
	if err != nil {
		return nil, err
	}
	d := &Destination{to: to, export: reshaped.GRPC[collector.ExportProfilesServiceRequest, collector.ExportProfilesServiceResponse](to, procedure,
		connect.WithAcceptCompression("gzip", newDecompressor, newCompressor), connect.WithSendGzip())}
	d.Sender = reshaped.NewSender(reshaped.Form[*reshape.Part]{Pieces: pieces, Post: d.post})
	return d, nil
}

func newDecompressor() connect.Decompressor { return new(gzip.Reader) }

// newCompressor is faster than the standard library's.
func newCompressor() connect.Compressor { return gzip.NewWriter(nil) }

// String gives the address without what is secret.
func (d *Destination) String() string { return d.to.String() }

// pieces makes one of each request, because a dictionary is of one.
func pieces(window *columns.Profile) ([]reshaped.Piece[*reshape.Part], reshape.Cuts, error) {
	if window.Len() == 0 {
		return nil, reshape.Cuts{}, nil
	}
	parts, cuts := reshape.OTLP(window, requestBytes)
	all := make([]reshaped.Piece[*reshape.Part], len(parts))
	for i := range parts {
		all[i] = reshaped.Piece[*reshape.Part]{Content: &parts[i], Samples: parts[i].Samples, Bytes: 1}
	}
	return all, cuts, nil
}

// permanent are the codes after which the protocol forbids to send again, but for those that say
// something of credentials and addresses, which can be mended:
// https://opentelemetry.io/docs/specs/otlp/#failures
func permanent() []connect.Code {
	return []connect.Code{
		connect.CodeInvalidArgument, connect.CodeAlreadyExists, connect.CodeFailedPrecondition, connect.CodeInternal, connect.CodeUnknown,
	}
}

// post sends one part.
func (d *Destination) post(ctx context.Context, parts []*reshape.Part) error {
	part := parts[0]
	answer, err := d.export.CallUnary(ctx, connect.NewRequest(&collector.ExportProfilesServiceRequest{
		ResourceProfiles: part.Data.ResourceProfiles, Dictionary: part.Data.Dictionary,
	}))
	if err != nil {
		final := permanent()
		if !reshaped.Throttled(err) {
			final = append(final, connect.CodeResourceExhausted) // it is too large, by the protocol
		}
		return fmt.Errorf("send profile to %v: %w", d, reshaped.CallError(err, final...))
	}
	refused := answer.Msg.GetPartialSuccess()
	if refused.GetRejectedProfiles() <= 0 {
		return nil // a message without refused profiles is a warning
	}
	err = uploader.Permanent{
		Err:    fmt.Errorf("%d of %d profiles refused: %q", refused.GetRejectedProfiles(), len(part.OfProfiles), refused.GetErrorMessage()),
		Reason: "partial_success",
	}
	if refused.GetRejectedProfiles() < int64(len(part.OfProfiles)) {
		err = uploader.Partial{Err: err, Samples: rejected(part, refused.GetRejectedProfiles())}
	}
	return fmt.Errorf("send profile to %v: %w", d, err)
}

// rejected is how many samples were refused with so many profiles. The protocol does not say
// which ones, so it is those with the most samples: it is never less.
func rejected(part *reshape.Part, profiles int64) (samples int64) {
	sorted := slices.Sorted(slices.Values(part.OfProfiles))
	for i, n := range slices.Backward(sorted) {
		if int64(len(sorted)-i) > profiles {
			break
		}
		samples += n
	}
	return min(samples, part.Samples)
}
