// SPDX-License-Identifier: Apache-2.0

// Program cgostack calls C, which calls Go, which calls C. It prints its thread and
// the addresses runtime.Callers gives, waits for a line of input, and works for ever:
// as its argument says with "chain", with a stack that has "moved" below C, or from a
// "thread" that C made.
package main

/*
#cgo CFLAGS: -O2 -fomit-frame-pointer
#cgo LDFLAGS: -lpthread
long inner_c(long n);
long middle_c(long n);
long outer_c(long n);
long grow_c(void);
long forever_c(void);
void thread_c(void);
*/
import "C"

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
)

var (
	total int
	kept  []byte
	told  bool
)

//export inner_go
func inner_go(n C.long) C.long {
	total += time.Now().Nanosecond() // the vDSO
	kept = make([]byte, 64<<10+n)    // systemstack
	return C.inner_c(n) + 1
}

//export middle_go
func middle_go(n C.long) C.long {
	return C.middle_c(n) + C.inner_c(n)
}

//export grow_go
func grow_go(n C.long) C.long {
	return C.long(grow(int(n)))
}

//go:noinline
func grow(n int) int {
	var room [1024]byte
	room[n%len(room)] = byte(n)
	if n > len(room) {
		return grow(n-len(room)) + int(room[n%len(room)])
	}
	return n
}

//export thread_go
func thread_go(n C.long) C.long {
	if !told {
		told = true
		tell()
	}
	return C.long(work(int(n)))
}

//go:noinline
func work(n int) int {
	return int(C.outer_c(C.long(n % 100)))
}

// tell prints where the goroutine is, from its caller's caller on.
//
//go:noinline
func tell() {
	pcs := make([]uintptr, 100)
	pcs = pcs[:runtime.Callers(3, pcs)]
	fmt.Print(syscall.Gettid())
	for _, pc := range pcs {
		fmt.Printf(" %x", pc)
	}
	fmt.Println()
	bufio.NewReader(os.Stdin).ReadString('\n')
}

//go:noinline
func spin(moved bool) {
	work(1) // the stack has grown
	tell()
	if moved {
		total += int(C.grow_c())
	}
	for n := 1; ; n++ {
		total += work(n)
	}
}

//go:noinline
func deep(depth int, moved bool) {
	if depth == 0 {
		spin(moved)
		return
	}
	deep(depth-1, moved)
	total += depth
}

func main() {
	done := make(chan bool)
	if os.Args[1] == "thread" {
		C.thread_c()
		<-done
	}
	go func() {
		runtime.LockOSThread()
		deep(20, os.Args[1] == "moved")
		done <- true
	}()
	<-done
}
