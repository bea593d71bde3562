// SPDX-License-Identifier: Apache-2.0

// Package policy is the document that says what is collected: a list of rules
// from a selector of processes and containers to a decision. Agents and the
// server share it. It is pure: no files, no network, no clock; the time is
// always the caller's.
//
//	selector  which processes and containers, in the syntax of Prometheus
//	off, rate, frequency  exactly one of them: collect nothing, keep one sample
//	          in so many, or sample so often
//	until     when the rule ends by itself
//
// The first rule that matches and has not expired decides. docs/policy.md
// describes the document for its users.
package policy

import (
	"slices"
	"time"
)

// Bounds of a document.
const (
	// MaxBytes bounds a document as text. That many rules of the longest kind
	// do not fit; those that people write do, a hundred times.
	MaxBytes = 256 << 10
	// MaxRules bounds the rules: each process is held against all of them.
	MaxRules = 100
	// MaxFrequency is in samples per second and CPU.
	MaxFrequency = 999
	// MaxKeepOneIn bounds how thin a rate may be.
	MaxKeepOneIn = 1000
	// MaxBoost bounds how far ahead the end of a frequency rule may be.
	MaxBoost = 7 * 24 * time.Hour
	// MinBoost bounds how short a boost may be asked for.
	MinBoost = time.Second
	// maxSelector, maxReason and maxBy are in bytes.
	maxSelector = 1 << 10
	maxReason   = 256
	maxBy       = 128
)

// Policy is a document that has been read. The zero Policy has no rules, so that
// everything is collected by default. It is not changed once made: methods give
// a new one.
type Policy struct {
	// Version is the number that the server gave the document; 0 is none.
	Version uint64
	Rules   []Rule

	versioned bool // the text has a version, be it 0
}

// Versioned reports whether the document says which version it was made from.
func (p Policy) Versioned() bool { return p.versioned }

// Rule is one line of a policy. Exactly one of Off, KeepOneIn and Frequency is
// set.
type Rule struct {
	Selector Selector
	// Off collects nothing.
	Off bool
	// KeepOneIn keeps one sample in so many; 1 keeps all.
	KeepOneIn uint32
	// Frequency is in samples per second and CPU.
	Frequency int
	// Until is when the rule ends; zero is never.
	Until time.Time
	// Reason and By are for whoever reads the document. Nobody has checked them.
	Reason, By string

	at place // of the rule in its document
}

// Decision is what a policy says of one process or container.
type Decision struct {
	// Off says that nothing is collected.
	Off bool
	// KeepOneIn is 1 where all samples are kept.
	KeepOneIn uint32
	// Frequency is in samples per second and CPU; 0 is what the agent does anyway.
	Frequency int
	// Rule is the number of the rule that decided, from 1; 0 is none.
	Rule int
}

// Decide gives the decision of the first rule that matches and has not expired.
// value gives the value of a label, or the empty string.
func (p Policy) Decide(value func(name string) string, now time.Time) Decision {
	for i, r := range p.Rules {
		if !r.Expired(now) && r.Selector.Matches(value) {
			return Decision{Off: r.Off, KeepOneIn: max(1, r.KeepOneIn), Frequency: r.Frequency, Rule: i + 1}
		}
	}
	return Decision{KeepOneIn: 1}
}

// NextChange is when the next rule expires, and so the next time that decisions
// may differ from those of now; zero is never.
func (p Policy) NextChange(now time.Time) (next time.Time) {
	for _, r := range p.Rules {
		if !r.Until.IsZero() && !r.Expired(now) && (next.IsZero() || r.Until.Before(next)) {
			next = r.Until
		}
	}
	return next
}

// Frequencies are those of the rules that have not expired, each once, in ascending order.
func (p Policy) Frequencies(now time.Time) (all []int) {
	for _, r := range p.Live(now).Rules {
		if r.Frequency > 0 {
			all = append(all, r.Frequency)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Expired reports whether the rule has ended.
func (r Rule) Expired(now time.Time) bool { return !r.Until.IsZero() && !now.Before(r.Until) }

// Live is the policy without the rules that have expired.
func (p Policy) Live(now time.Time) Policy {
	live := Policy{Version: p.Version}
	for _, r := range p.Rules {
		if !r.Expired(now) {
			live.Rules = append(live.Rules, r)
		}
	}
	return live
}

// Unboosted is the policy without its frequency rules.
func (p Policy) Unboosted() Policy {
	p.Rules = slices.DeleteFunc(slices.Clone(p.Rules), func(r Rule) bool { return r.Frequency > 0 })
	return p
}

// Boosted is the live policy with a frequency rule put before the others, in
// place of earlier ones for the same selector. It goes behind the off rules that
// the list begins with: what is off on purpose stays off.
func (p Policy) Boosted(boost Rule, now time.Time) Policy {
	live := p.Live(now)
	off := slices.IndexFunc(live.Rules, func(r Rule) bool { return !r.Off })
	if off < 0 {
		off = len(live.Rules)
	}
	boosted := Policy{Version: p.Version, Rules: append(live.Rules[:off:off], boost)}
	for _, r := range live.Rules[off:] {
		if r.Frequency == 0 || r.Selector.text != boost.Selector.text {
			boosted.Rules = append(boosted.Rules, r)
		}
	}
	return boosted
}

// Check holds the ends of the rules against the time at which a document is
// accepted: they must be ahead, and those of frequency rules by at most MaxBoost.
// The error is Faults.
func (p Policy) Check(now time.Time) error {
	faults := p.tooLong(now)
	for i, r := range p.Rules {
		if r.Expired(now) {
			faults = append(faults, r.at.fault(i+1, "until: %s is past: leave the rule out, or give a later end", r.Until.Format(time.RFC3339)))
		}
	}
	if len(p.Rules) > MaxRules {
		faults = append(faults, Fault{Reason: tooMany(len(p.Rules))})
	}
	return faults.orNil()
}

// CheckBoosts is the part of Check that holds for accepted documents, too: they
// may have rules that have expired since.
func (p Policy) CheckBoosts(now time.Time) error { return p.tooLong(now).orNil() }

func (p Policy) tooLong(now time.Time) (faults Faults) {
	for i, r := range p.Rules {
		if r.Frequency != 0 && r.Until.Sub(now) > MaxBoost {
			faults = append(faults, r.at.fault(i+1, "until: %s is too far ahead: a frequency may be asked for for %v at most", r.Until.Format(time.RFC3339), MaxBoost))
		}
	}
	return faults
}
