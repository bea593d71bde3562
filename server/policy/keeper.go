// SPDX-License-Identifier: Apache-2.0

// Package policy keeps the policy of the fleet (the document of the package of
// that name at the top) and answers for it:
//
//	GET  /api/v1/policy        the document, its version as ETag; with
//	                           If-None-Match and ?wait=60s a long poll
//	PUT  /api/v1/policy        another document, If-Match against lost updates
//	POST /api/v1/policy/boost  one more rule, for a time
//
// All bodies are JSON. Agents poll, so nothing here knows of agents: a change
// wakes whoever waits. FORMAT.md describes the files.
package policy

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	rules "github.com/fleetprof/fleetprof/policy"
)

// errConflict says that the document to be replaced is no longer the one in
// force.
var errConflict = errors.New("the policy has changed meanwhile: get it again and repeat the change on that")

// Snapshot is one version of the policy.
type Snapshot struct {
	Policy rules.Policy
	// Tag names the version and its bytes, so that a version that a restored
	// directory gives out once more is told from the first.
	Tag string
	// Body is the document in JSON.
	Body []byte
}

func newSnapshot(p rules.Policy) (Snapshot, error) {
	body, err := p.MarshalJSON()
	if err != nil {
		return Snapshot{}, fmt.Errorf("write policy: %w", err)
	}
	sum := sha256.Sum256(body)
	return Snapshot{p, fmt.Sprintf("%d-%x", p.Version, sum[:6]), body}, nil
}

// digest is that of a version's document in the audit log.
func digest(s Snapshot) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(s.Body)) }

// Options for Open.
type Options struct {
	// Dir is made if it is missing. Nobody else may write there.
	Dir        string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Keeper keeps the policy, on disk too. It is safe for concurrent use.
type Keeper struct {
	dir     directory
	log     *slog.Logger
	metrics *metrics

	writing sync.Mutex // held by the one who changes the policy, also while on disk
	mu      sync.Mutex // of what follows
	current Snapshot
	changed chan struct{} // closed when current is replaced
	closing chan struct{} // closed by Release
}

// Open reads the policy in force.
func Open(o Options) (*Keeper, error) {
	k := &Keeper{dir: directory(o.Dir), log: o.Logger, changed: make(chan struct{}), closing: make(chan struct{})}
	p, err := k.dir.open()
	if err != nil {
		return nil, err
	}
	if k.current, err = newSnapshot(p); err != nil {
		return nil, err
	}
	if k.metrics, err = newMetrics(o.Registerer, k); err != nil {
		return nil, fmt.Errorf("register policy metrics: %w", err)
	}
	return k, nil
}

// Current is the version in force.
func (k *Keeper) Current() Snapshot {
	s, _ := k.look()
	return s
}

func (k *Keeper) look() (current Snapshot, changed <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current, k.changed
}

// Wait gives the version in force once it is another than the one of the tag,
// and at the latest when ctx ends or Release is called.
func (k *Keeper) Wait(ctx context.Context, tag string) Snapshot {
	for {
		s, changed := k.look()
		if s.Tag != tag {
			return s
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s
		case <-k.closing:
			return s
		}
	}
}

// Release lets all who wait go, for good. It is idempotent.
func (k *Keeper) Release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.closing:
	default:
		close(k.closing)
	}
}

// Author is who changes the policy: what the audit log says of it.
type Author struct {
	// Remote is the address it comes from, User who it is as far as that was
	// asked, By what is said there.
	Remote, User, By string
}

// Set puts another document in the place of the one with one of the tags; nil is
// any. Errors are Faults of the document, errConflict, or of the disk.
func (k *Keeper) Set(p rules.Policy, tags []string, who Author, now time.Time) (Snapshot, error) {
	return k.change("set", who, now, func(current Snapshot) (rules.Policy, error) {
		if tags != nil && !slices.Contains(tags, current.Tag) {
			return p, errConflict
		}
		return p, nil
	})
}

// Boost adds a rule that ParseBoost has read.
func (k *Keeper) Boost(boost rules.Rule, who Author, now time.Time) (Snapshot, error) {
	return k.change("boost", who, now, func(current Snapshot) (rules.Policy, error) {
		return current.Policy.Boosted(boost, now), nil
	})
}

// change makes the next version, first on disk and then for those who wait.
func (k *Keeper) change(what string, who Author, now time.Time, next func(Snapshot) (rules.Policy, error)) (Snapshot, error) {
	k.writing.Lock()
	defer k.writing.Unlock()
	current := k.Current()
	p, err := next(current)
	if err == nil {
		err = p.Check(now)
	}
	if err != nil {
		return Snapshot{}, err
	}
	p.Version = current.Policy.Version + 1
	s, err := newSnapshot(p)
	if err != nil {
		return Snapshot{}, err
	}
	if len(s.Body) >= rules.MaxBytes {
		return Snapshot{}, rules.Faults{{Reason: fmt.Sprintf("the policy would have %d bytes: want less than %d", len(s.Body), rules.MaxBytes)}}
	}
	entry := auditEntry{
		Time: now.UTC(), Remote: who.Remote, User: who.User, By: who.By, What: what, Version: p.Version,
		Before: digest(current), After: digest(s),
	}
	entry.describe(rules.Changes(current.Policy, p))
	if err := k.dir.write(s, entry); err != nil {
		return Snapshot{}, err
	}
	if err := k.dir.trim(); err != nil {
		k.metrics.untrimmed.Inc()
		k.log.Warn("old versions of the policy stay on disk", "error", err)
	}
	k.log.Info("policy changed", "version", p.Version, "rules", len(p.Rules), "what", what,
		"remote", who.Remote, "user", who.User, "by", who.By, "before", entry.Before, "after", entry.After)
	k.publish(s)
	return s, nil
}

func (k *Keeper) publish(s Snapshot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current = s
	close(k.changed)
	k.changed = make(chan struct{})
}
