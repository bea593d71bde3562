// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/fleetprof/fleetprof/policy"
)

// Status is what an agent tells of the policy.
type Status struct {
	// Source is where the policy comes from, Error what was wrong with the last
	// attempt to get it.
	Source string `json:"source"`
	Error  string `json:"error,omitempty"`
	// Version is that of the policy in force, Received when it came; nil is never.
	Version  uint64     `json:"version"`
	Received *time.Time `json:"received"`
	// Restored says that it came before the agent was started; the source has not
	// answered since.
	Restored bool `json:"restored,omitempty"`
	// Time is the server's clock as the agent believes it to be.
	Time  time.Time    `json:"time"`
	Rules []RuleStatus `json:"rules"`
}

// RuleStatus is one rule with what has become of it.
type RuleStatus struct {
	Number int         `json:"number"`
	State  string      `json:"state"` // in_force or expired
	Rule   policy.Rule `json:"rule"`
	// Processes is how many processes the rule decides about.
	Processes int `json:"processes"`
}

// The states of a rule.
const (
	inForce = "in_force"
	expired = "expired"
)

// Status tells of the policy in force. matching is the number of processes that each rule
// decides about, by the rule's number.
func (f *Follower) Status(matching map[int]int) Status {
	s := f.state.Load()
	now := s.clock.now()
	status := Status{Source: f.source.String(), Version: s.policy.Version, Restored: s.restored, Time: now.UTC(), Rules: []RuleStatus{}}
	if problem := f.problem.Load(); problem != nil {
		status.Error = *problem
	}
	if !s.received.IsZero() {
		received := s.received.UTC()
		status.Received = &received
	}
	for i, r := range s.policy.Rules {
		one := RuleStatus{Number: i + 1, State: inForce, Rule: r, Processes: matching[i+1]}
		if r.Expired(now) {
			one.State, one.Processes = expired, 0
		}
		status.Rules = append(status.Rules, one)
	}
	return status
}

// Handler answers with Status in JSON, and changes nothing. matching is asked once for each
// answer.
func (f *Follower) Handler(matching func() map[int]int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(f.Status(matching())) // the client may be gone
	})
}
