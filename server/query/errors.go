// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// paramError says which parameter is wrong, what it was and what it may be.
type paramError struct{ name, given, expected string }

// maxRepeated bounds how much of a parameter an error repeats, in bytes.
const maxRepeated = 400

func (e *paramError) Error() string {
	return fmt.Sprintf("read parameter %s=%q: %s", e.name, shortened(e.given), shortened(e.expected))
}

func shortened(s string) string {
	if len(s) > maxRepeated {
		return strings.ToValidUTF8(s[:maxRepeated], "") + "…"
	}
	return s
}

// limitError says that a query went beyond a bound of what it may collect, and with which flag
// of the server the bound is set, if with any.
type limitError struct{ reason, flag string }

func (e *limitError) Error() string {
	text := e.reason + ": ask for a shorter time range or a narrower selector, or for less by labels and steps"
	if e.flag != "" {
		text += ", or start the server with more (--" + e.flag + ")"
	}
	return text
}

// timeError says that a query went beyond its time.
type timeError struct{ limit time.Duration }

func (e *timeError) Error() string {
	return fmt.Sprintf("the query took longer than %v: ask for a shorter time range or a narrower selector, or start the server with more (--query-timeout)", e.limit)
}

// orTooLong says of a query that took too long that it is beyond a bound.
func (a *API) orTooLong(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &timeError{a.timeout}
	}
	return err
}

// busyError says that other queries are in the way.
type busyError struct{ reason string }

func (e *busyError) Error() string { return e.reason + ": ask again in a moment" }

// tooManyError says that a client's own queries are in the way.
type tooManyError struct{}

func (*tooManyError) Error() string {
	return fmt.Sprintf("more than %d queries of this client wait for an answer: ask fewer at a time", maxWaiting)
}

var (
	errBusy     = &busyError{"the server is busy with other queries (--query-concurrency)"}
	errNoMemory = &busyError{"the queries that are running take all the memory there is for them (--queries-memory)"}
	errTooMany  = &tooManyError{}
)

// noDataError says that nothing was found, and where there is something.
type noDataError struct {
	request        request
	oldest, newest time.Time
	empty          bool
	types          []string // that there are, if one was asked for
}

// maxTypesTold bounds the types that an error lists.
const maxTypesTold = 20

// noData makes the error of a query that found nothing.
func (a *API) noData(ctx context.Context, q request) error {
	e := &noDataError{request: q}
	var ok bool
	e.oldest, e.newest, ok = a.store.Bounds()
	e.empty = !ok
	if ok && q.kind != defaultKind {
		types, err := a.collect(ctx, request{span: q.span, lists: true}, typeNames)
		if err != nil {
			return err
		}
		e.types = types[:min(len(types), maxTypesTold)]
	}
	return e
}

func (e *noDataError) Error() string {
	where := fmt.Sprintf("stored profiles cover %v", Range{e.oldest, e.newest})
	if e.empty {
		where = "nothing is stored yet"
	}
	what := e.request.selector.String()
	if e.request.kind != defaultKind {
		what = e.request.kind.String() + what
	}
	if len(e.types) > 0 {
		where += ", in this time of the types " + strings.Join(e.types, ", ")
	}
	return fmt.Sprintf("no samples of %s from %v: %s", what, e.request.span, where)
}

// brokenAnswerError says that an answer could not be sent to its end.
type brokenAnswerError struct{ err error }

func (e *brokenAnswerError) Error() string { return "send answer: " + e.err.Error() }
func (e *brokenAnswerError) Unwrap() error { return e.err }

// failed is the result of a query that failed for a reason of ours, clientGone of one that
// nobody waits for any more.
const (
	failed     = "failed"
	clientGone = "client_gone"
)

// classify gives the status an error is answered with, and its name in the metrics.
func classify(err error) (status int, result string) {
	is := func(target any) bool { return errors.As(err, target) }
	switch {
	case is(new(*paramError)):
		return http.StatusBadRequest, "bad_request"
	case is(new(*noDataError)):
		return http.StatusNotFound, "no_data"
	case is(new(*limitError)):
		return http.StatusUnprocessableEntity, "too_large"
	case is(new(*timeError)):
		return http.StatusGatewayTimeout, "timeout"
	case is(new(*tooManyError)):
		return http.StatusTooManyRequests, "too_many"
	case is(new(*busyError)):
		return http.StatusServiceUnavailable, "busy"
	case is(new(*brokenAnswerError)), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable, clientGone
	}
	return http.StatusInternalServerError, failed
}

// refuseText answers in the way that go tool pprof shows to its user.
func refuseText(w http.ResponseWriter, status int, err error) {
	w.Header().Set("X-Go-Pprof", "1")
	retry(w, status)
	http.Error(w, err.Error(), status)
}

// refuseJSON answers in the way of the API of Prometheus.
func refuseJSON(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	retry(w, status)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "error": err.Error()}) // the client may be gone
}

// NoEndpoint answers requests for a part of the API that there is not.
func NoEndpoint(w http.ResponseWriter, r *http.Request) {
	refuseJSON(w, http.StatusNotFound, fmt.Errorf("no such endpoint: %s %s", r.Method, r.URL.Path))
}

func retry(w http.ResponseWriter, status int) {
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
}
