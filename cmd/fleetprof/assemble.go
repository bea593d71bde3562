// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/attribute/container"
	"github.com/fleetprof/fleetprof/attribute/relabel"
	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/profiler"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize"
	"github.com/fleetprof/fleetprof/symbolize/kernel"
	"github.com/fleetprof/fleetprof/window"
)

// pipeline is the way of a sample on its host, in the order it travels:
// profiler → workloads → requests → window → symbolize → pprof. How often a process
// is sampled is decided beside it, by selection.
type pipeline struct {
	profiler   *profiler.Profiler
	workloads  *workloads
	relabel    *relabel.Relabeler
	requests   *requests // nil if nobody asks for them
	collector  *window.Collector
	symbolizer *symbolize.Symbolizer
	offered    *offered // nil if code is named here
	files      nameFiles
	encoding   window.Encoding
	keep       func(pid uint32, l sample.Labels) bool
	dropped    prometheus.Counter
	folded     prometheus.Counter
	origins    origins // of the samples of the window
	selection  *selection
}

// newPipeline builds the pipeline; nothing is sampled before profiler.Run.
// exemplars is how many requests of each handler and window are kept with their trace
// ids. keep says which samples to collect; nil is all.
func newPipeline(s sampling, frequency, exemplars int, keep func(uint32, sample.Labels) bool, files nameFiles, reg prometheus.Registerer, log *slog.Logger) (*pipeline, error) {
	proc := procfs.New("/proc")
	host, err := s.host()
	if err != nil {
		return nil, err
	}
	if err := bpf.CheckBTF(); err != nil {
		return nil, err
	}
	p := &pipeline{keep: keep, files: files, origins: make(origins), folded: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fleetprof_window_folded_samples_total",
		Help: "Samples whose stack or labels a full window had no room for.",
	})}
	reg.MustRegister(p.folded)
	hierarchy, subsystem, err := cgroups(proc)
	if err != nil {
		log.Warn("containers cannot be told apart: samples carry no container_id", "error", err)
		hierarchy = container.Hierarchy{}
	}
	if p.workloads, err = newWorkloads(s.naming, proc, hierarchy, reg, log); err != nil {
		return nil, err
	}
	p.newRelabeler(host, reg)
	memory := splitBudget(int64(s.Memory))
	options := profiler.Options{
		Rates:           profiler.Rates{Frequency: frequency},
		Event:           s.Event,
		RingBytes:       memory.ring,
		TableBlocks:     memory.blocks,
		CgroupSubsystem: subsystem,
		Proc:            proc,
		Sink:            p,
		Logger:          log,
		Registerer:      reg,
	}
	if s.Requests {
		if p.requests, err = newRequests(exemplars, p.identify, reg, log); err != nil {
			return nil, err
		}
		options.Requests, options.ActivityRingBytes = p.requests, memory.activities
		options.RequestHeaders = exemplars > 0
	}
	p.profiler, err = profiler.New(options)
	if err != nil {
		return nil, err
	}
	if p.requests != nil {
		p.requests.profiler = p.profiler
	}
	p.selection = newSelection(p.profiler, p.workloads, p.relabel, host, frequency, log)
	p.selection.requests = p.requests
	names := symbolize.Options{
		Files:      p.profiler.Files(),
		Kernel:     kernelSymbols(reg, log),
		VDSO:       vdso(proc, log),
		Indexes:    files.indexes,
		Demangle:   s.Demangle,
		TableBytes: memory.tables(),
		Results:    resultsRemembered,
		Logger:     log,
		Registerer: reg,
	}
	if files.fetch != nil {
		names.DebugFiles = files.fetch
	}
	if s.Symbolize == symbolizeStore {
		p.offered = new(offered)
		names.Elsewhere = p.offered.meet
	}
	if p.symbolizer, err = symbolize.New(names); err != nil {
		return nil, errors.Join(err, p.profiler.Close())
	}
	p.encoding = window.Encoding{Symbolizer: p.symbolizer, Host: host}
	p.collector = window.NewCollector(time.Now())
	return p, nil
}

// sample samples until ctx ends.
func (p *pipeline) sample(ctx context.Context) error {
	following, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { p.workloads.Run(following) })
	beside.Go(func() { p.selection.Run(following) })
	beside.Go(func() { p.symbolizer.Run(following) })
	if p.files.fetch != nil {
		beside.Go(func() { p.files.fetch.Run(following) })
	}
	if p.offered != nil && p.offered.to != nil {
		beside.Go(func() { p.offered.to.Run(following) })
	}
	err := p.profiler.Run(ctx)
	stop()
	beside.Wait()
	return err
}

// Sample labels one sample and adds it to the window.
func (p *pipeline) Sample(s *sample.Sample) {
	labels := p.workloads.meet(s.Process, s.CgroupID)
	labels.Thread = s.Thread
	p.origins.note(s)
	stack, weight := s.Stack, s.Weight
	if p.requests == nil {
		p.add(stack, labels, weight)
		return
	}
	p.requests.engine.Sample(s, func(h sample.Handler) {
		labels.Handler = h
		p.add(stack, labels, weight)
	})
}

// add adds a sample to the window, unless it is certain already that it is not wanted.
func (p *pipeline) add(stack sample.Stack, labels sample.Labels, weight sample.Weight) {
	if p.keep != nil {
		if _, keep, known := p.final(labels, p.origins); known && !keep {
			return
		}
	}
	p.collector.Add(stack, labels, weight)
}

// Lost adds what the kernel side had no room for.
func (p *pipeline) Lost(ticks uint64, cpu time.Duration) { p.collector.AddLost(int64(ticks), cpu) }

// cut ends the current window and encodes it. When ctx ends, what has no name
// by then stays without.
func (p *pipeline) cut(ctx context.Context) (sample.Profile, error) {
	var encoded func()
	var w *window.Window
	var exemplars []sample.Exemplar
	var from origins
	p.profiler.Between(func() {
		if p.requests != nil {
			p.requests.engine.Flush() // what waits belongs to this window
			exemplars = p.requests.engine.Exemplars(profiler.ClockZero())
		}
		encoded = p.profiler.Files().NextWindow()
		w = p.collector.Cut(time.Now())
		from, p.origins = p.origins, make(origins)
	})
	defer encoded()
	// Of a process that was met a moment ago it may not be known yet what service it says that it is.
	deadline := time.Now().Add(declarationTime)
	p.dropped.Add(float64(w.Relabel(func(l sample.Labels) (labels sample.Labels, keep bool) {
		if l.PID != "" {
			p.workloads.declared.Wait(from.process(l), time.Until(deadline))
		}
		labels, keep, _ = p.final(l, from)
		return labels, keep
	})))
	p.folded.Add(float64(w.Folded()))
	profile, err := p.encoding.Encode(ctx, w)
	if err == nil {
		p.workloads.names.Forget(profile.Start)
		profile.Exemplars, err = p.encoding.Exemplars(w, exemplars)
	}
	return profile, err
}

func (p *pipeline) Close() error {
	return errors.Join(p.profiler.Close(), p.symbolizer.Close())
}

// host is the value of host_name.
func (s *sampling) host() (string, error) {
	if s.Hostname != "" {
		return s.Hostname, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("learn the host's name: %w; set --hostname", err)
	}
	return name, nil
}

// cgroups finds the hierarchy that tells containers apart. On an error
// subsystem is still one that can be sampled.
func cgroups(proc procfs.FS) (h container.Hierarchy, subsystem int, err error) {
	h, err = container.Detect(proc)
	if err != nil || h.V2 {
		return h, bpf.CgroupV2, err
	}
	subsystem, err = bpf.CgroupSubsystem(h.Controller)
	if err != nil {
		return h, bpf.CgroupV2, err
	}
	return h, subsystem, nil
}

// kernelSymbols reads the kernel's names; nil if it keeps them to itself, so
// that kernel frames are shown without names.
func kernelSymbols(reg prometheus.Registerer, log *slog.Logger) *kernel.Symbols {
	symbols, err := kernel.Open(kernel.Options{
		Kallsyms: "/proc/kallsyms", Notes: "/sys/kernel/notes", Logger: log, Registerer: reg,
	})
	if err != nil {
		log.Warn("kernel functions have no names", "error", err)
		return nil
	}
	return symbols
}

// vdso is the image of the vDSO; without it its few functions have no names.
func vdso(proc procfs.FS, log *slog.Logger) []byte {
	image, err := profiler.VDSO(proc)
	if err != nil {
		log.Warn("vDSO functions have no names", "error", err)
	}
	return image
}
