// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"net/http"
	"time"
)

// scope is the request that queries are part of.
type scope struct {
	client string
	claim  *claim
}

type scopeKey struct{}

// claimOf is what the queries of ctx may take; nil outside of a turn.
func claimOf(ctx context.Context) *claim {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok {
		return s.claim
	}
	return nil
}

// Scope is for handlers that ask questions: what their answers take of the memory counts until
// they are sent, and queries have their turns by the client they are from.
func (a *API) Scope(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &scope{claim: &claim{memory: a.memory, limit: a.limit}}
		defer s.claim.release()
		if a.client != nil {
			s.client = a.client(r)
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), scopeKey{}, s)))
	})
}

// inTurn answers one query in its turn, and within the time for one, the wait included.
// Whoever asks outside of a Scope has one that ends with the answer.
func (a *API) inTurn(ctx context.Context, answer func(ctx context.Context) error) error {
	s, ok := ctx.Value(scopeKey{}).(*scope)
	if !ok {
		s = &scope{claim: &claim{memory: a.memory, limit: a.limit}}
		defer s.claim.release()
		ctx = context.WithValue(ctx, scopeKey{}, s)
	}
	limited, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	end, err := a.turns.begin(limited, s.client)
	if err != nil {
		if ctx.Err() == nil && limited.Err() != nil {
			return errBusy
		}
		return err
	}
	defer end()
	a.meter.Do(func() { err = answer(limited) })
	return a.orTooLong(err)
}

// count keeps the metrics of a query that began then and had this result.
func (a *API) count(endpoint string, begin time.Time, err error) {
	result := "ok"
	if err != nil {
		if _, result = classify(err); result == failed {
			a.log.Error("query failed", "endpoint", endpoint, "error", err)
		}
	}
	a.metrics.requests.WithLabelValues(endpoint, result).Inc()
	a.metrics.seconds.WithLabelValues(endpoint).Observe(time.Since(begin).Seconds())
}
