// SPDX-License-Identifier: Apache-2.0

// Command fleetprof is a fleet-wide continuous profiler: the agent, the
// central store with its page, and the tools to ask it.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker: -X main.version=…
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	code = -1
	i, err := readCommandLine(args, stdout, stderr, func(status int) { code = status })
	if code >= 0 { // --help or --version has been served
		return code
	}
	if err != nil {
		fmt.Fprintf(stderr, "fleetprof: %v\nSee fleetprof --help.\n", err)
		return 2
	}
	console := &console{out: stdout, err: stderr, log: i.cli.Log.logger(stderr), invocation: i}
	i.context.BindTo(ctx, (*context.Context)(nil))
	if err := i.context.Run(console); err != nil {
		fmt.Fprintf(stderr, "fleetprof: %v\n", err)
		return 1
	}
	return 0
}
