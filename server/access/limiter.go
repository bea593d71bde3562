// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// burstSeconds is for how long an identity that was quiet may send as fast as it can:
// so much of its rates is saved up.
const burstSeconds = 10

// Limits are for each identity: who it is, and the address it sends from, as many agents
// may have one token. Zero is no limit.
type Limits struct {
	BytesPerSecond    int64 // of bodies as they come, which is compressed
	RequestsPerSecond int
}

// Limiter keeps identities within Limits. It is safe for concurrent use.
type Limiter struct {
	bytes, requests *accounts // nil is no limit
	limited         *prometheus.CounterVec
}

// NewLimiter makes one.
func NewLimiter(l Limits, r prometheus.Registerer) (*Limiter, error) {
	forgotten := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fleetprof_ingest_identities_forgotten_total",
		Help: "Identities whose rates were forgotten because there were too many.",
	})
	limiter := &Limiter{limited: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_ingest_limited_total",
		Help: "Requests that were answered with 429, by the limit that their identity was beyond.",
	}, []string{"limit"})}
	limit := func(rate float64) *accounts {
		if rate <= 0 {
			return nil
		}
		return newAccounts(rate, rate*burstSeconds, forgotten)
	}
	limiter.bytes, limiter.requests = limit(float64(l.BytesPerSecond)), limit(float64(l.RequestsPerSecond))
	identities := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fleetprof_ingest_identities",
		Help: "Identities whose rates are known.",
	}, func() float64 { return float64(max(limiter.bytes.len(), limiter.requests.len())) })
	for _, name := range []string{limitBytes, limitRequests} {
		limiter.limited.WithLabelValues(name)
	}
	if err := errors.Join(r.Register(forgotten), r.Register(limiter.limited), r.Register(identities)); err != nil {
		return nil, fmt.Errorf("register metrics of limits: %w", err)
	}
	return limiter, nil
}

const (
	limitBytes    = "bytes"
	limitRequests = "requests"
)

// Limit lets requests through to next whose identity is within the limits, and answers
// others with 429.
func (l *Limiter) Limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, now := Client(r), time.Now()
		limit, wait := limitBytes, l.bytes.wait(key, now)
		if wait == 0 {
			limit, wait = limitRequests, l.requests.take(key, 1, now)
		}
		if wait > 0 {
			l.limited.WithLabelValues(limit).Inc()
			retryAfter(w, wait)
			http.Error(w, fmt.Sprintf("more %s a second than this server takes from one client (--ingest-rate, --ingest-requests): send it again later", limit), http.StatusTooManyRequests)
			return
		}
		r.Body = &metered{r.Body, func(n int) { l.bytes.charge(key, float64(n), time.Now()) }}
		next.ServeHTTP(w, r)
	})
}

// Client tells clients apart: by who they are, and the address they ask from, as many may have
// one name.
func Client(r *http.Request) string { return Name(r.Context()) + "@" + addressOf(r) }

// metered tells how much of a body was read.
type metered struct {
	io.ReadCloser
	read func(n int)
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if n > 0 {
		m.read(n)
	}
	return n, err
}

// addressOf is the address a request comes from, without the port. Of IPv6 it is the
// /64, since whoever has one address there has them all.
func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	address, err := netip.ParseAddr(host)
	if err != nil || address.Unmap().Is4() {
		return host
	}
	prefix, err := address.Prefix(64)
	if err != nil {
		return host
	}
	return prefix.Addr().String()
}
