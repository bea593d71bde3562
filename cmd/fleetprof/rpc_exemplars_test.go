// SPDX-License-Identifier: Apache-2.0

package main

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// TestExemplars asks servers with trace ids that tell the route, behind headers of more
// than what is captured of a request otherwise. Two agents look on, one of which was not
// asked for exemplars; the other one sends them to a server, too.
func TestExemplars(t *testing.T) {
	needRoot(t)
	t.Parallel()
	const most = 3
	store := start(t, "server", "--data="+t.TempDir())
	on, off := newWatcher(t, fmt.Sprintf("--trace-exemplars=%d", most), "--store="+store.url), newWatcher(t)
	dir := builtHandlers(t, buildGoHTTP, buildGRPCGo).dir
	for _, s := range []struct {
		name    string
		command func(address string) []string
		// bound says that samples are bound to requests, not to handlers only.
		bound bool
	}{
		{"go-http", func(address string) []string { return []string{dir + "/gohttp", address} }, true},
		{"grpc-go", func(address string) []string { return []string{dir + "/grpcserver", address} }, false},
		{"python-threads", func(address string) []string { return []string{"python3", "testdata/rpc/threads.py", port(address)} }, true},
	} {
		t.Run(s.name, func(t *testing.T) {
			address := freeAddress(t)
			command := s.command(address)
			server := background(t, command[0], command[1:]...)
			awaitAddress(t, address)
			servers := handlerServers()
			client := &handlerClient{address: address, server: &servers[slices.IndexFunc(servers, func(h handlerServer) bool { return h.name == s.name })]}
			warm := handlerLoad{clients: 2, keepAlive: true} // the agent meets the program
			if _, err := client.load(warm, time.Now().Add(500*time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			begin := on.nextWindow(t)
			asked := askTraced(t, client, begin.Add(3*windowLength))
			end := time.Now()
			on.windows(t, end.Add(windowLength))
			server.end()
			checkExemplars(t, on.exemplars(t, begin), client.server, asked, most, s.bound)
			checkQuery(t, store.url, client.server, asked)
		})
	}
	if n := len(off.exemplars(t, time.Time{})); n > 0 {
		t.Errorf("%d documents of an agent that was not asked for them", n)
	}
	for _, result := range []string{"malformed", "unknown"} {
		if n := on.sum(t, fmt.Sprintf("fleetprof_rpc_traceparents_total{result=%q}", result)); n > 0 {
			t.Errorf("%.0f traceparents are %s", n, result)
		}
	}
}

// tracedRequest is what is known of a request by its trace id.
type tracedRequest struct {
	route   *handlerRoute
	span    string
	sampled bool
}

// askTraced sends requests, one after the other, until a time.
func askTraced(t *testing.T, c *handlerClient, until time.Time) map[string]tracedRequest {
	t.Helper()
	asked := make(map[string]tracedRequest)
	client := c.client(true)
	defer client.CloseIdleConnections()
	for time.Now().Before(until) {
		r := &handlerRoutes[rand.N(len(handlerRoutes))]
		req, err := c.request(r)
		if err != nil {
			t.Fatal(err)
		}
		trace := fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()|1)
		told := tracedRequest{r, fmt.Sprintf("%016x", rand.Uint64()|1), rand.N(2) == 1}
		flags := map[bool]string{false: "02", true: "03"}[told.sampled]
		req.Header.Set("A-Filler", strings.Repeat("x", 400))
		req.Header.Set("Traceparent", fmt.Sprintf("00-%s-%s-%s", trace, told.span, flags))
		req.Header.Set("Tracestate", "vendor="+secret)
		asked[trace] = told
		answer, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
	}
	return asked
}

// exemplars reads the documents of the windows that end after a time.
func (w watcher) exemplars(t *testing.T, after time.Time) (all []sample.Exemplars) {
	t.Helper()
	paths, err := filepath.Glob(w.directory + "/*.exemplars.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		text, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(text)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), secret) {
			t.Errorf("%s has what must not leave the host: %s", path, raw)
		}
		var document sample.Exemplars
		if err := json.Unmarshal(raw, &document); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if document.Start.Add(document.Duration).After(after) {
			all = append(all, document)
		}
	}
	return all
}

// checkExemplars holds what an agent keeps of a server's requests against what was
// asked.
func checkExemplars(t *testing.T, windows []sample.Exemplars, s *handlerServer, asked map[string]tracedRequest, most int, bound bool) {
	t.Helper()
	period := time.Second / 499
	routes := make(map[string]int)
	var all int
	var cpu time.Duration
	for _, w := range windows {
		kept := make(map[string]int)
		for _, e := range w.Exemplars {
			told, is := asked[e.TraceID.String()]
			if !is {
				t.Errorf("nobody asked with trace id %s: %v", e.TraceID, e)
				continue
			}
			all++
			kept[fmt.Sprint(e.Labels)]++
			routes[told.route.letter]++
			if e.SpanID.String() != told.span || e.Sampled != told.sampled || !s.says(told.route, e.Labels) || e.Labels["service_name"] == "" || e.Labels["host_name"] == "" {
				t.Errorf("%+v of route %s, want span %s, sampled %v", e, told.route.letter, told.span, told.sampled)
			}
			if e.Duration <= 0 || e.StatusClass != "2xx" || e.Start.After(w.Start.Add(w.Duration)) {
				t.Errorf("%+v in the window from %v", e, w.Start)
			}
			switch {
			case (e.CPU != nil) != bound:
				t.Errorf("%+v: CPU time, want it %v", e, bound)
			case bound:
				cpu += *e.CPU
				if limit := time.Duration(runtime.NumCPU()) * (e.Duration + 2*period); *e.CPU > limit {
					t.Errorf("%v of CPU time in %v", *e.CPU, e.Duration)
				}
			}
		}
		for handler, n := range kept {
			if n > most {
				t.Errorf("%d exemplars of %s in a window, want at most %d", n, handler, most)
			}
		}
	}
	t.Logf("%d requests, %d exemplars in %d windows: %v, %v of CPU time", len(asked), all, len(windows), routes, cpu)
	if len(routes) != len(handlerRoutes) {
		t.Errorf("exemplars of %v", routes)
	}
	if bound && cpu == 0 {
		t.Error("no CPU time")
	}
}

// checkQuery asks a server for the exemplars of one route.
func checkQuery(t *testing.T, url string, s *handlerServer, asked map[string]tracedRequest) {
	t.Helper()
	r := &handlerRoutes[0]
	selector := fmt.Sprintf(`{url_template=%q}`, "/work/{number}")
	switch {
	case s.protocol == grpc:
		selector = fmt.Sprintf(`{rpc_method=%q}`, strings.TrimPrefix(r.rpc, "/"))
	case s.knowsRoutes():
		selector = fmt.Sprintf(`{http_route=%q}`, r.pattern)
	}
	out, err := exec.Command(fleetprof, "query", selector, "--exemplars", "--server="+url).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	rows := strings.Split(strings.TrimSpace(string(out)), "\n")[1:]
	known := 0
	for _, row := range rows {
		if told, is := asked[strings.Fields(row)[4]]; is && told.route == r {
			known++
		} else if is {
			t.Errorf("%s: route %s", row, told.route.letter)
		}
	}
	if known == 0 {
		t.Errorf("query %s says\n%s", selector, out)
	}
}
