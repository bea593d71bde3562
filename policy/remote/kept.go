// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/fleetprof/fleetprof/internal/bootclock"
	"github.com/fleetprof/fleetprof/policy"
)

const (
	// keptName is the file of the last good policy. docs/policy.md describes it.
	keptName   = "policy.json"
	keptFormat = 1
	// maxKept bounds the file, in bytes: a document and what is said about it.
	maxKept = policy.MaxBytes + 4<<10
	// keptSlack is how far the server's clock may be ahead of what the file makes of it
	// before it is written again. Answers tell the time to a second.
	keptSlack = 2 * time.Second
)

// Store keeps files from one run of the agent to the next.
type Store interface {
	// Read gives a file of at most so many bytes; the error is fs.ErrNotExist if there is none.
	Read(name string, most int) ([]byte, error)
	// Write puts another in its place, durably and as a whole.
	Write(name string, text []byte) error
}

// kept is the file: a policy, and what time it was when that was in force.
type kept struct {
	Format            int             `json:"format"`
	Source            string          `json:"source"`
	Received          time.Time       `json:"received"`
	ServerTime        time.Time       `json:"server_time"`
	bootclock.Instant                 // the same instant, by this host's clocks
	Policy            json.RawMessage `json:"policy"`
}

var (
	errOtherSource = errors.New("it is the policy of another source")
	errCorrupt     = errors.New("not what an agent writes")
)

// encode makes the file of a state.
func encode(source string, s *state, now bootclock.Instant) ([]byte, error) {
	document, err := json.Marshal(s.policy)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it would make the document larger than it may be
	err = e.Encode(kept{
		Format: keptFormat, Source: source, Received: s.received.UTC(), ServerTime: s.clock.now().UTC(), Instant: now, Policy: document,
	})
	return b.Bytes(), err
}

// decode makes a state of a file, which may hold anything. The time that has passed is
// added to the server's. Where that time is not certain, boosts are over: they
// must not last longer than asked for, and the source can tell of them again.
func decode(text []byte, source string, now bootclock.Instant) (s *state, exact bool, err error) {
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return nil, false, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if k.Format != keptFormat || k.ServerTime.Unix() <= 0 {
		return nil, false, fmt.Errorf("%w: format %d, server's time %v", errCorrupt, k.Format, k.ServerTime)
	}
	if k.Source != source {
		return nil, false, errOtherSource
	}
	p, err := policy.ParseJSON(k.Policy)
	if err == nil {
		err = p.CheckBoosts(k.ServerTime)
	}
	var faults policy.Faults
	if errors.As(err, &faults) {
		return nil, false, fmt.Errorf("%w: %w", errCorrupt, faults[0])
	}
	passed, exact := now.Since(k.Instant)
	if !exact {
		p = p.Unboosted()
	}
	return &state{
		policy: p, received: k.Received, restored: true, clock: newClock(k.ServerTime.Add(passed)), changed: make(chan struct{}),
	}, exact, nil
}

// restore gives the state of the last run; nil if that left none.
func (f *Follower) restore() *state {
	if f.store == nil {
		return nil
	}
	text, err := f.store.Read(keptName, maxKept)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		f.metrics.storeErrors.WithLabelValues("read").Inc()
		f.log.Warn("the policy of the last run cannot be read", "error", err)
		return nil
	}
	s, exact, err := decode(text, f.source.String(), bootclock.Now())
	switch {
	case errors.Is(err, errOtherSource):
		f.log.Info("the policy of the last run is left alone", "reason", err)
		return nil
	case err != nil:
		f.metrics.storeErrors.WithLabelValues("corrupt").Inc()
		f.log.Warn("the policy of the last run is ignored", "error", err)
		return nil
	}
	f.log.Info("policy of the last run in force", "version", s.policy.Version, "rules", len(s.policy.Rules),
		"boosts", exact, "from", f.source.String())
	return s
}

// keep writes what is in force, unless the file says the same. Only Run calls it.
func (f *Follower) keep() {
	s := f.state.Load()
	if f.store == nil || f.written != nil && f.written.tag == s.tag && s.clock.now().Sub(f.written.clock.now()) < keptSlack {
		return
	}
	text, err := encode(f.source.String(), s, bootclock.Now())
	if err == nil {
		err = f.store.Write(keptName, text)
	}
	if err != nil {
		f.metrics.storeErrors.WithLabelValues("write").Inc()
		if !f.unwritable {
			f.log.Warn("the policy is not kept for the next run", "error", err)
		}
		f.unwritable = true
		return
	}
	f.written, f.unwritable = s, false
}
