// SPDX-License-Identifier: Apache-2.0

package goruntime

// grpcOffsets is the chain in google.golang.org/grpc v1.minor, nil if it is not
// known. TestGRPC proves the ends of each range, and some versions between.
func grpcOffsets(minor int) *Chain {
	stream := func(method int64) *Chain {
		return &Chain{State: Absent, Owner: 16, Done: Absent, Request: Absent, Method: method}
	}
	embedded := func(owner int64) *Chain {
		return &Chain{State: Absent, Owner: owner, Done: Absent, Request: Absent, Method: 16}
	}
	switch {
	case minor >= 50 && minor <= 64:
		return stream(80)
	case minor == 68:
		return stream(88)
	case minor >= 69 && minor <= 75: // ServerStream with a pointer to a Stream
		return &Chain{State: Absent, Owner: 16, Done: Absent, Request: 0, Method: 24}
	case minor >= 77 && minor <= 80: // ServerStream with a Stream in it
		return embedded(336)
	case minor == 84:
		return embedded(368)
	}
	return nil
}
