// SPDX-License-Identifier: Apache-2.0

package rpc

import "github.com/fleetprof/fleetprof/sample"

// traceparent is what is used of a header of that name.
type traceparent struct {
	trace   sample.TraceID
	span    sample.SpanID
	sampled bool
}

// The places of the fields in version-format, W3C Trace Context Level 2 section 3.2.2:
// version "-" trace-id "-" parent-id "-" trace-flags.
const (
	versionEnd      = 2
	traceEnd        = versionEnd + 1 + 2*len(sample.TraceID{})
	spanEnd         = traceEnd + 1 + 2*len(sample.SpanID{})
	traceparentSize = spanEnd + 1 + 2
)

// parseTraceparent reads the value of the header. What follows the flags in versions
// later than 00 is passed over, as section 3.2.4 asks for.
func parseTraceparent(v []byte) (p traceparent, ok bool) {
	if len(v) < traceparentSize || v[versionEnd] != '-' || v[traceEnd] != '-' || v[spanEnd] != '-' {
		return p, false
	}
	version, flags := v[:versionEnd], v[spanEnd+1:traceparentSize]
	if !isLowerHex(version) || string(version) == "ff" || !isLowerHex(flags) {
		return p, false
	}
	if len(v) > traceparentSize && (string(version) == "00" || v[traceparentSize] != '-') {
		return p, false
	}
	if p.trace.UnmarshalText(v[versionEnd+1:traceEnd]) != nil || p.span.UnmarshalText(v[traceEnd+1:spanEnd]) != nil {
		return p, false
	}
	p.sampled = hexDigit(flags[1])&1 != 0
	return p, true
}

func isLowerHex(b []byte) bool {
	for _, c := range b {
		if hexDigit(c) < 0 || 'A' <= c && c <= 'F' {
			return false
		}
	}
	return true
}
