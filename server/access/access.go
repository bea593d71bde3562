// SPDX-License-Identifier: Apache-2.0

// Package access decides who may do what at a listener. A client shows who it is by
// a bearer token, a name and a password (basic authentication), or a certificate; a
// file says which roles it then has. A request needs a role; what becomes of it
// otherwise:
//
//	401  nothing was shown, or nothing that the file knows
//	403  known, but without the role
//	429  too many wrong attempts from this address, or more than the limits of a
//	     Limiter; Retry-After says when to come again
//	503  too many passwords are being checked at this moment
//
// The file holds hashes only. Certificates and the file are read again by Reload;
// while one of them is broken, those read before stay in force. Nothing that a client
// shows is logged.
package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
)

// Roles is a set of roles.
type Roles uint8

const (
	// Push is to send profiles, and to follow the policy, which all agents do.
	Push Roles = 1 << iota
	// Read is to ask and to look: queries, the page, metrics, the policy.
	Read
	// Policy is to change what is collected.
	Policy
	// Everything is all of them.
	Everything = Push | Read | Policy
)

const (
	// maxHashing bounds the passwords that are checked at a time, each of which
	// keeps a CPU busy for a tenth of a second; hashWait how long a request waits
	// for its turn.
	maxHashing = 1
	hashWait   = 5 * time.Second
	// An address may be wrong failureBurst times at once, and failureRate times a
	// second after that.
	failureBurst = 10
	failureRate  = 0.2
	// Of refusals, reportBurst are logged at once and reportRate a second after
	// that.
	reportBurst = 10
	reportRate  = 0.1
)

// Options for New.
type Options struct {
	// AuthFile is the path of the file with those who have roles. Empty is none:
	// then a client with a certificate of an authority of TLS.ClientCA may do
	// everything, and if there are none either, everybody may.
	AuthFile   string
	TLS        TLSFiles
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Guard knows who may do what. It is safe for concurrent use.
type Guard struct {
	options  Options
	log      *slog.Logger
	metrics  *metrics
	users    atomic.Pointer[users]        // nil without a file
	certs    atomic.Pointer[certificates] // nil without TLS
	hashing  *semaphore.Weighted
	failures *accounts // by address
	reports  *accounts // of one key
}

// New reads the files. Errors name the file, and the place in it.
func New(o Options) (*Guard, error) {
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register access metrics: %w", err)
	}
	g := &Guard{
		options: o, log: o.Logger, metrics: m,
		hashing:  semaphore.NewWeighted(maxHashing),
		failures: newAccounts(failureRate, failureBurst, m.forgotten),
		reports:  newAccounts(reportRate, reportBurst, m.forgotten),
	}
	return g, g.Reload()
}

// Reload reads all files again. Either all of them are put in force, or none.
func (g *Guard) Reload() error {
	u, err := loadUsers(g.options.AuthFile)
	if err == nil {
		var c *certificates
		if c, err = g.options.TLS.load(); err == nil {
			g.users.Store(u)
			g.certs.Store(c)
		}
	}
	g.metrics.reloaded(err == nil, g.certs.Load())
	return err
}

// Asks reports whether clients are asked who they are.
func (g *Guard) Asks() bool { return g.options.AuthFile != "" || g.options.TLS.ClientCA != "" }

// Protect lets requests through to next that have one of the roles that they need;
// for those that need none, 0, nobody is asked.
func (g *Guard) Protect(needs func(*http.Request) Roles, next http.Handler) http.Handler {
	if !g.Asks() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		needed := needs(r)
		if needed == 0 {
			next.ServeHTTP(w, r)
			return
		}
		who, err := g.identify(r)
		if err == nil && who.roles&needed == 0 {
			err = &forbidden{who.name, needed}
		}
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		g.metrics.requests.WithLabelValues(resultGranted).Inc()
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), nameKey{}, who.name)))
	})
}

type nameKey struct{}

// Name is who sent the request of a context, as the file or a certificate calls it;
// empty if nobody was asked.
func Name(ctx context.Context) string {
	name, _ := ctx.Value(nameKey{}).(string)
	return name
}

var (
	errNothing   = errors.New("who are you? This address needs a bearer token, a name and a password, or a client certificate")
	errUnknown   = errors.New("these credentials are nobody's here")
	errForeign   = errors.New("this client certificate is nobody's here")
	errThrottled = errors.New("too many wrong credentials from this address: wait before trying again")
	errBusy      = errors.New("too many passwords are being checked: try again")
)

// forbidden is the error of somebody without the role.
type forbidden struct {
	name   string
	needed Roles
}

func (f *forbidden) Error() string {
	return fmt.Sprintf("%s may not do this: it takes the role %v", f.name, f.needed)
}

// refuse answers with an error, counts it, and logs it unless there are many.
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var lacking *forbidden
	status, result := http.StatusUnauthorized, resultUnknown
	switch {
	case errors.As(err, &lacking):
		status, result = http.StatusForbidden, resultForbidden
	case errors.Is(err, errNothing):
		result = resultAnonymous
	case errors.Is(err, errThrottled):
		status, result = http.StatusTooManyRequests, resultThrottled
		retryAfter(w, time.Duration(float64(time.Second)/failureRate))
	case errors.Is(err, errBusy):
		status, result = http.StatusServiceUnavailable, resultBusy
		retryAfter(w, time.Second)
	}
	if status == http.StatusUnauthorized {
		w.Header().Add("WWW-Authenticate", `Basic realm="fleetprof", charset="UTF-8"`)
		w.Header().Add("WWW-Authenticate", `Bearer realm="fleetprof"`)
	}
	g.metrics.requests.WithLabelValues(result).Inc()
	g.report(r, err, result)
	http.Error(w, err.Error(), status)
}

// report logs a refusal. That nothing was shown is no news: a browser asks so first.
func (g *Guard) report(r *http.Request, err error, result string) {
	if result == resultAnonymous {
		return
	}
	if g.reports.take("", 1, time.Now()) > 0 {
		g.metrics.unreported.Inc()
		return
	}
	g.log.Warn("request refused", "reason", err, "method", r.Method, "path", r.URL.Path, "remote", r.RemoteAddr)
}

// retryAfter says when to come again, in whole seconds and at least one.
func retryAfter(w http.ResponseWriter, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int((wait+time.Second-1)/time.Second))))
}
