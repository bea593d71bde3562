// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/sample"
	central "github.com/fleetprof/fleetprof/server"
	"github.com/fleetprof/fleetprof/server/access"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
	"github.com/fleetprof/fleetprof/uploader"
)

// serve runs the real server on an address until the function it gives is
// called.
func serve(t *testing.T, dir, address string) (url string, stop func()) {
	t.Helper()
	log, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	s, err := store.Open(dir, store.Options{Logger: log, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	guard, err := access.New(access.Options{Logger: log, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	limiter, err := access.NewLimiter(access.Limits{RequestsPerSecond: 1000}, registry)
	if err != nil {
		t.Fatal(err)
	}
	h, err := central.New(central.Options{Store: s, Logger: log, Registry: registry, Page: http.NotFoundHandler(), Guard: guard, Limiter: limiter})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Serve(ctx, ln) }()
	return "http://" + ln.Addr().String(), func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// counts fetches what the server has and sums the samples by host.
func counts(t *testing.T, base string) map[string]int64 {
	t.Helper()
	resp, err := http.Get(base + "/api/v1/pprof?last=" + url.QueryEscape("1h"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p, err := profile.Parse(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]int64{}
	for _, s := range p.Sample {
		sums[s.Label["host_name"][0]] += s.Value[0]
	}
	return sums
}

// waitForRetry returns once a destination has been found away.
func waitForRetry(t *testing.T, r *prometheus.Registry) {
	t.Helper()
	for t.Context().Err() == nil {
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "fleetprof_uploader_retries_total" && f.Metric[0].Counter.GetValue() > 0 {
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// TestStoreAwayAndBack sends windows of two hosts while the server stops and
// starts again: each sample arrives, and none twice.
func TestStoreAwayAndBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	base, stop := serve(t, dir, "127.0.0.1:0")
	registry := prometheus.NewRegistry()
	u, err := uploader.New(uploader.Options{
		Destinations: []uploader.Destination{destination(t, base), destination(t, base+"/")}, // everything is sent twice
		Logger:       slog.New(slog.DiscardHandler), Registerer: registry, FlushTimeout: 20 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- u.Run(ctx) }()
	begin, want := time.Now().Add(-40*time.Minute), map[string]int64{}
	for i := range 60 {
		if i == 20 {
			stop()
		}
		if i == 40 {
			waitForRetry(t, registry)
			_, stop = serve(t, dir, base[len("http://"):])
		}
		host, n := fmt.Sprint("host-", i%2), int64(i+1)
		want[host] += n
		start := begin.Add(time.Duration(i) * 10 * time.Second)
		gz := profiletest.Gzip(t, profiletest.New(start, profiletest.Sample{Stack: "main", Labels: map[string]string{"host_name": host}, Count: n}))
		u.Enqueue(sample.Profile{Start: start, Duration: 10 * time.Second, Samples: n, PProf: gz})
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	defer stop()
	if got := counts(t, base); len(got) != 2 || got["host-0"] != want["host-0"] || got["host-1"] != want["host-1"] {
		t.Errorf("the server has %v, want %v", got, want)
	}
}
