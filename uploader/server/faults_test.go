// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/uploader"
)

// grumpy stands before a server and answers some requests itself, as a server or a proxy in
// trouble does: every third of the first ones.
func grumpy(t *testing.T, base string) (address string) {
	t.Helper()
	to, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // bodies are cut off
	var requests atomic.Int32
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := requests.Add(1)
		if n%3 != 0 || n > 6 {
			proxy.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Retry-After", "0")
		http.Error(w, "not now", []int{http.StatusTooManyRequests, http.StatusInternalServerError}[n%2])
	}))
	t.Cleanup(front.Close)
	return front.Listener.Addr().String()
}

// shaky passes connections on, and cuts every second of the first ones: amid the request, amid
// the answer, or after a while in which nothing passes. connections counts them.
func shaky(t *testing.T, address string, connections *atomic.Int32) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			go pass(client, address, connections.Add(1))
		}
	}()
	return "http://" + ln.Addr().String()
}

func pass(client net.Conn, address string, n int32) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	up, down := int64(1500), int64(1<<20) // a connection lives for two or three requests
	switch n {
	case 2, 8:
		up = rand.Int64N(500)
	case 4:
		down = rand.Int64N(60)
	case 6:
		up = 0
		time.Sleep(100 * time.Millisecond)
	}
	var cut sync.WaitGroup
	once := func(to, from net.Conn, n int64) {
		_, _ = io.CopyN(to, from, n)
		client.Close()
		server.Close()
	}
	cut.Go(func() { once(server, client, up) })
	cut.Go(func() { once(client, server, down) })
	cut.Wait()
}

// TestFaults sends windows through all that can happen on the way: each sample is stored, and
// none twice.
func TestFaults(t *testing.T) {
	t.Parallel()
	base, stop := serve(t, t.TempDir(), "127.0.0.1:0")
	defer stop()
	var connections atomic.Int32
	registry := prometheus.NewRegistry()
	u, err := uploader.New(uploader.Options{
		Destinations: []uploader.Destination{destination(t, shaky(t, grumpy(t, base), &connections))},
		SpoolDir:     t.TempDir(), Logger: slog.New(slog.DiscardHandler), Registerer: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- u.Run(ctx) }()
	begin, want := time.Now().Add(-40*time.Minute), int64(0)
	for i := range 60 {
		start, n := begin.Add(time.Duration(i)*10*time.Second), int64(i+1)
		want += n
		gz := profiletest.Gzip(t, profiletest.New(start, profiletest.Sample{
			Stack: fmt.Sprint("main;", rand.Uint64()), Labels: map[string]string{"host_name": "a"}, Count: n,
		}))
		u.Enqueue(sample.Profile{Start: start, Duration: 10 * time.Second, Samples: n, PProf: gz})
	}
	for deadline := time.Now().Add(time.Minute); value(t, registry, "sent") < float64(want) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := counts(t, base)["a"]; got != want || value(t, registry, "dropped") != 0 {
		t.Errorf("the server has %d samples, want %d; %v were dropped", got, want, value(t, registry, "dropped"))
	}
	if n := connections.Load(); n < 8 {
		t.Errorf("only %d connections: not all faults have happened", n)
	}
}

// value is the number of samples of which something has become.
func value(t *testing.T, r *prometheus.Registry, what string) (sum float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "fleetprof_uploader_samples_"+what+"_total" {
			for _, m := range f.Metric {
				sum += m.Counter.GetValue()
			}
		}
	}
	return sum
}
