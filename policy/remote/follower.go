// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/policy"
)

const (
	// The wait after failure n in a row is a random part of firstWait·2ⁿ, at most
	// maxWait ("full jitter"), so that agents do not come back all at once.
	// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
	firstWait = 250 * time.Millisecond
	maxWait   = 30 * time.Second
	// maxAsked bounds the wait a server may ask for.
	maxAsked = 5 * time.Minute
	// pollWait is how long a server is asked to wait for a change. Proxies cut
	// off what is silent for much longer.
	pollWait = time.Minute
	// leastGap is from one good answer to the next question: a server that does not
	// wait must not make the agent ask all the time.
	leastGap = time.Second
)

// Source gives the policy that is to be in force.
type Source interface {
	// Next waits for a policy other than the one of the tag; the empty tag is none.
	// At the end of the wait, if not before, it says that it is unchanged.
	Next(ctx context.Context, tag string, wait time.Duration) (Answer, error)
	// String is where it comes from, without secrets.
	String() string
}

// Options for NewFollower.
type Options struct {
	Source Source
	// Store keeps the last good policy for the next run; nil is nobody.
	Store      Store
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Follower keeps the last good policy of a source in force, also when the source
// cannot be reached, and lets its rules expire. Its methods are safe for
// concurrent use.
type Follower struct {
	source  Source
	store   Store // nil is none
	log     *slog.Logger
	metrics *metrics
	state   atomic.Pointer[state]
	problem atomic.Pointer[string] // of the last pull; nil is none
	answers chan Answer
	// written is the state that the store has; unwritable says that it refused the last one.
	written    *state
	unwritable bool
}

// state is what is in force. It does not change but for the closing of the channel.
type state struct {
	policy   policy.Policy
	tag      string
	received time.Time // by our clock; zero before the first answer
	restored bool      // from the store; the source has not answered yet
	clock    clock
	changed  chan struct{} // closed when another state is in force
}

// clock is the server's clock as far as we know it: what it said, and the time
// since by our own monotonic clock, which nobody sets. So neither a wrong wall clock
// here nor the loss of the server extends a rule. (The monotonic clock stands
// still while a host is suspended; the next answer sets that right.)
type clock struct{ theirs, ours time.Time }

func (c clock) now() time.Time { return c.theirs.Add(time.Since(c.ours)) }

// newClock reads the time of an answer that came just now. A server that says none
// is thought to go as we do.
func newClock(theirs time.Time) clock {
	ours := time.Now()
	if theirs.IsZero() {
		theirs = ours.Round(0)
	}
	return clock{theirs, ours}
}

// NewFollower starts nothing. Before the first answer the policy is that of the last run;
// without one it has no rules.
func NewFollower(o Options) (*Follower, error) {
	f := &Follower{source: o.Source, store: o.Store, log: o.Logger, answers: make(chan Answer)}
	f.state.Store(&state{clock: newClock(time.Time{}), changed: make(chan struct{})})
	var err error
	if f.metrics, err = newMetrics(o.Registerer, f); err != nil {
		return nil, fmt.Errorf("register policy metrics: %w", err)
	}
	if s := f.restore(); s != nil {
		f.state.Store(s)
	}
	return f, nil
}

// Decide says what is to be collected of a process or container by the policy in
// force. value gives the value of a label, or the empty string.
func (f *Follower) Decide(value func(name string) string) policy.Decision {
	s := f.state.Load()
	return s.policy.Decide(value, s.clock.now())
}

// Rules is how many rules are in force, and the frequencies they ask for, as
// [policy.Policy.Frequencies].
func (f *Follower) Rules() (rules int, frequencies []int) {
	s := f.state.Load()
	now := s.clock.now()
	return len(s.policy.Live(now).Rules), s.policy.Frequencies(now)
}

// Changed gives a channel that is closed when decisions may differ from those of
// now: another policy is in force, or a rule has expired. Ask for the channel
// first and decide then, so that no change is missed.
func (f *Follower) Changed() <-chan struct{} { return f.state.Load().changed }

// Run follows the source until ctx ends; it returns nil.
func (f *Follower) Run(ctx context.Context) error {
	var pulling sync.WaitGroup
	defer pulling.Wait()
	pulling.Go(func() { f.pull(ctx) })
	for {
		expiry, stop := f.expiry()
		select {
		case a := <-f.answers:
			f.take(a)
			f.keep()
		case <-expiry:
			s := *f.state.Load()
			f.log.Info("a rule of the policy has expired", "version", s.policy.Version)
			f.put(s)
		case <-ctx.Done():
			stop()
			return nil
		}
		stop()
	}
}

// expiry fires when the next rule expires.
func (f *Follower) expiry() (fires <-chan time.Time, stop func()) {
	s := f.state.Load()
	now := s.clock.now()
	next := s.policy.NextChange(now)
	if next.IsZero() {
		return nil, func() {}
	}
	timer := time.NewTimer(next.Sub(now))
	return timer.C, func() { timer.Stop() }
}

// put has another state in force.
func (f *Follower) put(s state) {
	s.changed = make(chan struct{})
	close(f.state.Swap(&s).changed)
	f.metrics.changes.Inc()
}

// take has an answer in force. One that says nothing new may still tell the
// server's time: that corrects ours, but does not turn it back, so that a rule that
// has expired stays so.
func (f *Follower) take(a Answer) {
	s := *f.state.Load()
	c := newClock(a.Time)
	if !a.Unchanged {
		f.log.Info("policy in force", "version", a.Policy.Version, "rules", len(a.Policy.Rules), "from", f.source.String())
		f.put(state{policy: a.Policy, tag: a.Tag, received: c.ours, clock: c})
		return
	}
	if a.Time.IsZero() {
		return
	}
	was := s.clock.now()
	if c.theirs.Before(was) {
		c.theirs = was
	}
	s.clock = c
	if s.policy.NextChange(was).Equal(s.policy.NextChange(c.theirs)) {
		f.state.Store(&s) // with the same channel: all decisions are the same
		return
	}
	f.put(s)
}

// pull asks the source again and again until ctx ends.
func (f *Follower) pull(ctx context.Context) {
	tag, failures := "", 0
	for ctx.Err() == nil {
		begin := time.Now()
		patience := pollWait
		if failures > 0 {
			patience = 0 // to know at once that it works again
		}
		a, err := f.ask(ctx, tag, patience)
		if ctx.Err() != nil {
			return
		}
		f.note(err)
		wait := leastGap - time.Since(begin)
		if err == nil {
			failures = 0
			if !a.Unchanged {
				tag = a.Tag
			}
			select {
			case f.answers <- a:
			case <-ctx.Done():
			}
		} else {
			failures++
			wait = backoff(err, failures)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// ask gets the next answer and refuses what no good server says.
func (f *Follower) ask(ctx context.Context, tag string, wait time.Duration) (Answer, error) {
	a, err := f.source.Next(ctx, tag, wait)
	switch {
	case err != nil:
		return a, err
	case a.Unchanged && tag == "":
		return a, fmt.Errorf("%w: a policy that was never given is said to be unchanged", errInvalid)
	}
	var faults policy.Faults
	if errors.As(a.Policy.CheckBoosts(newClock(a.Time).theirs), &faults) {
		return a, fmt.Errorf("%w: %w", errInvalid, faults[0])
	}
	return a, nil
}

// note counts a failure. The log has a line when pulling begins to fail, and one
// when it works again.
func (f *Follower) note(err error) {
	if err == nil {
		f.metrics.pulled.SetToCurrentTime()
		if f.problem.Swap(nil) != nil {
			f.log.Info("the policy can be pulled again", "from", f.source.String())
		}
		return
	}
	f.metrics.errors.WithLabelValues(reason(err)).Inc()
	text := err.Error()
	if f.problem.Swap(&text) == nil {
		f.log.Warn("the policy cannot be pulled; the last one stays in force until its rules expire", "error", err)
	}
}

// backoff is how long to wait after a failure.
func backoff(err error, failures int) time.Duration {
	jitter := rand.N(min(firstWait<<min(failures, 10), maxWait))
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return min(refusal.After, maxAsked) + jitter
	}
	return jitter
}
