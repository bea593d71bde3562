// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/fleetprof/fleetprof/server/columns"
)

// maxMessage bounds a message of a remote procedure, before and after its decompression.
const maxMessage = 16 << 20

// call is one request to a remote procedure. What is sent again is known by its body.
type call struct {
	body []byte
	done bool // the procedure was reached
}

type callKey struct{}

// handle adds a remote procedure. It is called with the whole body in memory and when
// it is its turn, as everything that is unpacked here.
func handle[Request, Response any](h *Handler, mux *http.ServeMux, protocol, procedure string,
	do func(ctx context.Context, m *Request, body []byte) (*Response, error),
) {
	inner := connect.NewUnaryHandler(procedure, func(ctx context.Context, m *connect.Request[Request]) (*connect.Response[Response], error) {
		c := ctx.Value(callKey{}).(*call)
		c.done = true
		answer, err := do(ctx, m.Msg, c.body)
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(answer), nil
	}, connect.WithReadMaxBytes(maxMessage), connect.WithInterceptors(h.answers(protocol)))
	answer := connect.NewErrorWriter()
	mux.HandleFunc("POST "+procedure, func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		c := new(call)
		err := h.admitted(w, r, maxMessage, func(body []byte) error {
			c.body = body
			again := r.WithContext(context.WithValue(r.Context(), callKey{}, c))
			again.Body = io.NopCloser(bytes.NewReader(body))
			inner.ServeHTTP(w, again)
			return nil
		})
		h.metrics.seconds.Observe(time.Since(begin).Seconds())
		switch {
		case err != nil && answer.IsSupported(r):
			_ = answer.Write(w, r, h.failure(protocol, r.URL.Path, err)) // the client may be gone
		case err != nil:
			http.Error(w, err.Error(), h.refuse(protocol, r, err).status)
		case !c.done:
			h.count(protocol, resultInvalid) // connect has answered what it could not read
		}
	})
}

// answers turns errors into those of the protocol.
func (h *Handler) answers(protocol string) connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, m connect.AnyRequest) (connect.AnyResponse, error) {
			answer, err := next(ctx, m)
			if err != nil {
				return nil, h.failure(protocol, m.Spec().Procedure, err)
			}
			return answer, nil
		}
	}
}

// failure is how a remote procedure says that something was not taken, which it counts.
func (h *Handler) failure(protocol, procedure string, err error) error {
	refusal := refusalOf(err)
	var counted *refusedError
	if !errors.As(err, &counted) {
		h.count(protocol, refusal.result)
	}
	if refusal.result == resultFailed {
		h.log.Error("what was sent cannot be stored", "path", procedure, "error", err)
	}
	out := connect.NewError(refusal.code, err)
	if refusal.retry {
		out.Meta().Set("Retry-After", retryAfter())
	}
	return out
}

// batch is the profiles of one request. Those that can never be taken do not keep the
// others from being stored.
type batch struct {
	h        *Handler
	protocol string
	body     []byte
	n        int // profiles so far
	bad      refusedError
}

// refusedError says how many profiles of a request can never be taken, and why the
// first of them. They have been counted.
type refusedError struct {
	refused, of int
	first       error
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("%d of %d profiles refused, the others are stored: %v", e.refused, e.of, e.first)
}

func (e *refusedError) Unwrap() error { return e.first }

// takePProf takes one pprof profile of a series with labels. An error means that all
// have to be sent again.
func (b *batch) takePProf(ctx context.Context, raw []byte, labels []label) error {
	p, err := decodeForeign(raw, time.Now())
	return b.take(ctx, p, err, aboutSeries(labels))
}

// take stores a profile, unless there is an error already.
func (b *batch) take(ctx context.Context, p *columns.Profile, err error, a about) error {
	b.n++
	if err == nil {
		err = b.h.accept(ctx, b.protocol, p, idOf(b.body, b.n), a)
	}
	if err == nil {
		return nil
	}
	result := refusalOf(err).result
	if result != resultInvalid && result != resultTooLarge {
		return err
	}
	b.h.count(b.protocol, result)
	if b.bad.refused++; b.bad.first == nil {
		b.bad.first = err
	}
	return nil
}

// refused is the error of the whole batch, once all are taken.
func (b *batch) refused() error {
	if b.bad.refused == 0 {
		return nil
	}
	b.bad.of = b.n
	return &b.bad
}

// decodeForeign reads a pprof profile of others: compressed or not, and maybe without
// a time, which then is the one given.
func decodeForeign(b []byte, start time.Time) (*columns.Profile, error) {
	if bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		raw, err := columns.Inflate(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errInvalid, err)
		}
		b = raw
	}
	if !hasTime(b) {
		b = protowire.AppendVarint(protowire.AppendTag(b[:len(b):len(b)], timeField, protowire.VarintType), uint64(start.UnixNano()))
	}
	p, err := columns.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInvalid, err)
	}
	return p, nil
}

// timeField is the number of time_nanos in profile.proto.
const timeField = 9

// hasTime reports whether a profile has a time, or cannot be read.
func hasTime(b []byte) bool {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return true
		}
		value := protowire.ConsumeFieldValue(number, kind, b[n:])
		if value < 0 {
			return true
		}
		if number == timeField && kind == protowire.VarintType && b[n] != 0 {
			return true
		}
		b = b[n+value:]
	}
	return false
}
