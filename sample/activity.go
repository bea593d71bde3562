// SPDX-License-Identifier: Apache-2.0

package sample

// Activity is one thing a thread did that tells of requests, as the kernel side
// saw it. Activities and samples have times of one clock and are handed on in
// their order.
type Activity struct {
	// Time is CLOCK_MONOTONIC in nanoseconds, at the end of a read or write.
	Time uint64
	// PID and TID are those of Raw.
	PID, TID uint32
	// Executor is without its Parent.
	Executor Executor
	Kind     ActivityKind
	// Socket is the inode number of the socket, the same in every process that
	// has it open; or a number with its highest bit set that stands for a session
	// of TLS in a process. It may be used again once the socket is closed.
	Socket uint64
	// Nonblocking says that the socket is O_NONBLOCK: it is served by an event
	// loop or a runtime that schedules goroutines.
	Nonblocking bool
	// Bytes is how many bytes the call moved.
	Bytes int64
	// Passed is how many requests on the socket before this activity were passed
	// over: read and answered, and not made activities.
	Passed int
	// Data is the first of them, as many as were captured. It is valid during
	// the call only.
	Data []byte
}

// ActivityKind says what a thread did. The numbers are part of the kernel treaty
// (bpf/events.h) and are never reused.
type ActivityKind uint8

const (
	// Read: bytes were read from a stream socket.
	Read ActivityKind = 1
	// Write: bytes were written to a stream socket.
	Write ActivityKind = 2
	// Close: the last descriptor of a stream socket is closed.
	Close ActivityKind = 3
	// Wait: the thread asks an epoll(7) instance for events: a turn of its
	// loop has ended. Reported once after other activities of the thread.
	Wait ActivityKind = 4
)

// Executor is who executes.
type Executor struct {
	Kind ExecutorKind
	// Goroutine is the goroutine's number, Parent that of the one that started
	// it (Go 1.21 and later, else 0). Numbers are not used again.
	Goroutine, Parent uint64
}

// ExecutorKind says what stands for "the one who executes" in a program. The
// numbers are part of the kernel treaty (bpf/events.h) and are never reused.
type ExecutorKind uint8

const (
	// UnknownExecutor: nobody has looked at the program yet, or its runtime
	// schedules in a way that is not known. Nothing may be concluded from TID.
	UnknownExecutor ExecutorKind = 0
	// Thread: the thread itself.
	Thread ExecutorKind = 1
	// Goroutine: the goroutine on the thread.
	Goroutine ExecutorKind = 2
	// RuntimeExecutor: the thread executes the Go runtime, for no goroutine.
	RuntimeExecutor ExecutorKind = 3
)

// Attribute is something that a program publishes about what it executes: a label of
// Go's runtime/pprof, or an attribute of the OpenTelemetry thread context. Key and
// Value are whole, and of whatever bytes the program likes.
type Attribute struct{ Key, Value string }

// Request is what the memory of a program told, at the tick, about the request
// that the executor serves. The zero value is none.
type Request struct {
	// Source is SourceLabel or SourceGoroutine; empty for none.
	Source Source
	// Goroutine is the one that serves the request: that of the executor, or
	// its parent.
	Goroutine uint64
	// Method and Path are those of the HTTP request, Route the pattern that the
	// framework matched. Path has no query; PathCut says that it is only the
	// beginning.
	Method, Path, Route string
	PathCut             bool
	// RPC is the path of a gRPC call, /acme.shop.v1.Shop/GetItem; empty for
	// plain HTTP.
	RPC string
	// ID tells requests of one goroutine apart; it may be used again later. 0 is
	// unknown.
	ID uint64
}
