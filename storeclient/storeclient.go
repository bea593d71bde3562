// SPDX-License-Identifier: Apache-2.0

// Package storeclient asks stores of profiles: fleetprof servers, Parca and Pyroscope. All are
// asked the same and answer the same, as far as each can:
//
//	http(s)://HOST:7171            a fleetprof server
//	parca://HOST:7070              Parca, query.v1alpha1 by gRPC; parcas:// with TLS
//	pyroscope+http(s)://HOST:4040  Pyroscope, querier.v1 by the Connect protocol
//
// Credentials are part of the address, see package endpoint.
//
// Parca and Pyroscope merge profiles without the labels of their samples, so sums by labels are
// asked for as series, which both have. What they cannot answer is an error that says so.
package storeclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/internal/endpoint"
)

// Query says which samples are asked for.
type Query struct {
	// Selector is label matchers as Prometheus writes them, {name="value"}; all if empty.
	Selector string
	// Type is the profile type as the store spells it; its CPU time if empty.
	Type string
	// From and To are the range [From, To). Stores know no less than a millisecond.
	From, To time.Time
}

func (q Query) String() string {
	return fmt.Sprintf("%s%s from %s to %s", q.Type, matchers(q.Selector), q.From.UTC().Format(time.RFC3339), q.To.UTC().Format(time.RFC3339))
}

// matchers is a selector that is never empty.
func matchers(selector string) string {
	if text := strings.TrimSpace(selector); text != "" {
		return text
	}
	return "{}"
}

// Series are sums over time, by the values of labels.
type Series struct {
	// Unit is that of all values, such as nanoseconds.
	Unit   string
	Groups []Group
}

// Group is one combination of values.
type Group struct {
	// Values are of the labels asked for, in their order; empty where there is no such label.
	Values []string
	// Points are those that are not 0, in the order of time.
	Points []Point
}

// Point is the sum of one step of time.
type Point struct {
	Time  time.Time // when the step begins
	Value int64
}

// Total is the sum of the points.
func (g Group) Total() (sum int64) {
	for _, p := range g.Points {
		sum += p.Value
	}
	return sum
}

// Client asks one store. It is safe for concurrent use.
type Client interface {
	// Profile merges all that a query selects.
	Profile(ctx context.Context, q Query) (*profile.Profile, error)
	// Series sums all that a query selects by labels and by steps of time. The range should
	// begin and end with a step (Align): stores differ in how they cut it else. The values
	// of Pyroscope are exact up to 2⁵³.
	Series(ctx context.Context, q Query, by []string, step time.Duration) (*Series, error)
	// KeepsLabels reports whether merged profiles have the labels of their samples.
	KeepsLabels() bool
	// String is the address without its credentials.
	String() string
}

// ErrNoSamples is what the error of a query is that selects nothing.
var ErrNoSamples = errors.New("no samples")

const (
	// timeout bounds one call, its answer included.
	timeout = time.Minute
	// maxAnswer bounds what a store can make us read in one answer, in bytes.
	maxAnswer = 512 << 20
)

// New takes the address of a store with its credentials, see package endpoint. It connects
// only when something is asked.
func New(address string) (Client, error) {
	to, err := endpoint.Parse(address, "server", endpoint.Fleetprof, endpoint.Parca, endpoint.Pyroscope)
	if err != nil {
		return nil, err
	}
	client, _ := to.Client()
	client.Timeout = timeout
	switch to.Kind() {
	case endpoint.Parca:
		return newParca(to, client), nil
	case endpoint.Pyroscope:
		return newPyroscope(to, client), nil
	}
	return &server{to, client}, nil
}

// Align widens a range to whole steps, counted from the Unix epoch.
func Align(q Query, step time.Duration) Query {
	floor := func(t time.Time) time.Time {
		n := t.UnixNano()
		return time.Unix(0, n-n%int64(step)).UTC()
	}
	from, to := floor(q.From), floor(q.To)
	if to.Before(q.To) {
		to = to.Add(step)
	}
	q.From, q.To = from, to
	return q
}
