// SPDX-License-Identifier: Apache-2.0

// Package goruntime finds where a Go program keeps its goroutines and the requests
// they serve, so that code that can read the memory of a process at an address, and
// cannot search it, finds them: from a thread to its goroutine, and from the upper
// end of the goroutine's stack to the request. FORMAT.md draws the way.
//
// It reads programs of Go 1.20 and later, with and without symbols, for amd64 and
// arm64. The file may have been made to hurt its reader: all sizes and counts are
// bounded. What cannot be proven from the program's own code, or is not known of its
// version, is refused: a wrong request is worse than none.
package goruntime
