// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"errors"
	"fmt"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

var (
	// ErrNotGo reports a file without what every Go program has since Go 1.20:
	// .go.buildinfo and a .gopclntab in the layout of that version.
	ErrNotGo = errors.New("not a Go program of Go 1.20 or later")
	// ErrDamaged reports tables that contradict themselves.
	ErrDamaged = errors.New("damaged Go tables")
)

// UnsupportedError says why nothing can be said about a Go program.
type UnsupportedError struct {
	// Version is the Go version the program was built with, as it says itself.
	Version string
	Reason  string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("unsupported Go program (%s): %s", e.Version, e.Reason)
}

// Absent is the offset of what a program does not have.
const Absent = -1

// Layout is where a Go program keeps what is read from its memory. All offsets
// are bytes, Absent if the program has no such field. FORMAT.md says in which
// order to follow them.
type Layout struct {
	// Version is the Go version the program was built with, such as go1.26.8.
	Version string
	// TLS is where the g of a thread stands, counted from its thread pointer
	// (FS base), negative. It is 0 on arm64, where the g is in register x28
	// while Go code executes.
	TLS int64
	Runtime
	HTTP
	// Served are the goroutines whose request can be read, one for each
	// function that such a goroutine may start at.
	Served []Served
	// Refused says of each kind of server that is in the program but not in
	// Served why.
	Refused []error
	// Scheduler is the code at which the stacks end on which the runtime executes for
	// no goroutine.
	Scheduler []Code
}

// Code is a function's, by addresses as linked.
type Code struct{ Start, End uint64 }

// Runtime are offsets in the runtime's own records.
type Runtime struct {
	// Of runtime.g. GLabels holds the pprof labels, GStartPC the address of the
	// function the goroutine started at, GSchedSP its SP when it left its stack
	// last. GParentGoid is absent before Go 1.21.
	GStackLo, GStackHi, GM, GSchedSP, GGoid, GParentGoid, GStartPC, GLabels int64
	// Of runtime.m. MG0 holds the g of the scheduler; MVDSOSP holds SP of the
	// goroutine while its thread executes code of the vDSO, else 0; it is absent
	// where the runtime's code does not tell it.
	MG0, MCurg, MVDSOSP int64
	// LabelList is where the slice stands in what GLabels points to; absent before Go
	// 1.24, where that is a map.
	LabelList int64
}

// HTTP are offsets in net/http.Request and net/url.URL: strings (pointer and
// length), and RequestURL a pointer. RequestPattern is absent before Go 1.23.
// They mean nothing if Served has no HTTP.
type HTTP struct {
	RequestMethod, RequestURL, RequestPattern, URLPath int64
}

// Kind says how a goroutine serves requests.
type Kind uint8

const (
	// HTTP1: one request after the other on a connection of net/http.
	HTTP1 Kind = iota + 1
	// HTTP2: one request of net/http.
	HTTP2
	// GRPC: one call of google.golang.org/grpc.
	GRPC
)

func (k Kind) String() string {
	switch k {
	case HTTP1:
		return "HTTP/1"
	case HTTP2:
		return "HTTP/2"
	case GRPC:
		return "gRPC"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Served are goroutines that serve requests. With word(x) the 8 bytes at x and
// hi the upper end of the goroutine's stack:
//
//	sp    < hi - Depth             or nothing can be said
//	p     = word(hi - Slot)
//	state = word(p + State)        p itself if State is absent
//	        word(state + Owner) == word(hi - OwnerSlot)      or nothing is served
//	        byte(state + Done) == 0                          or nothing is served
//	req   = word(state + Request)  state itself if Request is absent
//	RPC   = string(req + Method)   of GRPC, must begin with a slash; else see HTTP
//
// A pointer that is nil means that nothing is served.
type Served struct {
	// StartPC is the address as linked of the function the goroutine started at.
	StartPC uint64
	// Probe is the address of an instruction of that function at which a probe
	// costs little and is hit once by each goroutine; 0 if there is none.
	Probe uint64
	Kind  Kind
	// Slot and OwnerSlot are bytes below the upper end of the stack.
	Slot, OwnerSlot int64
	// Depth is how far below the upper end of the stack SP is at least, in
	// bytes, once the slots hold what they are for.
	Depth int64
	Chain
}

// Chain are offsets in the records that lead from a slot to the request.
type Chain struct {
	State, Owner, Done, Request, Method int64
}

// Read finds the layout of a program. It returns ErrNotGo, ErrDamaged or an
// *UnsupportedError, wrapped, where it cannot. What it reads at a time and keeps
// is bounded. It is safe for concurrent use if the file's reader is.
func Read(f *objfile.File) (*Layout, error) {
	info, err := readBuildInfo(f)
	if err != nil {
		return nil, fmt.Errorf("read Go build information: %w", err)
	}
	m, err := machineOf(f.Machine)
	if err != nil {
		return nil, &UnsupportedError{info.version, err.Error()}
	}
	o, err := offsetsOf(f, info)
	if err != nil {
		return nil, err
	}
	t, err := openFunctions(f)
	if err != nil {
		return nil, fmt.Errorf("read Go functions: %w", err)
	}
	all := servers()
	named, err := t.named(wanted(all))
	if err != nil {
		return nil, fmt.Errorf("find Go functions: %w", err)
	}
	s := finder{machine: m, elf: f.Machine, table: t, named: named}
	l := &Layout{Version: info.version, Runtime: o.Runtime, HTTP: o.HTTP, Scheduler: s.scheduler()}
	if l.TLS, err = s.threadPointer(); err != nil {
		return nil, &UnsupportedError{info.version, err.Error()}
	}
	if err := s.checkRuntime(&l.Runtime); err != nil {
		return nil, &UnsupportedError{info.version, err.Error()}
	}
	for _, server := range all {
		served, err := s.find(server, server.chain(o))
		if err != nil {
			l.Refused = append(l.Refused, fmt.Errorf("%s server %s: %w", server.kind, server.callee, err))
		}
		l.Served = append(l.Served, served...)
	}
	return l, nil
}
