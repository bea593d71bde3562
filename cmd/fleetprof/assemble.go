// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/attribute/container"
	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/profiler"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize"
	"github.com/fleetprof/fleetprof/symbolize/kernel"
	"github.com/fleetprof/fleetprof/window"
)

// pipeline is the way of a sample on its host, in the order it travels:
// profiler → container → window → symbolize → pprof.
type pipeline struct {
	profiler   *profiler.Profiler
	containers *container.Resolver
	collector  *window.Collector
	symbolizer *symbolize.Symbolizer
	encoding   window.Encoding
	keep       func(sample.Labels) bool
}

// newPipeline builds the pipeline; nothing is sampled before profiler.Run.
// keep says which samples to collect; nil is all.
func newPipeline(s sampling, keep func(sample.Labels) bool, reg prometheus.Registerer, log *slog.Logger) (*pipeline, error) {
	proc := procfs.New("/proc")
	host, err := s.host()
	if err != nil {
		return nil, err
	}
	hierarchy, subsystem := cgroups(proc, log)
	p := &pipeline{keep: keep, collector: window.NewCollector(time.Now())}
	p.containers = container.New(container.Options{Hierarchy: hierarchy, Proc: proc, Logger: log, Registerer: reg})
	p.profiler, err = profiler.New(profiler.Options{
		Frequency:       s.Frequency,
		Event:           s.Event,
		RingBytes:       int(s.Ring),
		CgroupSubsystem: subsystem,
		Proc:            proc,
		Sink:            p,
		Logger:          log,
		Registerer:      reg,
	})
	if err != nil {
		return nil, err
	}
	p.symbolizer = symbolize.New(symbolize.Options{
		Files:      p.profiler.Files(),
		Kernel:     kernelSymbols(log),
		Logger:     log,
		Registerer: reg,
	})
	p.encoding = window.Encoding{
		Symbolizer:        p.symbolizer,
		Host:              host,
		PeriodNanoseconds: int64(profiler.PeriodNanoseconds(s.Frequency)),
	}
	return p, nil
}

// Sample labels one sample and adds it to the window.
func (p *pipeline) Sample(s *sample.Sample) {
	labels := sample.Labels{
		Executable: s.Process.Executable,
		PID:        strconv.FormatUint(uint64(s.Process.PID), 10),
		Thread:     s.Thread,
		Container:  p.containers.ContainerID(s.CgroupID, s.Process.PID),
	}
	if p.keep == nil || p.keep(labels) {
		p.collector.Add(s.Stack, labels, 1)
	}
}

// Lost adds samples that the kernel side had no room for.
func (p *pipeline) Lost(n uint64) { p.collector.AddLost(int64(n)) }

// cut ends the current window and encodes it.
func (p *pipeline) cut() (sample.Profile, error) {
	encoded := p.profiler.Files().NextWindow()
	defer encoded()
	return p.encoding.Encode(p.collector.Cut(time.Now()))
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

// cgroups finds the hierarchy that tells containers apart. Without one,
// samples have no container_id and all else works.
func cgroups(proc procfs.FS, log *slog.Logger) (container.Hierarchy, int) {
	hierarchy, err := container.Detect(proc)
	if err == nil && hierarchy.V2 {
		return hierarchy, bpf.CgroupV2
	}
	if err == nil {
		var subsystem int
		if subsystem, err = bpf.CgroupSubsystem(hierarchy.Controller); err == nil {
			return hierarchy, subsystem
		}
	}
	log.Warn("containers cannot be told apart: samples carry no container_id", "error", err)
	return hierarchy, bpf.CgroupV2
}

// kernelSymbols reads the kernel's names; nil if it keeps them to itself, so
// that kernel frames are shown without names.
func kernelSymbols(log *slog.Logger) *kernel.Symbols {
	symbols, err := kernel.Load(kernel.Options{})
	if err != nil {
		log.Warn("kernel functions have no names", "error", err)
		return nil
	}
	return symbols
}

// agent is the pipeline with a clock and an uploader behind it.
type agent struct {
	*pipeline
	upload sender
	every  time.Duration
	log    *slog.Logger
	failed prometheus.Counter
}

// sender takes finished profiles.
type sender interface {
	Enqueue(sample.Profile)
	Run(context.Context) error
}

// Run samples and uploads until ctx ends; the last window is cut short,
// encoded and sent before it returns.
func (a *agent) Run(ctx context.Context) error {
	sampled, sent := make(chan error, 1), make(chan error, 1)
	uploading, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() { sampled <- a.profiler.Run(ctx) }()
	go func() { sent <- a.upload.Run(uploading) }()
	tick := time.NewTicker(a.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.finish()
		case err := <-sampled:
			a.finish()
			stop()
			return errors.Join(err, <-sent)
		}
	}
}

func (a *agent) finish() {
	p, err := a.cut()
	if err != nil {
		a.failed.Inc()
		a.log.Error("window dropped", "error", err)
		return
	}
	a.upload.Enqueue(p)
}
