// SPDX-License-Identifier: Apache-2.0

// Package ingest takes profiles from agents: POST /api/v1/profiles with one
// gzip pprof profile as the body.
//
//	204  stored, for good
//	400  not a profile this server keeps; the text says why
//	408  the body did not arrive whole: send it again
//	413  larger than MaxCompressed, or than the limits of package columns
//	503  busy or closing: send it again
//	507  the disk is full: send it again later
//
// After 400 and 413 the same bytes will never be taken. Sending a stored
// profile once more is answered with 204 and stores nothing.
package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/store"
)

const (
	// MaxCompressed bounds a request's body, in bytes.
	MaxCompressed = 16 << 20
	// maxDecoding bounds the profiles unpacked at a time, and so the memory of
	// ingestion: most take a few MB, the largest a few hundred.
	maxDecoding = 4
	// decodeWait bounds how long a request waits for its turn.
	decodeWait = 5 * time.Second
	// maxAhead bounds how far an agent's clock may be ahead of ours.
	maxAhead = time.Hour
)

// Store keeps what arrives; see store.Store.Put for the contract.
type Store interface {
	Put(ctx context.Context, start, end time.Time, gz []byte) error
}

// Handler is the HTTP handler. It is safe for concurrent use.
type Handler struct {
	store    Store
	log      *slog.Logger
	metrics  *metrics
	decoding *semaphore.Weighted
}

// New makes the handler of POST /api/v1/profiles.
func New(s Store, l *slog.Logger, r prometheus.Registerer) (*Handler, error) {
	m, err := newMetrics(r)
	if err != nil {
		return nil, fmt.Errorf("register ingest metrics: %w", err)
	}
	return &Handler{store: s, log: l, metrics: m, decoding: semaphore.NewWeighted(maxDecoding)}, nil
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	defer func() { h.metrics.seconds.Observe(time.Since(begin).Seconds()) }()
	err := h.take(w, r)
	if err == nil {
		h.metrics.profiles.WithLabelValues(resultStored).Inc()
		w.WriteHeader(http.StatusNoContent)
		return
	}
	refusal := refusalOf(err)
	h.metrics.profiles.WithLabelValues(refusal.result).Inc()
	if refusal.status >= http.StatusInternalServerError {
		w.Header().Set("Retry-After", refusal.retryAfter)
		if refusal.result == resultFailed {
			h.log.Error("profile cannot be stored", "remote", r.RemoteAddr, "error", err)
		}
	}
	http.Error(w, err.Error(), refusal.status)
}

// take reads, checks and stores one profile.
func (h *Handler) take(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength > MaxCompressed {
		return &columns.TooLargeError{What: "bytes in the request", Limit: MaxCompressed}
	}
	var body bytes.Buffer
	body.Grow(max(0, int(min(r.ContentLength, 1<<20)))) // a claim is not yet a body
	if _, err := io.Copy(&body, http.MaxBytesReader(w, r.Body, MaxCompressed)); err != nil {
		return fmt.Errorf("%w: %w", errCutOff, err)
	}
	h.metrics.bytes.Add(float64(body.Len()))
	p, err := h.decode(r.Context(), body.Bytes())
	if err != nil {
		return err
	}
	start := time.Unix(0, p.start)
	if ahead := time.Until(start); ahead > maxAhead {
		return fmt.Errorf("%w: it starts %v ahead of this server's clock: set the clocks of both hosts", errInvalid, ahead.Round(time.Second))
	}
	if err := h.store.Put(r.Context(), start, start.Add(time.Duration(p.duration)), body.Bytes()); err != nil {
		return err
	}
	h.metrics.samples.Add(float64(p.samples))
	return nil
}

// head is what ingestion keeps of a profile once it has been checked; start
// and duration are in nanoseconds.
type head struct{ start, duration, samples int64 }

// decode checks a profile, when it is its turn.
func (h *Handler) decode(ctx context.Context, gz []byte) (head, error) {
	wait, cancel := context.WithTimeout(ctx, decodeWait)
	defer cancel()
	if err := h.decoding.Acquire(wait, 1); err != nil {
		return head{}, errBusy
	}
	defer h.decoding.Release(1)
	raw, err := columns.Inflate(gz)
	if err != nil {
		return head{}, fmt.Errorf("%w: %w", errInvalid, err)
	}
	p, err := columns.Decode(raw)
	if err != nil {
		return head{}, fmt.Errorf("%w: %w", errInvalid, err)
	}
	return head{p.Start, p.Duration, p.Samples()}, nil
}

var (
	errInvalid = errors.New("profile refused")
	errCutOff  = errors.New("read request")
	errBusy    = errors.New("the server is checking other profiles: send this one again")
)

// refusal is how an error is answered.
type refusal struct {
	status     int
	result     string
	retryAfter string // in seconds
}

func refusalOf(err error) refusal {
	var tooLarge *columns.TooLargeError
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge), errors.As(err, &tooLong):
		return refusal{status: http.StatusRequestEntityTooLarge, result: resultTooLarge}
	case errors.Is(err, errInvalid), errors.Is(err, store.ErrRefused):
		return refusal{status: http.StatusBadRequest, result: resultInvalid}
	case errors.Is(err, errBusy):
		return refusal{http.StatusServiceUnavailable, resultBusy, "1"}
	case errors.Is(err, store.ErrClosed):
		return refusal{http.StatusServiceUnavailable, resultClosing, "1"}
	case errors.Is(err, store.ErrFull):
		return refusal{http.StatusInsufficientStorage, resultFull, "10"}
	case errors.Is(err, errCutOff), errors.Is(err, context.Canceled):
		return refusal{status: http.StatusRequestTimeout, result: resultCutOff}
	}
	return refusal{http.StatusInternalServerError, resultFailed, "10"}
}
