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

	"github.com/alecthomas/kong"
)

// version is set by the linker: -X main.version=…
var version = "development"

// cli is every flag of every command. Each flag can also be given as an
// environment variable FLEETPROF_… and as a key of the --config file.
type cli struct {
	Config  configFlag       `help:"YAML file with the flags' names as keys, and relabelling rules." placeholder:"FILE"`
	Log     logOptions       `embed:"" prefix:"log-"`
	Version kong.VersionFlag `help:"Print the version and exit." env:"-"`

	Run    runCommand    `cmd:"" help:"Agent, store and page in one process: the first run."`
	Agent  agentCommand  `cmd:"" help:"The daemon: sample this host and upload to one or more stores."`
	Server serverCommand `cmd:"" help:"The central store and page for many agents."`
	Record recordCommand `cmd:"" help:"Sample this host once and write a pprof file."`
	Query  queryCommand  `cmd:"" help:"Ask a store: top functions, folded stacks, or a pprof file."`
	Policy policyCommand `cmd:"" help:"Show and change what the agents of a server collect, and how much of it."`
	Doctor doctorCommand `cmd:"" help:"Say what this host supports, what is degraded and why."`
}

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

// helpWithDefault is the help of a flag with its default and the name of its
// environment variable.
func helpWithDefault(v *kong.Value) string {
	shown := *v
	if v.Default != "" {
		shown.Help += " Default: " + v.Default + "."
	}
	return kong.DefaultHelpValueFormatter(&shown)
}
