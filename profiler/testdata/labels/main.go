// SPDX-License-Identifier: Apache-2.0

// Command labels works under one set of pprof labels after the other, on two threads
// at once. Of each stretch it says on standard output on which thread and when it was,
// and what the labels were. It is built with Go 1.20 and later.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// stretch is some time of a thread under one set of labels. Times are
// CLOCK_MONOTONIC in nanoseconds.
type stretch struct {
	TID        int
	Begin, End int64
	Name       string
	Labels     map[string]string
}

var (
	output sync.Mutex
	sink   atomic.Value
)

func now() int64 {
	var t syscall.Timespec
	const clockMonotonic = 1
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		panic(errno)
	}
	return t.Nano()
}

// work burns CPU time, in C-like loops, the garbage collector and the kernel.
func work(ctx context.Context, name string, lasting time.Duration) {
	s := stretch{TID: syscall.Gettid(), Begin: now(), Name: name, Labels: map[string]string{}}
	pprof.ForLabels(ctx, func(key, value string) bool {
		s.Labels[key] = value
		return true
	})
	for end := s.Begin + int64(lasting); now() < end; {
		sink.Store(make([]byte, 1<<14))
		x := uint64(len(name))
		for i := 0; i < 100000; i++ {
			x = x*6364136223846793005 + 1
		}
		if x == 1 {
			panic("cannot be")
		}
	}
	s.End = now()
	output.Lock()
	json.NewEncoder(os.Stdout).Encode(s)
	output.Unlock()
}

// thread works until the deadline.
func thread(number int, until time.Time) {
	runtime.LockOSThread()
	ctx := context.Background()
	const slice = 30 * time.Millisecond
	for i := 0; time.Now().Before(until); i++ {
		work(ctx, "none", slice)
		route := fmt.Sprintf("/thread/%d/%d", number, i)
		pprof.Do(ctx, pprof.Labels("http.route", route, "http.request.method", "GET"), func(ctx context.Context) {
			work(ctx, "two", slice)
			pprof.Do(ctx, pprof.Labels("http.route", route+"/inner", "user", "jane"), func(ctx context.Context) {
				work(ctx, "three", slice)
			})
			work(ctx, "two again", slice)
			children(ctx, slice)
		})
		work(ctx, "none", slice)
		pprof.Do(ctx, pprof.Labels("k", "", "", "v", "key", strings.Repeat("v", 128)), func(ctx context.Context) {
			work(ctx, "odd", slice)
		})
		pprof.Do(ctx, pprof.Labels("a", "1", "long", strings.Repeat("v", 129), strings.Repeat("k", 33), "long"), func(ctx context.Context) {
			work(ctx, "long", slice)
		})
		pprof.Do(ctx, many(8), func(ctx context.Context) { work(ctx, "eight", slice) })
		pprof.Do(ctx, many(12), func(ctx context.Context) { work(ctx, "twelve", slice) })
	}
}

func many(n int) pprof.LabelSet {
	var pairs []string
	for i := 0; i < n; i++ {
		pairs = append(pairs, fmt.Sprintf("key%02d", i), fmt.Sprint(i))
	}
	return pprof.Labels(pairs...)
}

// children have the labels of the goroutine that starts them.
func children(ctx context.Context, lasting time.Duration) {
	done := make(chan bool)
	go func() {
		runtime.LockOSThread()
		work(ctx, "child", lasting)
		close(done)
	}()
	<-done
}

func main() {
	lasting, err := time.ParseDuration(os.Args[1])
	if err != nil {
		panic(err)
	}
	until := time.Now().Add(lasting)
	var all sync.WaitGroup
	for n := 0; n < 2; n++ {
		all.Add(1)
		go func(n int) {
			defer all.Done()
			thread(n, until)
		}(n)
	}
	all.Wait()
}
