// SPDX-License-Identifier: Apache-2.0

package goruntime

// grpcOffsets is the chain in google.golang.org/grpc v1.minor, nil if it is not
// known. Source: internal/transport/transport.go and server_stream.go of v1.50.1,
// 1.58.3, 1.64.1, 1.68.0, 1.69.0, 1.70.0, 1.72.0, 1.75.0, 1.77.0, 1.80.0 and 1.84.0;
// the pointer of the owner proves that a record is what it is taken for.
func grpcOffsets(minor int) *Chain {
	switch {
	case minor >= 50 && minor <= 68: // Stream
		return &Chain{State: Absent, Owner: 16, Done: Absent, Request: Absent, Method: 80}
	case minor >= 69 && minor <= 75: // ServerStream with a pointer to a Stream
		return &Chain{State: Absent, Owner: 16, Done: Absent, Request: 0, Method: 24}
	case minor >= 77 && minor <= 84: // ServerStream with a Stream in it
		return &Chain{State: Absent, Owner: 368, Done: Absent, Request: Absent, Method: 16}
	}
	return nil
}
