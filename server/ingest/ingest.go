// SPDX-License-Identifier: Apache-2.0

// Package ingest takes profiles: from agents of ours, and from others that speak
// the protocols of Pyroscope, Parca or OpenTelemetry.
//
//	POST /api/v1/push        a push of package wire
//	POST /api/v1/profiles    one gzip pprof profile
//	POST /api/v1/exemplars   a document of package exemplars
//	POST /ingest             one pprof profile, from SDKs of Pyroscope
//	     push.v1.PusherService/Push (Pyroscope)
//	     parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw (Parca)
//	     opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export
//	POST /v1development/profiles the same by OTLP/HTTP
//
// The remote procedures are answered in connect, gRPC and gRPC-Web. Plain HTTP is
// answered with
//
//	204  stored, for good (200 where a protocol wants it)
//	400  not something this server keeps; the text says why
//	408  the body did not arrive whole: send it again
//	409  a push that is not the next of its session: begin a new one
//	413  larger than the limits
//	503  busy or closing: send it again
//	507  the disk is full: send it again later
//
// and remote procedures with the codes that mean the same to their clients. After
// 400 and 413 the same bytes will never be taken. Sending once more what is stored is
// answered as if it were new and stores nothing.
package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/exemplars"
	"github.com/fleetprof/fleetprof/wire"
)

const (
	// MaxCompressed bounds a pprof profile that is sent by itself, in bytes.
	MaxCompressed = 16 << 20
	// maxAhead bounds how far an agent's clock may be ahead of ours.
	maxAhead = time.Hour
)

// Store keeps what arrives; see store.Store for the contract. Append stores nothing
// where it has stored something of that id before.
type Store interface {
	Append(ctx context.Context, p *columns.Profile, id [16]byte) error
	PutExemplars(ctx context.Context, start, end time.Time, gz []byte) error
}

// Handler takes what is sent. It is safe for concurrent use.
type Handler struct {
	store    Store
	log      *slog.Logger
	metrics  *metrics
	gate     *gate
	sessions *sessions
	unpacker *wire.Unpacker
}

// New makes the handlers.
func New(s Store, l *slog.Logger, r prometheus.Registerer) (*Handler, error) {
	m, err := newMetrics(r)
	if err != nil {
		return nil, fmt.Errorf("register ingest metrics: %w", err)
	}
	unpacker, err := wire.NewUnpacker()
	if err != nil {
		return nil, err
	}
	return &Handler{
		store: s, log: l, metrics: m, gate: newGate(),
		sessions: newSessions(m, maxSessionMemory), unpacker: unpacker,
	}, nil
}

// Register adds the paths to a mux.
func (h *Handler) Register(mux *http.ServeMux) {
	mux.Handle("POST /api/v1/push", h.plain(protocolPush, pushLimit, http.StatusNoContent, h.takePush))
	mux.Handle("POST /api/v1/profiles", h.plain(protocolPProf, MaxCompressed, http.StatusNoContent, h.takeProfile))
	mux.Handle("POST /api/v1/exemplars", h.plain(protocolExemplars, exemplars.MaxCompressed, http.StatusNoContent, h.takeExemplars))
	mux.Handle("POST /ingest", h.plain(protocolPyroscope, MaxCompressed, http.StatusOK, h.takeLegacy))
	mux.Handle("POST /v1development/profiles", h.plainOTLP())
	h.registerPyroscope(mux)
	h.registerParca(mux)
	h.registerOTLP(mux)
}

// plain is a handler of plain HTTP that reads a body of so many bytes at most, and
// answers with what becomes of it.
func (h *Handler) plain(protocol string, most, stored int, take func(r *http.Request, body []byte) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		err := h.admitted(w, r, most, func(body []byte) error { return take(r, body) })
		h.metrics.seconds.Observe(time.Since(begin).Seconds())
		if err == nil {
			w.WriteHeader(stored)
			return
		}
		refusal := h.refuse(protocol, r, err)
		if refusal.retry {
			w.Header().Set("Retry-After", retryAfter())
		}
		http.Error(w, err.Error(), refusal.status)
	})
}

// admitted reads the body of a request and does something with it when it is its turn.
func (h *Handler) admitted(w http.ResponseWriter, r *http.Request, most int, do func(body []byte) error) error {
	waiting, cancel := h.gate.admit(r.Context())
	defer cancel()
	body, leave, err := h.gate.read(waiting, w, r, most)
	defer leave()
	if err != nil {
		return err
	}
	h.metrics.bytes.Add(float64(len(body)))
	done, err := h.gate.turn(waiting)
	if err != nil {
		return err
	}
	defer done()
	return do(body)
}

// refuse counts what was not taken, and logs it where that is our fault.
func (h *Handler) refuse(protocol string, r *http.Request, err error) refusal {
	refusal := refusalOf(err)
	h.count(protocol, refusal.result)
	if refusal.result == resultFailed {
		h.log.Error("what was sent cannot be stored", "path", r.URL.Path, "remote", r.RemoteAddr, "error", err)
	}
	return refusal
}

func (h *Handler) count(protocol, result string) {
	if protocol == protocolExemplars {
		h.metrics.exemplars.WithLabelValues(result).Inc()
		return
	}
	h.metrics.profiles.WithLabelValues(protocol, result).Inc()
}

// takeProfile checks and stores one profile of ours.
func (h *Handler) takeProfile(r *http.Request, gz []byte) error {
	p, err := decode(gz)
	if err != nil {
		return err
	}
	return h.accept(r.Context(), protocolPProf, p, idOf(gz))
}

// decode reads a gzip pprof profile.
func decode(gz []byte) (*columns.Profile, error) {
	raw, err := columns.Inflate(gz)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInvalid, err)
	}
	p, err := columns.Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInvalid, err)
	}
	return p, nil
}

// idOf makes the id of what is in a body, by which it is known when it comes again.
// number tells apart what comes in one body.
func idOf(body []byte, number ...int) [16]byte {
	hash := sha256.New()
	hash.Write(body)
	for _, n := range number {
		hash.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	}
	return [16]byte(hash.Sum(nil)[:16])
}

// accept stores a profile that can be read, with what it says of itself.
func (h *Handler) accept(ctx context.Context, protocol string, p *columns.Profile, id [16]byte, about ...about) error {
	p, err := settle(p, about...)
	if err != nil {
		return fmt.Errorf("%w: %w", errInvalid, err)
	}
	if err := checkStart(time.Unix(0, p.Start)); err != nil {
		return err
	}
	if err := h.store.Append(ctx, p, id); err != nil {
		return err
	}
	h.count(protocol, resultStored)
	h.metrics.samples.Add(float64(p.Samples()))
	return nil
}

// takeExemplars checks and stores one document of exemplars.
func (h *Handler) takeExemplars(r *http.Request, gz []byte) error {
	d, err := exemplars.Decode(gz)
	if err != nil {
		return fmt.Errorf("%w: %w", errInvalid, err)
	}
	if err := checkStart(d.Start); err != nil {
		return err
	}
	if err := h.store.PutExemplars(r.Context(), d.Start, d.Start.Add(d.Duration), gz); err != nil {
		return err
	}
	h.count(protocolExemplars, resultStored)
	return nil
}

func checkStart(start time.Time) error {
	if ahead := time.Until(start); ahead > maxAhead {
		return fmt.Errorf("%w: it starts %v ahead of this server's clock: set the clocks of both hosts", errInvalid, ahead.Round(time.Second))
	}
	return nil
}
