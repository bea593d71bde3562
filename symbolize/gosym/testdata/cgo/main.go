// SPDX-License-Identifier: Apache-2.0

// Program cgo has C code in it, so that an external linker puts C in front of
// the Go text.
package main

/*
static __attribute__((noinline)) int c_add(int a, int b) { return a + b; }
*/
import "C"

import (
	"fmt"
	"strings"
)

func inlined(s string) string { return strings.TrimSpace(s) }

func main() { fmt.Println(C.c_add(1, 2), inlined(" x ")) }
