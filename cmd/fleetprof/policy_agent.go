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
