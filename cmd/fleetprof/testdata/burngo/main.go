// SPDX-License-Identifier: Apache-2.0

// Command burngo burns CPU in burnInner, called by burnOuter, until it is
// ended.
package main

var sink uint64

//go:noinline
func burnInner() {
	for i := range uint64(1000000) {
		sink += i
	}
}

//go:noinline
func burnOuter() {
	for {
		burnInner()
	}
}

func main() { burnOuter() }
