// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server"
	"github.com/fleetprof/fleetprof/server/access"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
)

// running is a server on a loopback port.
type running struct {
	t    *testing.T
	url  string
	stop func() error // idempotent; gives what Serve and Close gave
}

func start(t *testing.T, dir string, page http.Handler) *running {
	t.Helper()
	return startGuarded(t, dir, page, access.Options{})
}

func startGuarded(t *testing.T, dir string, page http.Handler, guarding access.Options) *running {
	t.Helper()
	log, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	s, err := store.Open(dir, store.Options{Logger: log, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	guarding.Logger, guarding.Registerer = log, registry
	guard, err := access.New(guarding)
	if err != nil {
		t.Fatal(err)
	}
	limiter, err := access.NewLimiter(access.Limits{RequestsPerSecond: 100}, registry)
	if err != nil {
		t.Fatal(err)
	}
	h, err := server.New(server.Options{
		Store: s, Logger: log, Registry: registry, Page: page, Guard: guard, Limiter: limiter, Host: "profiles.example",
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, ln) }()
	stopped := false
	r := &running{t: t, url: "http://" + ln.Addr().String()}
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		if err := <-served; err != nil {
			return err
		}
		return s.Close()
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func hello(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the page") }

func (r *running) do(method, path string, body []byte, change func(*http.Request)) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (r *running) want(method, path string, body []byte, change func(*http.Request), code int, part string) {
	r.t.Helper()
	if got, text := r.do(method, path, body, change); got != code || !strings.Contains(text, part) {
		r.t.Errorf("%s %s: %d %q, want %d and %q", method, path, got, text, code, part)
	}
}

func TestEndpoints(t *testing.T) {
	r := start(t, t.TempDir(), http.HandlerFunc(hello))
	gz := profiletest.Gzip(t, profiletest.New(time.Now().Add(-20*time.Second), profiletest.Sample{Stack: "main", Labels: map[string]string{"host_name": "a"}, Count: 3}))
	r.want("GET", "/", nil, nil, 200, "the page")
	r.want("GET", "/anything", nil, nil, 200, "the page")
	r.want("GET", "/healthz", nil, nil, 200, "ok")
	r.want("GET", "/readyz", nil, nil, 200, "ready")
	r.want("GET", "/api/v1/pprof", nil, nil, 404, "nothing is stored yet")
	r.want("POST", "/api/v1/profiles", gz, nil, 204, "")
	r.want("POST", "/api/v1/profiles", []byte("x"), nil, 400, "unpack gzip")
	r.want("GET", "/api/v1/labels", nil, nil, 200, `{"status":"success","data":["host_name"]}`)
	r.want("GET", "/api/v1/labels/host_name/values", nil, nil, 200, `["a"]`)
	r.want("GET", "/api/v1/flamegraph", nil, nil, 200, `"samples":3`)
	r.want("GET", "/api/v2/pprof", nil, nil, 404, `{"error":"no such endpoint: GET /api/v2/pprof","status":"error"}`)
	r.want("GET", "/metrics", nil, nil, 200, `fleetprof_ingest_profiles_total{protocol="pprof",result="stored"} 1`)
	r.want("GET", "/metrics", nil, nil, 200, "fleetprof_store_profiles 1")
	r.want("GET", "/metrics", nil, nil, 200, `fleetprof_query_requests_total{endpoint="pprof",result="no_data"} 1`)
}

// TestForeignPages has requests as a browser makes them for a page elsewhere.
func TestForeignPages(t *testing.T) {
	r := start(t, t.TempDir(), http.HandlerFunc(hello))
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	for _, h := range []string{"localhost", "localhost:80", "LOCALHOST.", "a.localhost", "127.0.0.1:1", "[::1]:7171", "[::1]", "10.1.2.3", "profiles.example:7171", "Profiles.Example"} {
		r.want("GET", "/healthz", nil, host(h), 200, "ok")
	}
	for _, h := range []string{"evil.example", "evil.example:7171", "127.0.0.1.evil.example", "localhost.evil.example", "notlocalhost"} {
		r.want("GET", "/healthz", nil, host(h), 403, "http://127.0.0.1")
		r.want("GET", "/api/v1/labels", nil, host(h), 403, "--listen")
	}
	r.want("POST", "/api/v1/profiles", []byte("x"), func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403, "cross-origin")
	r.want("POST", "/api/v1/profiles", []byte("x"), func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }, 403, "cross-origin")
}

// TestRestart stores, stops, starts again on the same directory, and asks.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir, http.HandlerFunc(hello))
	begin := time.Now().Add(-time.Minute)
	var want int64
	for i := range 5 {
		want += int64(i + 1)
		gz := profiletest.Gzip(t, profiletest.New(begin.Add(time.Duration(i)*10*time.Second), profiletest.Sample{Stack: "main", Count: int64(i + 1)}))
		r.want("POST", "/api/v1/profiles", gz, nil, 204, "")
		r.want("POST", "/api/v1/profiles", gz, nil, 204, "") // as if the answer had been lost
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, dir, http.HandlerFunc(hello))
	_, body := r.do("GET", "/api/v1/pprof?last=1h", nil, nil)
	p, err := profile.ParseData([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	var got int64
	for _, s := range p.Sample {
		got += s.Value[0]
	}
	if got != want {
		t.Errorf("%d samples after the restart, want %d", got, want)
	}
}

func TestNotReady(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir, http.HandlerFunc(hello))
	if err := os.RemoveAll(filepath.Join(dir, "tmp")); err != nil {
		t.Fatal(err)
	}
	r.want("GET", "/readyz", nil, nil, 503, "not ready: cannot store profiles")
	r.want("GET", "/healthz", nil, nil, 200, "ok")
}

// TestStop ends the server while one request never finishes.
func TestStop(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	r := start(t, t.TempDir(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-release
	}))
	answered := make(chan error, 1)
	go func() {
		resp, err := http.Get(r.url + "/")
		if err == nil {
			resp.Body.Close()
		}
		answered <- err
	}()
	<-entered
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if err := <-answered; err == nil {
		t.Error("the request that never finishes was answered")
	}
}

func TestLargeHeaderIsRefused(t *testing.T) {
	r := start(t, t.TempDir(), http.HandlerFunc(hello))
	r.want("GET", "/", nil, func(r *http.Request) { r.Header.Set("X", strings.Repeat("x", 100_000)) }, 431, "")
}
