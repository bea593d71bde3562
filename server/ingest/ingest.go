// SPDX-License-Identifier: Apache-2.0

// Package ingest takes profiles from agents: POST /api/v1/profiles with one
// gzip pprof profile as the body; and what lies beside them: POST
// /api/v1/exemplars with a document of package exemplars. Of both:
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
	"github.com/fleetprof/fleetprof/server/exemplars"
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
	PutExemplars(ctx context.Context, start, end time.Time, gz []byte) error
}

// Handler is the HTTP handler. It is safe for concurrent use.
type Handler struct {
	store    Store
	log      *slog.Logger
	metrics  *metrics
	decoding *semaphore.Weighted
}

// New makes the handler of POST /api/v1/profiles, and of POST /api/v1/exemplars.
func New(s Store, l *slog.Logger, r prometheus.Registerer) (*Handler, error) {
	m, err := newMetrics(r)
	if err != nil {
		return nil, fmt.Errorf("register ingest metrics: %w", err)
	}
	return &Handler{store: s, log: l, metrics: m, decoding: semaphore.NewWeighted(maxDecoding)}, nil
}

// ServeHTTP takes profiles.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.serve(w, r, MaxCompressed, h.metrics.profiles, h.takeProfile)
}

// ServeExemplars takes documents of exemplars.
func (h *Handler) ServeExemplars(w http.ResponseWriter, r *http.Request) {
	h.serve(w, r, exemplars.MaxCompressed, h.metrics.exemplars, h.takeExemplars)
}

// serve reads a body of so many bytes at most, and answers with what becomes of it.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, most int, results *prometheus.CounterVec, take func(ctx context.Context, body []byte) error) {
	begin := time.Now()
	defer func() { h.metrics.seconds.Observe(time.Since(begin).Seconds()) }()
	body, err := h.read(w, r, most)
	if err == nil {
		err = take(r.Context(), body)
	}
	if err == nil {
		results.WithLabelValues(resultStored).Inc()
		w.WriteHeader(http.StatusNoContent)
		return
	}
	refusal := refusalOf(err)
	results.WithLabelValues(refusal.result).Inc()
	if refusal.status >= http.StatusInternalServerError {
		w.Header().Set("Retry-After", refusal.retryAfter)
		if refusal.result == resultFailed {
			h.log.Error("what was sent cannot be stored", "path", r.URL.Path, "remote", r.RemoteAddr, "error", err)
		}
	}
	http.Error(w, err.Error(), refusal.status)
}

func (h *Handler) read(w http.ResponseWriter, r *http.Request, most int) ([]byte, error) {
	if r.ContentLength > int64(most) {
		return nil, &columns.TooLargeError{What: "bytes in the request", Limit: most}
	}
	var body bytes.Buffer
	body.Grow(max(0, int(min(r.ContentLength, 1<<20)))) // a claim is not yet a body
	if _, err := io.Copy(&body, http.MaxBytesReader(w, r.Body, int64(most))); err != nil {
		return nil, fmt.Errorf("%w: %w", errCutOff, err)
	}
	h.metrics.bytes.Add(float64(body.Len()))
	return body.Bytes(), nil
}

// takeProfile checks and stores one profile.
func (h *Handler) takeProfile(ctx context.Context, gz []byte) error {
	p, err := h.decode(ctx, gz)
	if err != nil {
		return err
	}
	start := time.Unix(0, p.start)
	if err := checkStart(start); err != nil {
		return err
	}
	if err := h.store.Put(ctx, start, start.Add(time.Duration(p.duration)), gz); err != nil {
		return err
	}
	h.metrics.samples.Add(float64(p.samples))
	return nil
}

// takeExemplars checks and stores one document of exemplars.
func (h *Handler) takeExemplars(ctx context.Context, gz []byte) error {
	done, err := h.turn(ctx)
	if err != nil {
		return err
	}
	d, err := exemplars.Decode(gz)
	done()
	if err != nil {
		return fmt.Errorf("%w: %w", errInvalid, err)
	}
	if err := checkStart(d.Start); err != nil {
		return err
	}
	return h.store.PutExemplars(ctx, d.Start, d.Start.Add(d.Duration), gz)
}

func checkStart(start time.Time) error {
	if ahead := time.Until(start); ahead > maxAhead {
		return fmt.Errorf("%w: it starts %v ahead of this server's clock: set the clocks of both hosts", errInvalid, ahead.Round(time.Second))
	}
	return nil
}

// head is what ingestion keeps of a profile once it has been checked; start
// and duration are in nanoseconds.
type head struct{ start, duration, samples int64 }

// decode checks a profile, when it is its turn.
func (h *Handler) decode(ctx context.Context, gz []byte) (head, error) {
	done, err := h.turn(ctx)
	if err != nil {
		return head{}, err
	}
	defer done()
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

// turn waits until something may be unpacked, until done.
func (h *Handler) turn(ctx context.Context) (done func(), err error) {
	wait, cancel := context.WithTimeout(ctx, decodeWait)
	defer cancel()
	if err := h.decoding.Acquire(wait, 1); err != nil {
		return nil, errBusy
	}
	return func() { h.decoding.Release(1) }, nil
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
