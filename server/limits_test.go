// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/server/profiletest"
)

// from is a client that asks from an address of its own.
func from(t *testing.T, address string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

var gauge = regexp.MustCompile(`(?m)^fleetprof_query_(running|waiting|memory_bytes) (\S+)$`)

// querying is what /metrics says of queries.
func (r *running) querying() map[string]string {
	r.t.Helper()
	_, text := r.do("GET", "/metrics", nil, nil)
	all := map[string]string{}
	for _, m := range gauge.FindAllStringSubmatch(text, -1) {
		all[m[1]] = m[2]
	}
	return all
}

// until waits for a state.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// TestManyHeavyQueries: one client asks for fifty large answers at once and leaves half of them
// in the middle. Another one is answered meanwhile, and nothing is left of them.
func TestManyHeavyQueries(t *testing.T) {
	r := start(t, t.TempDir(), http.HandlerFunc(hello))
	defer r.stop()
	now := time.Now()
	for i := range 2 {
		gz := profiletest.Gzip(t, profiletest.Random(uint64(i), "a", now.Add(-time.Minute), 150))
		if status, text := r.do("POST", "/api/v1/profiles", gz, nil); status != http.StatusNoContent {
			t.Fatal(status, text)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	before := runtime.NumGoroutine()
	heavy, other := from(t, "127.0.0.1"), from(t, "127.0.0.2")
	ask := func(ctx context.Context, c *http.Client, path string) (int, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, nil)
		if err != nil {
			return 0, err
		}
		answer, err := c.Do(request)
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode, err
	}
	leaving, leave := context.WithCancel(t.Context())
	defer leave()
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			ctx := t.Context()
			if i%2 == 0 {
				ctx = leaving
			}
			path := []string{"flamegraph?last=1h&max_nodes=262144", "pprof?last=1h", "diff?base_query={}&max_nodes=262144"}[i%3]
			status, err := ask(ctx, heavy, "/api/v1/"+path)
			if i%2 == 1 && (status != http.StatusOK || err != nil) {
				t.Errorf("%s: %d %v", path, status, err)
			}
		})
	}
	until(t, "queries wait", func() bool { return r.querying()["waiting"] > "0" })
	for range 5 {
		if status, err := ask(t.Context(), other, "/api/v1/labels?last=1h"); status != http.StatusOK {
			t.Errorf("another client: %d %v", status, err)
		}
	}
	leave()
	all.Wait()
	until(t, "no query runs or has memory", func() bool {
		return fmt.Sprint(r.querying()) == "map[memory_bytes:0 running:0 waiting:0]"
	})
	heavy.CloseIdleConnections()
	other.CloseIdleConnections()
	until(t, "no goroutine is left", func() bool {
		http.DefaultClient.CloseIdleConnections()
		return runtime.NumGoroutine() <= before
	})
}

// TestLongAddress: what does not even fit into a request is refused too.
func TestLongAddress(t *testing.T) {
	r := start(t, t.TempDir(), http.HandlerFunc(hello))
	defer r.stop()
	for _, path := range []string{"/api/v1/pprof", "/api/v1/series", "/querier.v1.QuerierService/LabelNames"} {
		status, text := r.do("GET", path+`?query={a="`+strings.Repeat("x", 100<<10)+`"}`, nil, nil)
		if status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: %d %.200s", path, status, text)
		}
	}
	body := `{"matchers": ["{a=\"` + strings.Repeat("x", 2<<20) + `\"}"], "start": "1", "end": "2"}`
	status, text := r.do("POST", "/querier.v1.QuerierService/LabelNames", []byte(body), func(r *http.Request) {
		r.Header.Set("Content-Type", "application/json")
	})
	if status != http.StatusTooManyRequests || !strings.Contains(text, "resource_exhausted") { // as Connect spells 413
		t.Errorf("a body of 2 MiB: %d %.200s", status, text)
	}
}
