// SPDX-License-Identifier: Apache-2.0

// Command load simulates a fleet of agents, whose stacks and labels are drawn from what was
// recorded on a host. It is started at the top of the repository; docs/performance.md
// has what it prints, and what it takes for granted.
//
//	load steady  [-agents 100] [-windows 18]            agents in real time, against a server process
//	load at-once [-agents 1000]                         all connect in one moment
//	load day     [-agents 10] [-hours 24] [-repeat 1]   a day in the store, then questions to it
//	load ask     -data DIR [-agents 10]                 the same questions to a store that day has filled
//	load condense DIR FILE                              makes the recording of an agent's profiles
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "simulate a fleet:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("want steady, at-once, day, ask or condense DIR FILE")

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	mode := args[0]
	flags := flag.NewFlagSet(mode, flag.ContinueOnError)
	lines := flags.Int("lines", 2000, "lines of a profile: samples that differ in stack or labels")
	recordedOnly := flags.Bool("recorded-only", false, "no stacks but those of the recording")
	switch mode {
	case "steady", "at-once":
		l := live{atOnce: mode == "at-once", windows: 1, every: windowLength, out: os.Stdout}
		if l.atOnce {
			flags.IntVar(&l.agents, "agents", 1000, "agents")
		} else {
			flags.IntVar(&l.agents, "agents", 100, "agents")
			flags.IntVar(&l.windows, "windows", 18, "profiles that each agent sends, one in ten seconds")
		}
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		l.lines, l.growing = *lines, !*recordedOnly
		return l.run(ctx)
	case "day", "ask":
		d := day{out: os.Stdout}
		flags.IntVar(&d.agents, "agents", 10, "agents")
		flags.StringVar(&d.dir, "data", "", "directory of the store, which stays then; a temporary one if empty")
		if mode == "day" {
			flags.Float64Var(&d.hours, "hours", 24, "hours")
			flags.IntVar(&d.repeat, "repeat", 1, "draw only the last of so many parts of the hours; the others are the same again")
		} else {
			flags.DurationVar(&d.after, "after", 0, "merge before that what is due so long after the last window")
		}
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		d.lines, d.growing = *lines, !*recordedOnly
		if mode == "ask" {
			return d.again(ctx)
		}
		return d.run(ctx)
	case "condense":
		if len(args) != 3 {
			return errUsage
		}
		return condense(args[1], args[2], os.Stdout)
	}
	return errUsage
}
