// SPDX-License-Identifier: Apache-2.0

// Program gostack runs Go code of many shapes on top of a stack that it tells:
// it prints its thread and the addresses runtime.Callers gives, waits for a line
// of input, and works for ever.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/crc32"
	"math/big"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

type shape interface{ area(n int) int }

type square struct{ side int }

func (s square) area(n int) int { return s.side * s.side * n }

type box struct{ square } // its area is a generated wrapper

var (
	shapes = []shape{square{2}, &square{3}, box{square{4}}, &box{square{5}}}
	text   = bytes.Repeat([]byte("fleetprof "), 20)
	kept   []byte
	total  int
)

//go:noinline
func large(n int) (sum int) {
	var a [4096]byte
	copy(a[:], text)
	for i := 0; i < n; i++ {
		sum += int(a[i*7%len(a)])
	}
	return sum
}

//go:noinline
func deferred(n int) (sum int) {
	defer func() { sum += large(n) }()
	return leaf(n, 2)
}

//go:noinline
func leaf(a, b int) int { return a*b + 1 }

//go:noinline
func work(n int) {
	for _, s := range shapes {
		total += s.area(n)
	}
	total += deferred(n)
	total += bytes.IndexByte(text, 'x') + bytes.Count(text, []byte("f")) // assembly
	total += int(crc32.ChecksumIEEE(text))
	total += time.Now().Nanosecond() // the vDSO, on another stack
	total += len(strings.Repeat("ab", n))
	x := big.NewInt(int64(n))
	total += x.Exp(x, big.NewInt(20), nil).BitLen()
	kept = make([]byte, 64<<10+n) // systemstack
	func() {
		defer func() { _ = recover() }()
		panic(n)
	}()
}

//go:noinline
func spin() {
	pcs := make([]uintptr, 100)
	pcs = pcs[:runtime.Callers(2, pcs)]
	fmt.Print(syscall.Gettid())
	for _, pc := range pcs {
		fmt.Printf(" %x", pc)
	}
	fmt.Println()
	work(1) // the stack has grown
	bufio.NewReader(os.Stdin).ReadString('\n')
	for n := 1; ; n++ {
		work(n % 100)
	}
}

//go:noinline
func deep(depth int) {
	if depth == 0 {
		spin()
		return
	}
	deep(depth - 1)
	total += depth
}

func main() {
	done := make(chan bool)
	go func() {
		runtime.LockOSThread()
		deep(20)
		done <- true
	}()
	<-done
}
