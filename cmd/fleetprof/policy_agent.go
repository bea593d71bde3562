// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"time"

	"github.com/fleetprof/fleetprof/policy/remote"
	serverpolicy "github.com/fleetprof/fleetprof/server/policy"
)

// policyFlags are the flags of an agent that is told what to collect.
type policyFlags struct {
	Policy     string `help:"File with the policy that this agent obeys, instead of that of a server." placeholder:"FILE"`
	PolicyFrom string `help:"Server whose policy this agent obeys, or none. Default: the first http(s) store." placeholder:"URL"`
}

// check refuses what can be no source.
func (f policyFlags) check(stores []string) error {
	if f.Policy != "" && f.PolicyFrom != "" {
		return badFlag("policy", "cannot be given together with --policy-from: an agent obeys one policy")
	}
	if _, err := f.server(stores); err != nil {
		return badFlag("policy-from", "is wrong: %w", err)
	}
	return nil
}

// source is where the policy comes from, and where it is kept for a restart; nil is nowhere.
func (f policyFlags) source(stores []string, store remote.Store) (from policies, err error) {
	if f.Policy == "" {
		from.store = store
		from.source, err = f.server(stores)
		return from, err
	}
	from.source, err = openPolicyFile(f.Policy) // which need not be kept
	return from, err
}

// server is the one whose policy is obeyed; nil is none.
func (f policyFlags) server(stores []string) (remote.Source, error) {
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
