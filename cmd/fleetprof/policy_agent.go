// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/policy"
	"github.com/fleetprof/fleetprof/policy/remote"
	"github.com/fleetprof/fleetprof/sample"
	serverpolicy "github.com/fleetprof/fleetprof/server/policy"
)

// policyFlags are the flags of an agent that is told what to collect.
type policyFlags struct {
	PolicyFrom string `help:"Server whose policy this agent obeys, or none. Default: the first http(s) store." placeholder:"URL"`
}

// source is where the policy comes from; nil is nowhere.
func (f policyFlags) source(stores []string) (remote.Source, error) {
	address := f.PolicyFrom
	if address == "none" {
		return nil, nil
	}
	for _, s := range stores {
		if address == "" && (strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")) {
			address = s
		}
	}
	if address == "" {
		return nil, nil
	}
	c, err := remote.NewClient(address)
	if err != nil { // a nil *Client would be a Source that is not nil
		return nil, err
	}
	return c, nil
}

// localPolicy is the policy that the server of this process keeps.
type localPolicy struct{ keeper *serverpolicy.Keeper }

func (localPolicy) String() string { return "local: the server of this process" }

func (l localPolicy) Next(ctx context.Context, tag string, wait time.Duration) (remote.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	s := l.keeper.Wait(ctx, tag)
	return remote.Answer{Policy: s.Policy, Tag: s.Tag, Unchanged: s.Tag == tag}, nil
}

// decider says what is to be collected. It is the seam between the policy and the
// sampling.
type decider interface {
	// Decide gives the decision about a process or container; value gives the value
	// of a label of it, or the empty string.
	Decide(value func(name string) string) policy.Decision
	// Changed gives a channel that is closed when decisions may differ from those
	// of now.
	Changed() <-chan struct{}
}

// maxMatched bounds the processes that are counted in a window.
const maxMatched = 1 << 16

// obedience counts, for the operator, the processes that each rule decides about,
// among those sampled in the last window. It does not obey yet. A nil obedience
// has no policy.
type obedience struct {
	follower *remote.Follower
	decider  decider
	host     string

	// The one goroutine that samples uses these.
	changed <-chan struct{}
	known   map[uint32]bool // by PID
	counts  []int           // by rule

	mu   sync.Mutex
	last []int // counts of the last window
}

// newObedience makes an obedience to what a source says; nil is none.
func newObedience(from remote.Source, host string, reg prometheus.Registerer, log *slog.Logger) (*obedience, error) {
	if from == nil {
		return nil, nil
	}
	f, err := remote.NewFollower(remote.Options{Source: from, Logger: log, Registerer: reg})
	if err != nil {
		return nil, err
	}
	o := &obedience{follower: f, decider: f, host: host, changed: f.Changed()}
	o.clear()
	return o, nil
}

// follow keeps the policy until stop is called.
func (o *obedience) follow(ctx context.Context) (stop func()) {
	if o == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- o.follower.Run(ctx) }()
	return func() {
		cancel()
		<-done
	}
}

// sample notes the process of a sample.
func (o *obedience) sample(pid uint32, labels sample.Labels) {
	if o == nil {
		return
	}
	select {
	case <-o.changed:
		o.changed = o.decider.Changed()
		o.clear()
		o.publish(nil)
	default:
	}
	if o.known[pid] || len(o.known) >= maxMatched {
		return
	}
	o.known[pid] = true
	o.counts[o.decider.Decide(func(name string) string {
		if name == sample.LabelHost {
			return o.host
		}
		return labels.Get(name)
	}).Rule]++
}

// cut ends a window. No sample is noted meanwhile.
func (o *obedience) cut() {
	if o != nil {
		o.publish(o.counts)
		o.clear()
	}
}

func (o *obedience) clear() {
	o.known = make(map[uint32]bool)
	o.counts = make([]int, policy.MaxRules+1)
}

func (o *obedience) publish(counts []int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = counts
}

// matching is how many processes a rule decided about in the last window.
func (o *obedience) matching(rule int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if rule >= len(o.last) {
		return 0
	}
	return o.last[rule]
}

// handler answers what is collected, and by which rules.
func (o *obedience) handler() http.Handler {
	if o == nil {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "this agent obeys no policy: name a server that keeps one with --policy-from", http.StatusNotFound)
		})
	}
	return o.follower.Handler(o.matching)
}
