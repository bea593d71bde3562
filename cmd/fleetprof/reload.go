// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/fleetprof/fleetprof/cmd/fleetprof/config"
)

// lookEvery is how often it is looked whether the file has changed.
const lookEvery = 2 * time.Second

// reloader reads the command line again, with a file that has changed: what can change
// while the agent runs is put in force, what cannot is told. A file that is not right
// in every part changes nothing.
type reloader struct {
	running *invocation
	watcher *config.Watcher // nil without a file
	use     func(*invocation)
	log     *slog.Logger
	metrics reloadMetrics
	// waiting are the flags whose values in force differ from those of the file.
	waiting []string
}

// The first two are named as Prometheus names its own.
type reloadMetrics struct {
	successful, successTime prometheus.Gauge
	needsRestart            *prometheus.GaugeVec
}

// newReloader puts the file in force as it was read at the start.
func newReloader(running *invocation, use func(*invocation), reg prometheus.Registerer, log *slog.Logger) *reloader {
	r := &reloader{running: running, use: use, log: log}
	if running.file == nil {
		return r
	}
	r.watcher = config.NewWatcher(running.file)
	r.metrics = reloadMetrics{
		successful: promauto.With(reg).NewGauge(prometheus.GaugeOpts{
			Name: "fleetprof_config_last_reload_successful",
			Help: "Whether the configuration file was right when it was last read.",
		}),
		successTime: promauto.With(reg).NewGauge(prometheus.GaugeOpts{
			Name: "fleetprof_config_last_reload_success_timestamp_seconds",
			Help: "When a right configuration file was last read.",
		}),
		needsRestart: promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{
			Name: "fleetprof_config_needs_restart",
			Help: "1 for each setting whose value in the configuration file is not in force before a restart.",
		}, []string{"setting"}),
	}
	r.accept(running)
	return r
}

// Run reloads at SIGHUP and when the file has changed, until ctx ends. Without a file it
// does nothing, and SIGHUP does what it does to any process.
func (r *reloader) Run(ctx context.Context) {
	if r.watcher == nil {
		return
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			r.watcher.Skip()
			r.reload()
		case <-tick.C:
			if r.watcher.Changed() {
				r.reload()
			}
		}
	}
}

func (r *reloader) reload() {
	next, err := readCommandLine(r.running.args, io.Discard, io.Discard, func(int) {})
	if err != nil {
		r.metrics.successful.Set(0)
		r.log.Error("configuration not reloaded: what was in force stays so", "error", err)
		return
	}
	r.accept(next)
	r.log.Info("configuration reloaded", "file", next.cli.Config)
}

// accept puts a file in force and tells what of it has to wait.
func (r *reloader) accept(next *invocation) {
	r.use(next)
	r.metrics.successful.Set(1)
	r.metrics.successTime.SetToCurrentTime()
	waiting := slices.DeleteFunc(differing(r.running, next), func(name string) bool {
		return slices.Contains(reloadable(), name)
	})
	r.metrics.needsRestart.Reset()
	for _, name := range waiting {
		r.metrics.needsRestart.WithLabelValues(name).Set(1)
		if !slices.Contains(r.waiting, name) {
			r.log.Warn("this setting needs a restart", "setting", name)
		}
	}
	r.waiting = waiting
}

// differing lists the flags that have other values in two command lines of the same
// command.
func differing(a, b *invocation) (names []string) {
	was, is := a.values(), b.values()
	for _, name := range slices.Sorted(maps.Keys(was)) {
		if !reflect.DeepEqual(was[name], is[name]) {
			names = append(names, name)
		}
	}
	return names
}

// values gives the values of all flags of the command.
func (i *invocation) values() map[string]any {
	all := make(map[string]any)
	for _, flag := range i.context.Flags() {
		all[flag.Name] = flag.Target.Interface()
	}
	return all
}
