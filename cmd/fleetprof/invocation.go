// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/alecthomas/kong"

	"github.com/fleetprof/fleetprof/attribute/relabel"
	"github.com/fleetprof/fleetprof/cmd/fleetprof/config"
)

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
	Doctor doctorCommand `cmd:"" help:"Say what this host supports, what is degraded and why."`
}

// invocation is one command line, read together with the environment and the file.
type invocation struct {
	cli     cli
	args    []string
	context *kong.Context
	file    *config.File // nil without --config
}

// readCommandLine reads a command line. For --help and --version it calls exit, and
// what it returns has no meaning.
func readCommandLine(args []string, stdout, stderr io.Writer, exit func(status int)) (*invocation, error) {
	i := &invocation{args: args}
	parser, err := kong.New(&i.cli,
		kong.Name("fleetprof"),
		kong.Description("Fleet-wide continuous profiler: flame graphs of every process on every host."),
		kong.DefaultEnvars("FLEETPROF"),
		kong.Bind(i),
		kong.Vars{"version": version},
		kong.Writers(stdout, stderr),
		kong.Exit(exit),
		kong.ValueFormatter(helpWithDefault),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
	if err != nil {
		panic(err) // a mistake in the struct tags
	}
	if i.context, err = parser.Parse(args); err != nil {
		var wrong *kong.ParseError
		if errors.As(err, &wrong) {
			err = i.file.Locate(wrong.Context, err)
		}
		return nil, err
	}
	return i, nil
}

// configFlag is the path of the configuration file.
type configFlag string

// BeforeResolve is called by the flag parser if there is a file: it gives the flags that
// nobody gave their values.
func (configFlag) BeforeResolve(app *kong.Kong, context *kong.Context, trace *kong.Path, i *invocation) (err error) {
	path := kong.ExpandPath(string(context.FlagValue(trace.Flag).(configFlag)))
	if i.file, err = config.Load(path); err != nil {
		return err
	}
	if err := i.file.Check(app.Model); err != nil {
		return err
	}
	context.AddResolver(i.file)
	return nil
}

// rules are the relabelling rules of the file.
func (i *invocation) rules() relabel.Rules {
	if i.file == nil {
		return relabel.Rules{}
	}
	return i.file.Rules
}

// badFlag says what is wrong with the value of a flag, for Validate methods: it is then
// said where the value came from.
func badFlag(name, format string, args ...any) error {
	return &config.FlagError{Flag: name, Err: fmt.Errorf(format, args...)}
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
