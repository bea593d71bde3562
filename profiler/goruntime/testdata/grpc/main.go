// SPDX-License-Identifier: Apache-2.0

// Command grpc serves gRPC and calls itself. In the call it says on standard
// output who it is, as JSON; a line on standard input lets it go on.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

var pipe [2]int

func pause() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var n uint64
	b := make([]byte, 64)
	fmt.Sscanf(string(b[:runtime.Stack(b, false)]), "goroutine %d ", &n)
	json.NewEncoder(os.Stdout).Encode(map[string]any{"TID": syscall.Gettid(), "Goroutine": n, "At": "handler"})
	syscall.Read(pipe[0], make([]byte, 1))
}

func unary(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.StringValue)
	if err := decode(in); err != nil {
		return nil, err
	}
	pause()
	return in, nil
}

func stream(_ any, s grpc.ServerStream) error {
	in := new(wrapperspb.StringValue)
	if err := s.RecvMsg(in); err != nil {
		return err
	}
	pause()
	return s.SendMsg(in)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	check(syscall.Pipe(pipe[:]))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "acme.shop.v1.Shop", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "GetItem", Handler: unary}},
		Streams: []grpc.StreamDesc{{StreamName: "Watch", Handler: stream, ServerStreams: true, ClientStreams: true}},
	}, struct{}{})
	go s.Serve(l)
	c, err := grpc.Dial(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	in := bufio.NewScanner(os.Stdin)
	release := func() {
		if in.Scan() {
			syscall.Write(pipe[1], []byte{0})
		}
	}
	for {
		go release()
		check(c.Invoke(context.Background(), "/acme.shop.v1.Shop/GetItem", wrapperspb.String("x"), new(wrapperspb.StringValue)))
		go release()
		w, err := c.NewStream(context.Background(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/acme.shop.v1.Shop/Watch")
		check(err)
		check(w.SendMsg(wrapperspb.String("x")))
		check(w.RecvMsg(new(wrapperspb.StringValue)))
	}
}
