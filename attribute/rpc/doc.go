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
// # Evidence, the strongest first
//
//   - Published: the program's memory names the request at the tick. Exact, or
//     inferred if it is that of the goroutine that started this one.
//   - Socket, thread or goroutine that does one thing after the other: it has
//     one open request. Exact.
//   - Socket, parent goroutine: that one has an open request. Inferred.
//   - Socket, event loop: see Turns. Exact or inferred.
//   - Deferred: see Handoff. Inferred.
//
// Several open requests are ambiguous, none is unattributed. A request ends with
// its answer; when its socket is closed; when a thread whose sockets block reads
// a request from another one; when activities were lost; after ten minutes.
//
// # Models
//
// Until a process has answered a request, nobody knows whether who reads is who
// works: samples wait for the answer (two seconds at most, or until Flush; then
// they are ambiguous).
//
// Handoff: if somebody else answers, requests of the process change hands, until
// that was not seen for a minute. Then a sample of anybody in the process waits
// for what its thread answers next, and belongs to that request if it came after
// the request was read and after the thread's last answer or read of a head. All
// others are unattributed. A thread with an event loop may have done other things
// in between: its samples count in brackets only (see Turns), as inferred.
//
// # Turns
//
// A thread with an event loop (its sockets do not block) works on many requests
// at once. Callbacks run right after the read that leads to them, but so do those
// of timers in the same turn, for requests or none, and nothing of that is a
// system call. But for one thing: what a thread writes for a request after it read
// for the same, with no other read and no epoll_wait(2) in between, is a bracket. A
// sample of a run, which begins with reading a head, or the head of an answer of
// an upstream server, waits for how the run ends: with an answer to the request,
// or one sent upstream for it, it served the request; else it is ambiguous.
//
// A bracket is no proof either: a handler that waits for a timer that is due at
// once is resumed in the same turn, and a callback of others may come before. A
// program that does so also answers requests out of the blue, in turns that read
// nothing of them, soon and often. So brackets are exact while that was not seen
// for a minute and no other request is open; inferred with others open, or if it
// is rare (2 % of the answers); ambiguous otherwise. After an upstream answer they
// are inferred even so. Where epoll_wait(2) was never seen turns are not known:
// inferred if one request is open.
//
// Upstream: a request that is written to a socket in a run is tied to the run's
// request; its answer begins the next run of that. If it is written later (a
// connection had to be made), it is tied to the only open request or to the oldest
// with the same method and path, and never exact.
//
// # Children
//
// A goroutine that a handler started and that goes on after it is background work.
// It shows when the goroutine is seen after the request, or during the parent's
// next one, so claims for children wait two seconds. Background work that
// sleeps longer than that is taken for a child of one request, once.
//
// # Pipelining
//
// Heads in one read, or read before an answer is written, wait for their answers
// in order. Samples are ambiguous while more than one is open; a server may answer
// several with one write. If bytes of such a connection were not captured,
// requests or answers may have been missed, and the connection stays ambiguous.
//
// # url_template
//
// Query, fragment, matrix parameters and authority are cut off first. Then,
// segment by segment:
//
//	{number}     digits, also with - _ . : ~ , + between them
//	{date}       2006-01-02
//	{uuid}       8-4-4-4-12 hexadecimal digits
//	{hash}       8 or more hexadecimal digits, of them a decimal one; 6 in a part
//	             between - _ . : ~ , +
//	{id}         anything else that varies: a part that is a number, has four digits
//	             in a row, 16 letters and digits, digits in two places, or capital
//	             letters all over; what is percent-encoded, not ASCII, has an @, or
//	             more than 64 bytes
//	{rest}       what follows the eighth segment, the 120th byte, or the last byte
//	             that was captured
//	{authority}  the target of CONNECT
//	*            the path is not known (HTTP/2 joined in the middle), or OPTIONS *
//
// The extension of a file is kept: /app.3f2a9c.js is /{hash}.js. Words of letters
// only are kept, whatever they mean: /u/jane stays. A service has 500 handlers at
// most; requests of the rest are `other`. Methods that RFC 9110 and RFC 5789 do not
// know are `_OTHER`.
//
// # Bounds
//
// 16,384 sockets, as many executors and samples that wait, 32,768 open requests;
// the least recently used give way, counted. A sample that gives way is decided by
// what is known by then.
package rpc
