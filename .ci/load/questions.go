// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/internal/cputime"
	"github.com/fleetprof/fleetprof/server/query"
)

// selectors gives more than 30 selectors that each take a part of a fleet.
func (f *fleet) selectors() (all []string) {
	for i := range 12 {
		all = append(all, fmt.Sprintf(`{service_name=%q}`, f.services[i].label))
	}
	for i := range 10 {
		all = append(all, fmt.Sprintf(`{host_name=%q}`, f.hosts[i*len(f.hosts)/10].name))
	}
	for i := range 4 {
		h := f.hosts[i%len(f.hosts)]
		pod := h.pods[len(h.pods)-1]
		all = append(all, fmt.Sprintf(`{k8s_pod_name=%q,host_name=%q}`, valueOf(pod.labels, "k8s_pod_name"), h.name))
	}
	for i := range 3 {
		all = append(all, fmt.Sprintf(`{k8s_namespace_name="team-%d",process_executable_name="nginx"}`, i))
	}
	return append(all,
		`{url_template="/python",request_attribution="exact"}`, `{url_template=~"/n.*"}`, `{systemd_unit="cron.service"}`,
		`{process_executable_name="nginx"}`, `{thread_name=~"node.*",k8s_namespace_name="team-3"}`,
	)
}

func valueOf(labels []pair, name string) string {
	for _, l := range labels {
		if l.name == name {
			return l.value
		}
	}
	return ""
}

// times is how long answers took, and how much time of the CPU: a machine that others use shows
// by the second what they would take on a core of their own.
type times struct {
	all, cpu []time.Duration
	bytes    int64
	over     []string // selectors beyond a limit of the server
}

// answers are what each selector is asked for: what `go tool pprof` fetches, and what the page shows.
var answers = []string{"pprof", "flamegraph"}

// ask has the server's own handler answer what each selector takes of a range.
// It asks twice: what the first round reads is cached for the second, as far as the server's cache
// has room.
func (s *filled) ask(ctx context.Context, answer string, from, to time.Time) (rounds [2]times, err error) {
	api, err := query.New(query.Options{Store: s.Store, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		return rounds, err
	}
	mux := http.NewServeMux()
	api.Register(mux)
	for i := range rounds {
		if rounds[i], err = s.askAll(ctx, mux, answer, from, to); err != nil {
			return rounds, err
		}
	}
	return rounds, nil
}

func (s *filled) askAll(ctx context.Context, mux http.Handler, kind string, from, to time.Time) (t times, err error) {
	for _, selector := range s.fleet.selectors() {
		if ctx.Err() != nil {
			return t, ctx.Err()
		}
		params := url.Values{"query": {selector}, "from": {from.UTC().Format(time.RFC3339Nano)}, "to": {to.UTC().Format(time.RFC3339Nano)}}
		answer := &counting{header: http.Header{}, status: http.StatusOK}
		begin, before := time.Now(), cpuTime()
		mux.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/"+kind+"?"+params.Encode(), nil))
		took := time.Since(begin)
		switch answer.status {
		case http.StatusOK:
			t.all, t.cpu = append(t.all, took), append(t.cpu, cpuTime()-before)
			t.bytes += answer.bytes
		case http.StatusUnprocessableEntity:
			t.over = append(t.over, selector)
		case http.StatusNotFound: // nothing is selected
		default:
			return t, fmt.Errorf("ask for %s: status %d", selector, answer.status)
		}
	}
	slices.Sort(t.all)
	slices.Sort(t.cpu)
	return t, nil
}

// cpuTime is what this process has used, the collection of garbage included.
func cpuTime() time.Duration {
	used, _ := cputime.Process() // never fails
	return used
}

func (t times) print(out io.Writer, answer string, span time.Duration, round int) {
	if len(t.all) == 0 {
		return
	}
	at := func(of []time.Duration, percent int) time.Duration {
		return of[min(len(of)-1, len(of)*percent/100)].Round(time.Millisecond)
	}
	fmt.Fprintf(out, "%s of %v, %d selectors, round %d: p50 %v, p95 %v, most %v; of CPU time %v, %v, %v; %.1f MiB an answer; beyond the limits: %s\n", answer, span, len(t.all), round,
		at(t.all, 50), at(t.all, 95), at(t.all, 100), at(t.cpu, 50), at(t.cpu, 95), at(t.cpu, 100),
		float64(t.bytes)/float64(len(t.all))/(1<<20), strings.Join(t.over, " "))
}

// counting is a client that throws away what it gets.
type counting struct {
	header http.Header
	status int
	bytes  int64
}

func (c *counting) Header() http.Header    { return c.header }
func (c *counting) WriteHeader(status int) { c.status = status }
func (c *counting) Write(b []byte) (int, error) {
	c.bytes += int64(len(b))
	return len(b), nil
}
