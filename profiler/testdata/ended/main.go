// SPDX-License-Identifier: Apache-2.0

// Ended is a server whose handler starts a goroutine that it waits for, and one that
// it does not wait for, and then panics. It prints when each thread executed which, in
// JSON.
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

// stretch is some time that a thread worked in a goroutine; times are of
// CLOCK_MONOTONIC, in nanoseconds.
type stretch struct {
	TID        int
	Begin, End uint64
	Name       string
}

func main() {
	done := make(chan stretch)
	work("main", 2*time.Second) // until the program is known
	growStacks()
	gone := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		work("handler", 100*time.Millisecond)
		go func() { done <- work("child", 500*time.Millisecond) }()
		tell(<-done)
		go func() {
			<-gone
			done <- work("orphan", 500*time.Millisecond)
		}()
		panic(http.ErrAbortHandler)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	if _, err := http.Get(server.URL); err == nil {
		log.Fatal("an answer")
	}
	time.Sleep(100 * time.Millisecond) // its goroutine has ended
	close(gone)
	tell(<-done)
}

// growStacks makes new goroutines begin with stacks of 8 KiB, as in a server that has
// served for a while: then the runtime keeps a stack with a goroutine that has ended
// (gfput and gcComputeStartingStackSize of the runtime).
func growStacks() {
	stop := make(chan struct{})
	defer close(stop)
	for range 100 {
		go deep(stop)
	}
	time.Sleep(100 * time.Millisecond) // all wait
	runtime.GC()
}

//go:noinline
func deep(stop chan struct{}) byte {
	var room [5 << 10]byte
	<-stop
	return room[len(stop)]
}

func tell(s stretch) { json.NewEncoder(os.Stdout).Encode(s) }

func work(name string, lasting time.Duration) stretch {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := stretch{TID: syscall.Gettid(), Begin: clock(), Name: name}
	for s.End = s.Begin; s.End-s.Begin < uint64(lasting); s.End = clock() {
		burn()
	}
	return s
}

var sink float64

//go:noinline
func burn() {
	for i := range 20000 {
		sink += float64(i)
	}
}

func clock() uint64 {
	const monotonic = 1
	var ts syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, monotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return uint64(ts.Nano())
}
