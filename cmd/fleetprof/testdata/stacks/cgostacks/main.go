// SPDX-License-Identifier: Apache-2.0

// Cgostacks calls C, which calls Go, which calls C, and uses CPU time in each.
// It prints its call chains as burn.h tells.
package main

/*
#cgo CFLAGS: -O2 -fomit-frame-pointer
long outer_c(long n);
long inner_c(long n);
*/
import "C"

import "fmt"

var sink int

//go:noinline
func burnGo(n int) int {
	for i := range 10000 {
		n ^= i * sink
	}
	return n
}

//export callback
func callback(n C.long) C.long {
	return C.long(middle(int(n)))
}

//go:noinline
func middle(n int) int {
	return burnGo(n) + int(C.inner_c(C.long(n)))
}

//go:noinline
func outermost(n int) int {
	return burnGo(n) + int(C.outer_c(C.long(n)))
}

func main() {
	fmt.Println("main.main;main.outermost;main.burnGo")
	fmt.Println("main.main;main.outermost;outer_c;burn")
	fmt.Println("main.main;main.outermost;outer_c;main.middle;main.burnGo")
	fmt.Println("main.main;main.outermost;outer_c;main.middle;inner_c;burn")
	fmt.Println("ready")
	for {
		sink += outermost(1)
	}
}
