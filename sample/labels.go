// SPDX-License-Identifier: Apache-2.0

package sample

// The labels samples carry: the OpenTelemetry semantic conventions with dots
// spelled as underscores, so that they are valid Prometheus label names.
// https://opentelemetry.io/docs/specs/semconv/registry/attributes/
const (
	LabelHost       = "host_name"
	LabelExecutable = "process_executable_name"
	LabelPID        = "process_pid"
	LabelThread     = "thread_name"
	LabelContainer  = "container_id"
	LabelService    = "service_name"
	LabelUnit       = "systemd_unit"

	LabelAttribution = "request_attribution"
	LabelSource      = "request_attribution_source"
	LabelHTTPMethod  = "http_request_method"
	LabelHTTPRoute   = "http_route"
	LabelURLTemplate = "url_template"
	LabelRPCMethod   = "rpc_method"
	LabelRPCSystem   = "rpc_system_name"
)

// Labels are what a window groups by. It is comparable; an empty field means
// that the label is absent. The host's name is not here unless More has one: else it
// is the same for all samples of an agent and is added when a window is encoded.
type Labels struct {
	Executable, PID, Thread, Container string
	// Unit is systemd's, of processes that are in no container.
	Unit string
	// Service is what was learned of the process until the window was cut, and so is
	// most of More.
	Service string
	// Execution is that of Process. It is no label: it tells what has the same
	// PID apart until Service is known.
	Execution uint64
	Handler
	// More has labels of other names: what a container runtime says, and what
	// relabelling rules make. A host_name here is instead of the agent's.
	More LabelSet
	// NoHost says that there shall be no host_name at all.
	NoHost bool
}

// Handler is the request a sample served, and how sure that is.
type Handler struct {
	// Attribution is how certain the rest is; empty if nobody looked.
	Attribution Attribution
	// Source is what the certainty rests on; empty without a handler.
	Source Source
	// HTTPMethod is the request's, such as GET.
	HTTPMethod string
	// HTTPRoute is the framework's own route, never guessed from a path.
	HTTPRoute string
	// URLTemplate is the path of the request with what varies taken out.
	URLTemplate string
	// RPCMethod is fully qualified: acme.shop.v1.Shop/GetItem. RPCSystem is
	// the protocol, such as grpc.
	RPCMethod, RPCSystem string
}

// Attribution is how certain it is which request a sample served. Every sample
// has exactly one, so the parts add up to the whole.
type Attribution string

const (
	// Exact: the program published it, it was read from the program's memory at
	// the tick, or the executing thread was busy with one request only.
	Exact Attribution = "exact"
	// Inferred: it follows from who answered the request, or from who started
	// the goroutine.
	Inferred Attribution = "inferred"
	// Ambiguous: one of several requests, or perhaps of none. There is no pick.
	Ambiguous Attribution = "ambiguous"
	// Unattributed: no request is known.
	Unattributed Attribution = "unattributed"
	// Runtime: the scheduler, garbage collector or compiler of the program.
	Runtime Attribution = "runtime"
)

// Source is the kind of evidence for a request, the strongest first.
type Source string

const (
	SourceLabel     Source = "label"     // published by the program
	SourceGoroutine Source = "goroutine" // the program's memory, found from its goroutine
	SourceSocket    Source = "socket"    // what the thread read from its sockets
	SourceDeferred  Source = "deferred"  // who answered, known afterwards
)

// OfSample reports whether a label may differ between samples of one process, so
// that nothing decided once for the process can depend on it.
func OfSample(name string) bool {
	switch name {
	case LabelThread, LabelAttribution, LabelSource, LabelHTTPMethod, LabelHTTPRoute, LabelURLTemplate, LabelRPCMethod, LabelRPCSystem:
		return true
	}
	return false
}

// Each calls f for every label that is present, ordered by name.
func (l Labels) Each(f func(name, value string)) {
	more := l.More
	for _, p := range [...][2]string{
		{LabelContainer, l.Container},
		{LabelHTTPMethod, l.HTTPMethod},
		{LabelHTTPRoute, l.HTTPRoute},
		{LabelExecutable, l.Executable},
		{LabelPID, l.PID},
		{LabelAttribution, string(l.Attribution)},
		{LabelSource, string(l.Source)},
		{LabelRPCMethod, l.RPCMethod},
		{LabelRPCSystem, l.RPCSystem},
		{LabelService, l.Service},
		{LabelUnit, l.Unit},
		{LabelThread, l.Thread},
		{LabelURLTemplate, l.URLTemplate},
	} {
		more = more.eachBelow(p[0], f)
		if p[1] != "" {
			f(p[0], p[1])
		}
	}
	more.Each(f)
}

// Get is the value of a label, "" if it is absent.
func (l Labels) Get(name string) (value string) {
	l.Each(func(n, v string) {
		if n == name {
			value = v
		}
	})
	return value
}
