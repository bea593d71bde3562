// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"slices"
	"strings"

	"github.com/fleetprof/fleetprof/sample"
)

// names are what a program publishes of the handler that executes.
type names struct {
	method, route, template, rpc, service, system string
}

// namesOf picks them from all that a program publishes, in the spelling of
// OpenTelemetry's semantic conventions or of labels here, current or deprecated:
// https://opentelemetry.io/docs/specs/semconv/registry/attributes/. Of an attribute
// that comes twice the last one counts.
func namesOf(published []sample.Attribute) (n names) {
	for _, a := range published {
		switch a.Key {
		case "http.request.method", sample.LabelHTTPMethod:
			n.method = a.Value
		case "http.route", sample.LabelHTTPRoute:
			n.route = a.Value
		case "url.template", sample.LabelURLTemplate:
			n.template = a.Value
		case "rpc.method", sample.LabelRPCMethod:
			n.rpc = strings.TrimPrefix(a.Value, "/")
		case "rpc.service", "rpc_service":
			n.service = a.Value
		case "rpc.system", "rpc_system", "rpc.system.name", sample.LabelRPCSystem:
			n.system = rpcSystem(a.Value)
		}
	}
	if !strings.Contains(n.rpc, "/") { // deprecated: the method alone, beside its service
		if n.service == "" {
			n.rpc = ""
		} else if n.rpc != "" {
			n.rpc = n.service + "/" + n.rpc
		}
	}
	return n
}

const systemGRPC = "grpc"

// rpcSystem is a value of rpc.system.name or the deprecated rpc.system that
// OpenTelemetry has a name for, or _OTHER.
func rpcSystem(name string) string {
	known := [...]string{
		systemGRPC, "connectrpc", "dubbo", "jsonrpc", "apache_dubbo", "connect_rpc", "dotnet_wcf", "java_rmi", "onc_rpc",
	}
	if slices.Contains(known[:], name) {
		return name
	}
	return otherMethod
}

// agree reports whether a handler has all these names.
func (n names) agree(h sample.Handler) bool {
	for _, pair := range [...][2]string{
		{n.method, h.HTTPMethod}, {n.route, h.HTTPRoute}, {n.template, h.URLTemplate}, {n.rpc, h.RPCMethod}, {n.system, h.RPCSystem},
	} {
		if pair[0] != "" && pair[0] != pair[1] {
			return false
		}
	}
	return true
}

// labelled judges by what the program publishes; ok is false if that does not name a
// handler. Where the program's memory agrees, it tells what was left out.
func (e *Engine) labelled(s *sample.Sample) (v verdictOf, ok bool) {
	if len(s.Published) == 0 {
		return v, false
	}
	n := namesOf(s.Published)
	if n.rpc == "" && n.route == "" && n.template == "" {
		return v, false
	}
	p, h := e.inMemory(s)
	if p == nil {
		p = e.process(s.Process.PID)
	}
	switch {
	case h != nil && n.agree(h.labels):
	case n.rpc != "":
		h = e.handlers.rpc(p.service, n.system, n.rpc)
	case n.route != "":
		h = e.handlers.route(p.service, n.method, n.route)
	default:
		h = e.handlers.template(p.service, n.method, n.template)
	}
	if s.Request.Goroutine == s.Executor.Goroutine && s.Request.Source != "" {
		e.join(p, s, h)
	}
	v.claim = claim{attribution: sample.Exact, source: sample.SourceLabel, h: h}
	return v, true
}
