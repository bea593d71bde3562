// SPDX-License-Identifier: Apache-2.0

// Command server serves HTTP/1 and HTTP/2. Where its code stops it says on
// standard output who it is, one JSON object a line; a line on standard input
// lets it go on. It is built with Go 1.20 and later.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type stop struct {
	TID               int
	Goroutine, Parent uint64
	At                string // handler, child, active, idle
	Method, Path      string
}

var (
	output   sync.Mutex
	released atomic.Uint32
	pipe     [2]int
	// states says that connections stop where their state changes.
	states atomic.Bool
)

// goroutine is the number of the goroutine, as a stack trace has it.
func goroutine() (n uint64) {
	b := make([]byte, 64)
	fmt.Sscanf(string(b[:runtime.Stack(b, false)]), "goroutine %d ", &n)
	return n
}

// pause stops here, in a system call or busy.
func pause(s stop, burn string) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s.TID, s.Goroutine = syscall.Gettid(), goroutine()
	before := released.Load()
	output.Lock()
	json.NewEncoder(os.Stdout).Encode(s)
	output.Unlock()
	switch burn {
	case "burn":
		for released.Load() == before {
		}
	case "clock":
		for released.Load() == before {
			time.Now()
		}
	case "alloc":
		for released.Load() == before {
			sink = bytes.Repeat([]byte{1}, 1<<16)
		}
	default:
		for released.Load() == before { // busy ones leave a byte in the pipe
			syscall.Read(pipe[0], make([]byte, 1))
		}
	}
}

var sink []byte

func handle(w http.ResponseWriter, r *http.Request) {
	deep(20)
	s := stop{At: "handler", Method: r.Method, Path: r.URL.Path}
	how := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	pprof.SetGoroutineLabels(pprof.WithLabels(r.Context(), pprof.Labels("how", how)))
	switch how {
	case "child":
		s.At, s.Parent = "child", goroutine()
		done := make(chan bool)
		go func() { pause(s, ""); close(done) }()
		<-done
	case "states":
		states.Store(true)
	case "panic":
		panic(http.ErrAbortHandler)
	case "hijack":
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			pause(s, "block")
			c.Close()
		}
	default:
		pause(s, how)
	}
}

// deep needs a lot of stack, so that it moves.
func deep(n int) byte {
	var b [1 << 10]byte
	if n > 0 {
		b[n] = deep(n - 1)
	}
	return b[n] + byte(n)
}

func state(c net.Conn, s http.ConnState) {
	if !states.Load() {
		return
	}
	switch s {
	case http.StateActive:
		pause(stop{At: "active"}, "")
	case http.StateIdle:
		pause(stop{At: "idle"}, "")
	}
}

func main() {
	if err := syscall.Pipe(pipe[:]); err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/shop/", handle)
	plain := httptest.NewUnstartedServer(mux)
	plain.Config.ConnState = state
	plain.Start()
	secure := httptest.NewUnstartedServer(mux)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	fmt.Println(plain.URL)
	fmt.Println(secure.URL)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if in.Text() == "run" {
			states.Store(false)
		}
		released.Add(1)
		syscall.Write(pipe[1], []byte{0})
	}
}
