// SPDX-License-Identifier: Apache-2.0

// Package rpc tells which request a sample served. The Engine is fed with what
// threads did on sockets and with samples, both in the order of their times, and
// says of each sample how certain the answer is. It does no I/O, and its answers
// depend on nothing but what it is fed with.
//
// A wrong label is worse than none. Where two explanations are left, none is
// picked.
//
// # Words
//
// A request is open from the read of its head to the write of the first byte of
// its answer. Interim answers (1xx) do not count; a body that is written after
// the first byte, streams too, is not the request's work any more. Who executes
// is a thread, or a goroutine in Go; of others nothing is concluded. The reader of
// a request is who read the end of its request line.
//
// How a sample gets its handler, in which models of servers, with what certainty and
// under which name, is told in docs/requests.md. Here is how that is done.
//
// # Order
//
// What the program's memory says comes first (published), then what was seen on
// sockets: of the thread or goroutine itself, of the goroutine that started it, of
// the turn of an event loop, of who answers in the end (deferred). Several open
// requests are ambiguous, none is unattributed.
//
// # Samples that wait
//
// forModel: nobody knows yet whether the process answers where it reads. forRun: an
// event loop read a head, or the head of an answer of an upstream server, and what
// it writes next tells whether it was about that. forAnswer: in a process whose
// requests change hands, what a thread answers next is what it worked on since the
// request was read and since it did something else. forChild: a goroutine that goes
// on after the request of its parent was background work all the time. Two seconds
// at most, or until Flush.
//
// # Bytes that are not reported
//
// The kernel side reports what looks like a head, and its first bytes. Pipelined
// heads behind these, the rest of a torn head, and bodies are not seen until Watch has
// taken effect. They show by answers nobody asked for. Such a connection is hidden:
// its requests are counted, and ambiguous for good.
//
// # Bodies that look like heads
//
// They are reported. A request that may be such is doubtful until it is answered, and not
// counted before (believe). An answer behind one whose length is not known, or to nobody,
// is content, unless heads may have come that were not captured (cut).
//
// # Routes
//
// Requests are counted when they are over (free), since only then nothing more can
// be learned of them: see routes.go.
//
// # Trace ids
//
// A request with a traceparent has a trace, which outlives it, for samples that wait to
// refer to. With the answer it comes into the reservoir of its handler: see
// exemplars.go.
package rpc
