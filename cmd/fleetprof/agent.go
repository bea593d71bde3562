// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/internal/cputime"
	"github.com/fleetprof/fleetprof/policy/remote"
	"github.com/fleetprof/fleetprof/profiler"
	"github.com/fleetprof/fleetprof/profiler/governor"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/uploader"
	"github.com/fleetprof/fleetprof/uploader/dir"
	"github.com/fleetprof/fleetprof/uploader/otlp"
	"github.com/fleetprof/fleetprof/uploader/parca"
	"github.com/fleetprof/fleetprof/uploader/pyroscope"
	"github.com/fleetprof/fleetprof/uploader/server"
	"github.com/fleetprof/fleetprof/window"
)

// sampling is the flags that say how this host is sampled.
type sampling struct {
	Event    profiler.Event   `help:"What ticks: cpu-clock, a timer that is the same everywhere, or cycles, the hardware counter where there is one." enum:"cpu-clock,cycles" default:"cpu-clock"`
	Hostname string           `help:"Value of the label host_name. Default: this host's name." placeholder:"NAME"`
	Requests bool             `help:"Say which request each sample served." negatable:"" default:"true"`
	Memory   units.Base2Bytes `help:"Memory of the agent: what is resident and what BPF maps take. A store in the same process comes on top." name:"memory-budget" default:"128MiB" placeholder:"SIZE"`
	naming
}

// continuous is the flags of sampling that goes on.
type continuous struct {
	sampling
	Frequency int              `help:"Samples per second and CPU. A value that is no round number does not fall into step with timers." short:"F" default:"19" placeholder:"HZ"`
	Window    time.Duration    `help:"Time that one profile covers." default:"10s"`
	Queue     units.Base2Bytes `help:"Memory for profiles that a store has not taken yet, for each store, where they are not kept on disk." default:"16MiB" placeholder:"SIZE"`
	CPUBudget float64          `help:"CPU time that sampling may take, in percent of that of all CPUs: more makes it sample less often. 0 is no limit." name:"cpu-budget" default:"1" placeholder:"PERCENT"`
	Exemplars int              `help:"Keep the trace ids of at most so many requests of each handler and window beside the profile, from their W3C traceparent headers. 0 is none: no header is looked for." name:"trace-exemplars" default:"0" placeholder:"N"`
}

// mostExemplars is the largest --trace-exemplars.
const mostExemplars = 100

// Validate is called by the flag parser.
func (c *continuous) Validate() error {
	if c.Window < time.Second || c.Window > 10*time.Minute {
		return badFlag("window", "must be between 1s and 10m")
	}
	if c.Exemplars < 0 || c.Exemplars > mostExemplars {
		return badFlag("trace-exemplars", "must be between 0 and %d", mostExemplars)
	}
	if c.Exemplars > 0 && !c.Requests {
		return badFlag("trace-exemplars", "needs --requests")
	}
	return errors.Join(validBudget(c.CPUBudget), c.validate(c.Frequency))
}

func (s *sampling) validate(frequency int) error {
	if s.Memory < minBudget || s.Memory > maxBudget {
		return badFlag("memory-budget", "must be between 96MiB and 16GiB")
	}
	if _, err := profiler.Period(profiler.CPUClock, frequency); err != nil {
		return badFlag("frequency", "is wrong: %w", err)
	}
	return nil
}

// agentCommand is `fleetprof agent`.
type agentCommand struct {
	continuous
	Store    []string `help:"Where profiles go: http(s)://HOST:7171 (a fleetprof server), parca(s)://HOST:7070, pyroscope+http(s)://HOST:4040, otlp(s)://HOST:4317 (OpenTelemetry, experimental) or dir:PATH. Repeatable." required:"" placeholder:"URL"`
	Listen   string   `help:"Address of /metrics and /healthz; empty for none." default:"127.0.0.1:7172" placeholder:"ADDRESS"`
	StateDir string   `help:"Directory of what the agent keeps for a restart: profiles that a store has not taken yet, the last policy, debug files, indexes of names; empty is none." default:"/var/lib/fleetprof-agent" placeholder:"DIR"`
	spooling
	fetching
	offering
	indexing
	policyFlags
	guarding
}

// Help is the text below the flags.
func (agentCommand) Help() string {
	return `The schemes with an s, such as parcas://, speak TLS. Credentials, tenant and headers are parameters of the address, such as
pyroscope+https://HOST?tenant=NAME&bearer_token_file=FILE: docs/operating.md.

An --auth-file of an agent is that of a server (fleetprof server --help); the role read is all there is to have.`
}

// spooling is the flags of what is kept on disk for stores that do not take it now.
type spooling struct {
	Bytes units.Base2Bytes `help:"Disk space for profiles that a store has not taken yet, for each store; the oldest are dropped beyond it." name:"spool-bytes" default:"256MiB" placeholder:"SIZE"`
	Age   time.Duration    `help:"How long a profile waits for a store; then it is dropped." name:"spool-age" default:"24h"`
}

// leastSpool is room for some profiles of any host.
const leastSpool = 8 << 20

func (s *spooling) validate() error {
	if s.Bytes < leastSpool {
		return badFlag("spool-bytes", "must be at least 8MiB")
	}
	if s.Age < time.Minute {
		return badFlag("spool-age", "must be at least 1m")
	}
	return nil
}

// Validate is called by the flag parser.
func (c *agentCommand) Validate() error {
	for _, url := range c.Store {
		if _, err := destination(url); err != nil {
			return badFlag("store", "is wrong: %w", err)
		}
	}
	if c.Listen != "" {
		if err := c.checkListener(c.Listen); err != nil {
			return err
		}
	}
	if err := c.check(c.Store); err != nil {
		return err
	}
	return errors.Join(c.spooling.validate(), c.fetching.validate(c.StateDir), c.offering.validate(c.Symbolize, c.Store), c.indexing.validate(),
		c.continuous.Validate())
}

// Run samples until ctx ends.
func (c *agentCommand) Run(ctx context.Context, con *console) (err error) {
	destinations := make([]uploader.Destination, len(c.Store))
	for i, url := range c.Store {
		d, err := destination(url)
		if err != nil {
			return err
		}
		destinations[i] = d
	}
	splitBudget(int64(c.Memory)).hold()
	registry := newRegistry()
	var ln *listener
	if c.Listen != "" {
		if ln, err = c.listen(c.Listen, registry, con.log); err != nil {
			return err
		}
		defer ln.Close()
	}
	state, endState := openState(c.StateDir, con.log)
	defer endState()
	to := uploader.Options{Destinations: destinations, SpoolBytes: int64(c.spooling.Bytes), SpoolAge: c.spooling.Age}
	var kept remote.Store
	var files nameFiles
	if state != nil {
		kept, to.SpoolDir = state, filepath.Join(c.StateDir, "spool")
		if files, err = c.openNameFiles(registry, con.log); err != nil {
			return err
		}
		defer files.Close()
	}
	from, err := c.source(c.Store, kept)
	if err != nil {
		return err
	}
	a, err := newAgent(c.continuous, to, from, files, registry, con)
	if err != nil {
		return err
	}
	defer a.Close()
	if err := c.offer(a.pipeline, c.Store, registry, con.log); err != nil {
		return err
	}
	if ln != nil {
		defer serveMetrics(ln, registry, a.healthy, a.selection.handler())()
	}
	con.log.Info("sampling", "frequency", c.Frequency, "window", c.Window, "stores", destinations)
	return a.Run(ctx)
}

// agent is the pipeline with a clock before and an uploader behind it.
type agent struct {
	*pipeline
	governor *governor.Governor
	upload   *uploader.Uploader
	reload   *reloader
	clock    window.Clock
	log      *slog.Logger
	failed   prometheus.Counter
	windows  int           // that were cut
	starting cputime.Meter // names of the first ones
}

// policies is where the policy comes from that an agent obeys, and where the last good one is
// kept; nil is nowhere.
type policies struct {
	source remote.Source
	store  remote.Store
}

// newAgent builds the agent. to says where profiles go and what is kept on disk of them.
func newAgent(c continuous, to uploader.Options, from policies, files nameFiles, reg prometheus.Registerer, con *console) (*agent, error) {
	to.QueueBytes, to.FlushTimeout, to.Logger, to.Registerer = int(c.Queue), flushTime, con.log, reg
	upload, err := uploader.New(to)
	if err != nil {
		return nil, err
	}
	p, err := newPipeline(c.sampling, c.Frequency, c.Exemplars, nil, files, reg, con.log)
	if err != nil {
		return nil, err
	}
	if from.source != nil {
		p.selection.policy, err = remote.NewFollower(remote.Options{Source: from.source, Store: from.store, Logger: con.log, Registerer: reg})
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	failed := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fleetprof_windows_failed_total",
		Help: "Windows that could not be encoded; their samples are lost.",
	})
	reg.MustRegister(failed)
	a := &agent{
		pipeline: p, governor: newGovernor(c.CPUBudget, p.selection, reg, con.log),
		upload: upload, clock: window.NewClock(p.encoding.Host, c.Window), log: con.log, failed: failed,
	}
	a.governor.Exclude(&a.starting)
	a.encoding.Symbolizer = metered{a.symbolizer, &a.starting}
	a.reload = newReloader(con.invocation, a.use, reg, con.log)
	return a, nil
}

// reloadable lists the flags that change while an agent runs.
func reloadable() []string { return []string{"frequency", "cpu-budget"} }

// use puts what can change while the agent runs in force.
func (a *agent) use(next *invocation) {
	c := next.continuous()
	a.selection.setFrequency(c.Frequency)
	a.governor.SetBudget(c.CPUBudget / 100)
	a.pipeline.use(next.file)
}

// After the end everything must be over within two seconds: the sampler takes
// one poll, these bound the rest.
const (
	encodeTime = 300 * time.Millisecond
	flushTime  = 700 * time.Millisecond
)

// Run samples and uploads until ctx ends. The last window is then cut short,
// encoded and sent before it returns.
func (a *agent) Run(ctx context.Context) error {
	sampled, sent := make(chan error, 1), make(chan error, 1)
	uploading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	naming, stopNaming := afterwards(ctx, encodeTime)
	defer stopNaming()
	go a.reload.Run(ctx)
	go func() { sampled <- a.sample(ctx) }()
	go func() { sent <- a.upload.Run(uploading) }()
	endGoverning := a.govern(ctx)
	cut := time.NewTimer(a.clock.Next(time.Now()))
	defer cut.Stop()
	for {
		select {
		case <-cut.C:
			a.finish(naming)
			cut.Reset(a.clock.Next(time.Now()))
		case err := <-sampled:
			a.finish(naming)
			stop()
			return errors.Join(err, <-sent, endGoverning())
		}
	}
}

// govern keeps the agent within its budget, beside the sampling, until end is called.
func (a *agent) govern(ctx context.Context) (end func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- a.governor.Run(ctx) }()
	return func() error {
		cancel()
		return <-ended
	}
}

// afterwards is a context that ends some time after ctx has.
func afterwards(ctx context.Context, later time.Duration) (context.Context, context.CancelFunc) {
	after, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(later, cancel) })
	return after, func() {
		stop()
		cancel()
	}
}

// startWindows are those that meet most of what runs: the first one, of which there may be a moment only,
// and the next.
const startWindows = 2

// metered is a Symbolizer whose CPU time is counted.
type metered struct {
	window.Symbolizer
	meter *cputime.Meter
}

func (m metered) Symbolize(l sample.Location) (named sample.Symbolized) {
	m.meter.Do(func() { named = m.Symbolizer.Symbolize(l) })
	return named
}

// finish hands the current window to the uploader. To name what runs for the first time is a part of the
// start, which no lower frequency makes cheaper.
func (a *agent) finish(ctx context.Context) {
	if a.windows++; a.windows > startWindows {
		a.encoding.Symbolizer = a.symbolizer
	}
	p, err := a.cut(ctx)
	if err != nil {
		a.failed.Inc()
		a.log.Error("window dropped", "error", err)
		return
	}
	a.upload.Enqueue(p)
}

// pollLimit is a hundred times what it should be.
const pollLimit = 5 * time.Second

// healthy tells whether sampling goes on.
func (a *agent) healthy() error {
	if since := a.profiler.SincePoll(); since > pollLimit {
		return fmt.Errorf("no look into the sampler's ring for %s", since.Round(time.Second))
	}
	return nil
}

// destination makes one from what --store says.
func destination(url string) (uploader.Destination, error) {
	kind, path, _ := strings.Cut(url, ":")
	switch kind {
	case "http", "https":
		return server.New(url)
	case "parca", "parcas":
		return parca.New(url)
	case "pyroscope+http", "pyroscope+https":
		return pyroscope.New(url)
	case "otlp", "otlps":
		return otlp.New(url)
	case "dir":
		return dir.New(path)
	}
	return nil, fmt.Errorf("%.40q is an unknown kind of store: use http(s)://HOST:7171, parca(s)://HOST:7070, pyroscope+http(s)://HOST:4040, otlp(s)://HOST:4317 or dir:PATH", kind)
}
