// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/alecthomas/kong"

	"github.com/fleetprof/fleetprof/cmd/fleetprof/config"
)

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

// continuous is the flags of run or agent, whichever it is.
func (i *invocation) continuous() continuous {
	if i.context.Selected().Target.Type() == reflect.TypeFor[runCommand]() {
		return i.cli.Run.continuous
	}
	return i.cli.Agent.continuous
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

// badFlag says what is wrong with the value of a flag, for Validate methods: it is then
// said where the value came from.
func badFlag(name, format string, args ...any) error {
	return &config.FlagError{Flag: name, Err: fmt.Errorf(format, args...)}
}
