// SPDX-License-Identifier: Apache-2.0

// Grpcserver is a server on gRPC-Go: `grpcserver ADDRESS`. Which method a thread
// works for is in the names of the functions on its stack, as in gohttp.
package main

import (
	"context"
	"log"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

func main() {
	ln, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "fleetprof.test.Shop",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "Work", Handler: method(workA)},
			{MethodName: "Tree", Handler: method(workB)},
			{MethodName: "Orders", Handler: method(workC)},
			{MethodName: "Files", Handler: method(func() {
				startBackground()
				workD()
			})},
		},
	}, struct{}{})
	log.Fatal(server.Serve(ln))
}

// method answers calls with nothing, after some work.
func method(work func()) grpc.MethodHandler {
	return func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		if err := decode(new(emptypb.Empty)); err != nil {
			return nil, err
		}
		work()
		return new(emptypb.Empty), nil
	}
}

//go:noinline
func workA() { burn(2) }

// workB lets two children work at the same time as itself.
//
//go:noinline
func workB() {
	var children sync.WaitGroup
	for range 2 {
		children.Go(childB)
	}
	burn(1)
	children.Wait()
}

//go:noinline
func childB() { burn(2) }

// workC sleeps between slices, so that it goes on on other threads.
//
//go:noinline
func workC() {
	for range 4 {
		burn(1)
		time.Sleep(time.Millisecond)
	}
}

// workD sleeps too, and waits for a child.
//
//go:noinline
func workD() {
	burn(2)
	time.Sleep(time.Millisecond)
	done := make(chan struct{})
	go childD(done)
	<-done
	burn(2)
}

//go:noinline
func childD(done chan<- struct{}) {
	burn(2)
	close(done)
}

// startBackground starts background unless it runs.
func startBackground() {
	if running.CompareAndSwap(false, true) {
		go background()
	}
}

var running atomic.Bool

// background is started by a handler and goes on long after that has answered,
// while its goroutine may serve the next requests of the connection: it belongs
// to none of them.
//
//go:noinline
func background() {
	time.Sleep(200 * time.Millisecond) // the request has an answer by now
	for range 20 {
		burn(3)
		time.Sleep(40 * time.Millisecond)
	}
	running.Store(false)
}

// burn works for about so many milliseconds.
//
//go:noinline
func burn(ms int) {
	x := uint64(88172645463325252)
	for range ms * 450_000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	sink.Store(x)
}

var sink atomic.Uint64
