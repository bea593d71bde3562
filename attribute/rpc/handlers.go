// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"bytes"
	"hash/maphash"
	"strings"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// other stands for every handler, and every service, beyond a bound.
	other = "other"
	// otherMethod is what OpenTelemetry says of a method that is not known.
	otherMethod = "_OTHER"

	// maxServices bounds the services with metrics of their own: a host runs
	// tens of different programs that serve requests. With `other` and the one that is
	// withheld, their numbers fit into a byte.
	maxServices = 254
	// maxHandlers bounds the handlers of all services: with its metrics, one takes
	// 5 KiB. Those beyond count for a service `other`.
	maxHandlers = 4096
	// maxCached bounds the paths whose handler is remembered, at some 50 bytes
	// each. Paths with ids come once, so the cache is simply emptied when full.
	maxCached = 16384
)

// handler is one thing a service does on request, with its metrics.
type handler struct {
	labels   sample.Handler
	requests prometheus.Counter
	errors   prometheus.Counter
	duration prometheus.Observer
	cpu      prometheus.Counter

	// Of a template: the route that the framework says it leads to, how many
	// samples said so, and whether others said otherwise.
	route   *handler
	proofs  int
	refuted bool
}

// service is what requests are counted by.
type service struct {
	name     string
	number   uint64
	withheld bool // nothing is told of it
	handlers map[string]*handler
	// distinct is how many of them count against the bound.
	distinct int
}

// handlers finds the handler of a request.
type handlers struct {
	perService int
	metrics    *requestMetrics
	services   map[string]*service
	withheld   *service // all of those of which nothing is told
	distinct   int      // handlers of all of them
	cache      map[uint64]*handler
	seed       maphash.Seed
	hash       maphash.Hash
	scratch    []byte
}

func newHandlers(perService int, m *requestMetrics) *handlers {
	h := &handlers{
		perService: perService, metrics: m,
		services: make(map[string]*service), cache: make(map[uint64]*handler), seed: maphash.MakeSeed(),
	}
	h.withheld = &service{number: maxServices + 1, withheld: true, handlers: make(map[string]*handler)}
	h.hash.SetSeed(h.seed)
	return h
}

func (h *handlers) service(name string) *service {
	if s := h.services[name]; s != nil {
		return s
	}
	if len(h.services) >= maxServices && name != other {
		return h.service(other)
	}
	name = strings.Clone(strings.ToValidUTF8(name, "\uFFFD"))
	s := &service{name: name, number: uint64(len(h.services)), handlers: make(map[string]*handler)}
	h.services[name] = s
	return s
}

// The kinds of names a handler can have, and the first byte of its key.
const (
	byTemplate = 't'
	byRoute    = 'r'
	byRPC      = 'g'
)

// identity is a 64-bit hash of what a request asks for, seeded, so that nobody
// outside can make two of them equal. It is never 0.
func (h *handlers) identity(s *service, kind byte, method, name []byte) uint64 {
	h.hash.Reset()
	_ = h.hash.WriteByte(kind) // never fails
	_ = h.hash.WriteByte(byte(s.number))
	_ = h.hash.WriteByte(byte(len(method)))
	_, _ = h.hash.Write(method)
	_, _ = h.hash.Write(name)
	return h.hash.Sum64() | 1
}

// path gives the handler for a method and a path without a query.
func (h *handlers) path(s *service, method, path []byte, cut bool) (*handler, uint64) {
	id := h.identity(s, byTemplate, method, path)
	if found := h.cache[id]; found != nil && !cut {
		return found, id
	}
	key := h.key(byTemplate, method)
	from := len(key)
	key = appendTemplate(key, path, cut)
	found := h.find(s, key, from)
	if !cut {
		if len(h.cache) >= maxCached {
			clear(h.cache)
		}
		h.cache[id] = found
	}
	return found, id
}

// seen gives the handler for a method and a path, nil if no request had it yet.
func (h *handlers) seen(s *service, method, path []byte) *handler {
	key := appendTemplate(h.key(byTemplate, method), path, false)
	h.scratch = key
	return s.handlers[string(key)]
}

// unknown gives the handler of requests of which nothing is known.
func (h *handlers) unknown(s *service) *handler {
	found, _ := h.path(s, nil, unknownPath, false)
	return found
}

// route gives the handler for a route the framework matched.
func (h *handlers) route(s *service, method, route string) *handler {
	key := h.key(byRoute, []byte(method))
	return h.find(s, append(key, route...), len(key))
}

// template gives the handler for a template that the program itself tells.
func (h *handlers) template(s *service, method, template string) *handler {
	key := h.key(byTemplate, []byte(method))
	return h.find(s, append(key, template...), len(key))
}

// rpc gives the handler for a method of an RPC system, which may have the slash
// before it that it has as a path. system is "" or one that rpcSystem gives.
func (h *handlers) rpc(s *service, system, method string) *handler {
	key := append(append(append(h.scratch[:0], byRPC), system...), 0)
	return h.find(s, append(key, strings.TrimPrefix(method, "/")...), len(key))
}

func (h *handlers) key(kind byte, method []byte) []byte {
	if len(method) > 0 && !knownMethod(method) {
		method = []byte(otherMethod)
	}
	h.scratch = append(append(append(h.scratch[:0], kind), method...), 0)
	return h.scratch
}

// find looks up a key: kind, method or RPC system, 0, name. Beyond the bounds it is
// that of `other`, one for each of what comes before.
func (h *handlers) find(s *service, key []byte, name int) *handler {
	h.scratch = key
	if found := s.handlers[string(key)]; found != nil {
		return found
	}
	if h.distinct >= maxHandlers && !s.withheld {
		s = h.service(other)
	}
	if s.distinct >= h.perService || h.distinct >= maxHandlers {
		key = append(key[:name], other...)
		h.scratch = key
		if found := s.handlers[string(key)]; found != nil {
			return found
		}
	}
	s.distinct++
	h.distinct++
	text := strings.ToValidUTF8(string(key[name:]), "\uFFFD")
	method := string(bytes.TrimSuffix(key[1:name], []byte{0}))
	labels := sample.Handler{HTTPMethod: method}
	switch key[0] {
	case byTemplate:
		labels.URLTemplate = text
	case byRoute:
		labels.HTTPRoute = text
	case byRPC:
		labels = sample.Handler{RPCMethod: text, RPCSystem: method}
	}
	made := h.metrics.handler(s, labels)
	s.handlers[string(key)] = made
	return made
}
