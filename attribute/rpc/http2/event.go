// SPDX-License-Identifier: Apache-2.0

package http2

// Direction is which way bytes went, seen from the program that is watched.
type Direction uint8

const (
	// Read: the program read them.
	Read Direction = 0
	// Write: the program wrote them.
	Write Direction = 1
)

// Unknown stands for a value that cannot be told: that of a field which was not
// seen, or whether the block has such a field.
const Unknown = "*"

// Kind is what happened.
type Kind uint8

const (
	// Request: a client opened a stream. If Dir is Read, the program serves it;
	// if Write, it waits for the answer.
	Request Kind = iota + 1
	// Response: the head of the answer. Interim ones (status 1xx) are no events.
	Response
	// EndStream: this side sends no more on the stream, perhaps after trailers.
	EndStream
	// Reset: either side ended the stream at once.
	Reset
	// GoAway: this side takes no new streams.
	GoAway
	// Dropped: more than MaxStreams are open, and this one, the oldest, is not
	// followed any more.
	Dropped
	// Gap: bytes of this direction were missed, and with them perhaps any of
	// the above.
	Gap
)

// Event is one thing that happened on a connection. Strings stay valid.
type Event struct {
	Kind Kind
	// Dir is the way the frame went that tells of it.
	Dir Direction
	// Stream is the number of the stream, 0 for Gap. For GoAway it is the last
	// that may still be answered.
	Stream uint32
	// Of a Request. Each may be Unknown; a field that the request does not have
	// is empty. Path has no query. (The path of OPTIONS * is Unknown, too.)
	Method, Path, ContentType, Traceparent string
	// Of a Response and of an EndStream with trailers: :status (three digits) and
	// grpc-status, empty or Unknown as above.
	Status, GRPCStatus string
	// Code is the error code of a Reset or GoAway (RFC 9113, section 7); the
	// highest number if it was not seen.
	Code uint32
}
