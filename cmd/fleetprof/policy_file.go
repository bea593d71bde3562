// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/fleetprof/fleetprof/cmd/fleetprof/config"
	"github.com/fleetprof/fleetprof/policy/remote"
)

// policyFile is a policy that lies beside the agent, as a source: it is read again when
// it has changed, as the configuration is. Its rules end by the clock of this host. Not safe
// for concurrent use.
type policyFile struct {
	path    string
	watcher *config.Watcher
	current remote.Answer // the last good one
	wrong   bool          // the file has changed since, and is no policy
}

// openPolicyFile reads a policy; it must be right.
func openPolicyFile(path string) (*policyFile, error) {
	f := &policyFile{path: path, watcher: config.Watch(path)}
	var err error
	f.current, err = f.read()
	return f, err
}

func (f *policyFile) String() string { return "file: " + f.path }

// Next waits for another policy. What is wrong with a file is told once: until that has
// changed there is no other answer, however short the wait.
func (f *policyFile) Next(ctx context.Context, tag string, wait time.Duration) (remote.Answer, error) {
	if tag != f.current.Tag {
		f.current.Time = time.Now()
		return f.current, nil
	}
	end := time.After(wait)
	if f.wrong {
		end = nil
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return remote.Answer{}, ctx.Err()
		case <-end:
			return remote.Answer{Unchanged: true, Time: time.Now()}, nil
		case <-look.C:
		}
		if !f.watcher.Changed() {
			continue
		}
		next, err := f.read()
		f.wrong = err != nil
		if err != nil {
			return next, err
		}
		next.Unchanged = next.Tag == f.current.Tag
		f.current.Policy, f.current.Tag = next.Policy, next.Tag
		return next, nil
	}
}

// read reads the file and checks it as what a server has in force.
func (f *policyFile) read() (a remote.Answer, err error) {
	text, err := config.Read(f.path)
	if err != nil {
		return a, fmt.Errorf("read policy: %w", err)
	}
	sum := sha256.Sum256(text)
	a.Time, a.Tag = time.Now(), hex.EncodeToString(sum[:])
	if a.Policy, err = parsePolicyFile(f.path, text); err != nil {
		return a, err
	}
	if err := a.Policy.CheckBoosts(a.Time); err != nil {
		return a, fmt.Errorf("read policy %s:\n%w", f.path, err)
	}
	return a, nil
}
