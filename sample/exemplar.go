// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"encoding/hex"
	"errors"
	"time"
)

// Exemplars are some requests of one window that carried trace ids, as a document
// in JSON: it lies beside the window's profile, so that samples need no such label.
type Exemplars struct {
	// Start is wall-clock time; the window covers [Start, Start+Duration).
	Start     time.Time     `json:"start"`
	Duration  time.Duration `json:"duration_ns"`
	Exemplars []Exemplar    `json:"exemplars"`
}

// Exemplar is one request that carried a traceparent, W3C Trace Context section 3.2.
type Exemplar struct {
	TraceID TraceID `json:"trace_id"`
	// SpanID is the header's parent-id: the span of the client.
	SpanID SpanID `json:"span_id"`
	// Sampled says that the caller may have recorded the trace.
	Sampled bool `json:"sampled"`
	// Start is when its first bytes were read; Duration is from there to the first
	// byte of the answer written.
	Start    time.Time     `json:"start"`
	Duration time.Duration `json:"duration_ns"`
	// CPU is the CPU time of the samples that are exact or inferred to be of this very
	// request; nil where samples can be bound to handlers only.
	CPU *time.Duration `json:"cpu_ns,omitempty"`
	// StatusClass is 2xx to 5xx, empty if unknown.
	StatusClass string `json:"status_class,omitempty"`
	// Labels are host_name, service_name, and those that name the handler.
	Labels map[string]string `json:"labels"`
}

// MaxExemplars bounds those of one window.
const MaxExemplars = 1000

// The ids of W3C Trace Context, section 3.2.2. Their text is lower-case hexadecimal;
// all zeros is not valid.
type (
	TraceID [16]byte
	SpanID  [8]byte
)

// String gives 32 digits.
func (id TraceID) String() string { return hex.EncodeToString(id[:]) }

// String gives 16 digits.
func (id SpanID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText gives what String does.
func (id TraceID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// MarshalText gives what String does.
func (id SpanID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText takes nothing but valid ids.
func (id *TraceID) UnmarshalText(text []byte) error { return decodeID(id[:], text) }

// UnmarshalText takes nothing but valid ids.
func (id *SpanID) UnmarshalText(text []byte) error { return decodeID(id[:], text) }

var errID = errors.New("not a trace or span id in lower-case hexadecimal")

func decodeID(id, text []byte) error {
	if len(text) != hex.EncodedLen(len(id)) {
		return errID
	}
	zero := true
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return errID
		}
		zero = zero && c == '0'
	}
	if zero {
		return errID
	}
	_, err := hex.Decode(id, text)
	return err
}
