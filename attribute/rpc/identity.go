// SPDX-License-Identifier: Apache-2.0

package rpc

import "time"

// Identity is what the requests of a process count as.
type Identity struct {
	// Service is the service_name of metrics and exemplars.
	Service string
	// Keep is false if nothing shall be told of the process. Its requests are followed all
	// the same, and counted as withheld.
	Keep bool
	// Final is false while more may be learned that this rests on.
	Final bool
}

const (
	// identifyEvery is how often a process is asked about at most, until that is final.
	identifyEvery = 100 * time.Millisecond
	// identifyFor is for how long: what is known then is all.
	identifyFor = 3 * time.Second
)

// identified gives a process as it is to be counted now.
func (e *Engine) identified(p *process) *process {
	if p.final || p.asked != 0 && e.now-p.asked < uint64(identifyEvery) {
		return p
	}
	settled := e.now-p.since >= uint64(identifyFor)
	id := e.options.Identify(p.pid, settled)
	p.asked, p.final = max(e.now, 1), id.Final || settled
	p.service = e.handlers.withheld
	if id.Keep {
		p.service = e.handlers.service(id.Service)
	}
	return p
}

// Reconsider takes that processes may have other identities from now on. Requests
// that are open are counted as they were.
func (e *Engine) Reconsider() {
	for _, p := range e.processes {
		p.final, p.asked, p.since = false, 0, e.now
	}
}
