// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"strings"

	"github.com/fleetprof/fleetprof/sample"
)

// routeProofs is how many samples must say that a url_template leads to a route,
// and none that it leads to another, until requests with that template count under
// the route.
const routeProofs = 3

// learn takes that the framework matched a route for a request with a template.
func (t *handler) learn(route *handler) {
	switch {
	case t.refuted || route.labels.HTTPRoute == other:
	case t.labels.URLTemplate == "" || t.labels.URLTemplate == other || strings.Contains(t.labels.URLTemplate, rest):
		// Nothing, or many things.
	case t.route == nil:
		t.route, t.proofs = route, 1
	case t.route == route:
		t.proofs++
	default:
		t.refuted = true
	}
}

// known is the route that a template leads to, if that is learned; else the
// handler itself.
func (t *handler) known() *handler {
	if t.route == nil || t.refuted || t.proofs < routeProofs {
		return t
	}
	return t.route
}

// handler is what a request counts as. In a process whose memory does not tell of
// routes, what others of its service taught does not count.
func (r *request) handler() *handler { return r.proc.known(r.h) }

func (p *process) known(h *handler) *handler {
	if !p.routed {
		return h
	}
	return h.known()
}

// join takes that a program told the handler of the request that its memory shows,
// which was perhaps seen on a socket.
func (e *Engine) join(p *process, s *sample.Sample, h *handler) {
	q := &s.Request
	if h.labels.HTTPRoute == "" {
		return
	}
	p.routed = true
	if q.PathCut {
		return // it has the template of another path
	}
	var template *handler
	asked := head{method: []byte(q.Method)}
	if path, _, _ := strings.Cut(q.Path, "?"); asked.setTarget([]byte(path), false) {
		template = e.handlers.seen(p.service, asked.method, asked.target)
	}
	if template == nil {
		return
	}
	template.learn(h)
	x := e.known(executorKey{p.pid, sample.Goroutine, q.Goroutine})
	if x != nil && x.open == 1 && x.first.h == template && !x.first.unsure() {
		x.first.h = h
	}
}
