// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/query"
)

// recordCommand is `fleetprof record`.
type recordCommand struct {
	sampling
	Frequency int           `help:"Samples per second and CPU." short:"F" default:"99" placeholder:"HZ"`
	Duration  time.Duration `help:"How long to sample; Ctrl-C ends it earlier and keeps what there is." short:"d" default:"10s"`
	Output    string        `help:"File to write, gzip-compressed pprof." short:"o" default:"fleetprof.pb.gz" type:"path" placeholder:"FILE"`
	PID       uint32        `name:"pid" help:"Only this process." placeholder:"PID"`
	Match     string        `help:"Only samples with these labels, such as '{thread_name=~\"worker.*\"}'." placeholder:"SELECTOR"`
}

// Validate is called by the flag parser.
func (c *recordCommand) Validate() error {
	if c.Duration <= 0 || c.Duration > time.Hour {
		return badFlag("duration", "must be more than 0 and at most 1h")
	}
	if _, err := query.ParseSelector(c.Match); err != nil {
		return badFlag("match", "is wrong: %w", err)
	}
	return c.validate(c.Frequency)
}

// Run samples once and writes the file.
func (c *recordCommand) Run(ctx context.Context, con *console) error {
	keep, err := c.filter()
	if err != nil {
		return err
	}
	p, err := newPipeline(c.sampling, c.Frequency, 0, keep, nameFiles{}, newRegistry(), con.log)
	if err != nil {
		return err
	}
	defer p.Close()
	if file := con.invocation.file; file != nil {
		p.use(file)
	}
	sampling, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	if isTerminal(con.err) {
		go countDown(sampling, con, c.Duration)
	}
	if err := p.sample(sampling); err != nil {
		return err
	}
	naming, stop := afterwards(ctx, encodeTime)
	defer stop()
	profile, err := p.cut(naming)
	if err != nil {
		return err
	}
	if err := writeFile(c.Output, profile.PProf); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	fmt.Fprintf(con.err, "%d samples in %s written to %s\n", profile.Samples, profile.Duration.Round(time.Millisecond), c.Output)
	return nil
}

// filter says which samples to keep; nil is all.
func (c *recordCommand) filter() (func(pid uint32, l sample.Labels) bool, error) {
	selector, err := query.ParseSelector(c.Match)
	if err != nil {
		return nil, err
	}
	if c.Match == "" && c.PID == 0 {
		return nil, nil
	}
	return func(pid uint32, l sample.Labels) bool {
		return (c.PID == 0 || pid == c.PID) && selector.Matches(l.Get)
	}, nil
}

// countDown shows on a terminal that something is going on.
func countDown(ctx context.Context, con *console, total time.Duration) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for left := total; left > 0; left -= time.Second {
		fmt.Fprintf(con.err, "\rsampling, %s left \x1b[K", left.Round(time.Second))
		select {
		case <-tick.C:
		case <-ctx.Done():
			fmt.Fprint(con.err, "\r\x1b[K")
			return
		}
	}
}

// writeFile leaves either the whole file or what was there before.
func writeFile(name string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".fleetprof-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
