// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/klauspost/compress/gzip"
	collector "go.opentelemetry.io/proto/otlp/collector/profiles/v1development"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/fleetprof/fleetprof/server/columns"
)

// maxProfiles bounds the profiles of one request: each may refer to all of its
// dictionary.
const maxProfiles = 4096

// registerOTLP adds the gRPC of OpenTelemetry.
func (h *Handler) registerOTLP(mux *http.ServeMux) {
	handle(h, mux, protocolOTLP, "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export", h.export)
}

// export takes profiles. Those that can never be taken are told in the answer, as the
// protocol wants it: https://opentelemetry.io/docs/specs/otlp/#partial-success
func (h *Handler) export(ctx context.Context, m *collector.ExportProfilesServiceRequest, body []byte) (*collector.ExportProfilesServiceResponse, error) {
	all, frames := batch{h: h, protocol: protocolOTLP, body: body}, maxFrames
	for _, resource := range m.GetResourceProfiles() {
		for _, scope := range resource.GetScopeProfiles() {
			for _, profile := range scope.GetProfiles() {
				if all.n >= maxProfiles {
					return nil, fmt.Errorf("%w: %w", errInvalid, &columns.TooLargeError{What: "profiles in a request", Limit: maxProfiles})
				}
				p, a, dropped, err := fromOTLP(m.GetDictionary(), resource.GetResource(), profile, &frames)
				h.metrics.attributes.Add(float64(dropped))
				if err != nil {
					err = fmt.Errorf("%w: %w", errInvalid, err)
				}
				if err := all.take(ctx, p, err, a); err != nil {
					return nil, err
				}
			}
		}
	}
	if all.bad.refused == 0 {
		return &collector.ExportProfilesServiceResponse{}, nil
	}
	return &collector.ExportProfilesServiceResponse{PartialSuccess: &collector.ExportProfilesPartialSuccess{
		RejectedProfiles: int64(all.bad.refused), ErrorMessage: all.refused().Error(),
	}}, nil
}

// plainOTLP is OTLP/HTTP with protobuf: https://opentelemetry.io/docs/specs/otlp/#otlphttp
func (h *Handler) plainOTLP() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		var answer *collector.ExportProfilesServiceResponse
		err := h.admitted(w, r, maxMessage, func(body []byte) error {
			m, err := readOTLP(r.Header, body)
			if err == nil {
				answer, err = h.export(r.Context(), m, body)
			}
			return err
		})
		h.metrics.seconds.Observe(time.Since(begin).Seconds())
		status, out := http.StatusOK, []byte(nil)
		if err == nil {
			out, err = proto.Marshal(answer)
		}
		if err != nil {
			refusal := h.refuse(protocolOTLP, r, err)
			if refusal.retry {
				w.Header().Set("Retry-After", retryAfter())
				refusal.status = http.StatusServiceUnavailable // of 5xx, few others are sent again
			}
			status, out = refusal.status, rpcStatus(refusal.code, err.Error())
		}
		w.Header().Set("Content-Type", protobufType)
		w.WriteHeader(status)
		_, _ = w.Write(out) // the client may be gone
	})
}

const protobufType = "application/x-protobuf"

// readOTLP reads the body of OTLP/HTTP.
func readOTLP(header http.Header, body []byte) (*collector.ExportProfilesServiceRequest, error) {
	if kind, _, _ := mime.ParseMediaType(header.Get("Content-Type")); kind != protobufType {
		return nil, fmt.Errorf("%w: read Content-Type %.80q: this server takes %s only", errInvalid, header.Get("Content-Type"), protobufType)
	}
	switch encoding := header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		zip, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("%w: unpack gzip: %w", errInvalid, err)
		}
		if body, err = io.ReadAll(io.LimitReader(zip, maxMessage+1)); err != nil {
			return nil, fmt.Errorf("%w: unpack gzip: %w", errInvalid, err)
		}
		if len(body) > maxMessage {
			return nil, &columns.TooLargeError{What: "bytes after unpacking", Limit: maxMessage}
		}
	default:
		return nil, fmt.Errorf("%w: read Content-Encoding %.80q: this server takes gzip or none", errInvalid, encoding)
	}
	m := new(collector.ExportProfilesServiceRequest)
	if err := proto.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("%w: read message: %w", errInvalid, err)
	}
	return m, nil
}

// rpcStatus is a google.rpc.Status, which OTLP/HTTP wants as the body of an error.
func rpcStatus(code connect.Code, text string) []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(code))
	return protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), text)
}
