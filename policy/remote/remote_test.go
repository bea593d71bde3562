// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/policy"
	"github.com/fleetprof/fleetprof/policy/remote"
	server "github.com/fleetprof/fleetprof/server/policy"
)

// keeper is a real server's half of this.
func keeper(t *testing.T, dir string) (*server.Keeper, http.Handler) {
	t.Helper()
	k, err := server.Open(server.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	k.Register(mux)
	return k, mux
}

// serve answers on an address until stop is called.
func serve(t *testing.T, address string, h http.Handler) (url string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = ln
	s.Start()
	stop = sync.OnceFunc(func() {
		s.CloseClientConnections()
		s.Close()
	})
	t.Cleanup(stop)
	return s.URL, stop
}

// agent is a follower that runs until the test ends.
type agent struct {
	*remote.Follower
	t        *testing.T
	registry *prometheus.Registry
	log      *safeBuffer
}

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func client(t *testing.T, url string) *remote.Client {
	t.Helper()
	c, err := remote.NewClient(url)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func follow(t *testing.T, source remote.Source) *agent {
	t.Helper()
	return followWith(t, source, nil)
}

// followWith has the policy kept from one run to the next.
func followWith(t *testing.T, source remote.Source, store remote.Store) *agent {
	t.Helper()
	a := &agent{t: t, registry: prometheus.NewRegistry(), log: new(safeBuffer)}
	var err error
	a.Follower, err = remote.NewFollower(remote.Options{Source: source, Store: store, Logger: slog.New(slog.NewTextHandler(a.log, nil)), Registerer: a.registry})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return a
}

// checkout is the decision about one service.
func (a *agent) checkout() policy.Decision {
	return a.Decide(func(name string) string {
		if name == "service_name" {
			return "checkout"
		}
		return ""
	})
}

// await returns once the decision is as wanted; each one that is not must be
// followed by a notice.
func (a *agent) await(want policy.Decision) {
	a.t.Helper()
	deadline := time.After(time.Minute)
	for {
		changed := a.Changed()
		if got := a.checkout(); got == want {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			a.t.Fatalf("decision is %+v, want %+v\n%s", a.checkout(), want, a.log)
		}
	}
}

// metric is the value of a counter or gauge; label is one of its labels' value.
func (a *agent) metric(name, label string) (value float64) {
	a.t.Helper()
	families, err := a.registry.Gather()
	if err != nil {
		a.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "fleetprof_policy_"+name && (label == "" || m.Label[0].GetValue() == label) {
				value += m.Counter.GetValue() + m.Gauge.GetValue()
			}
		}
	}
	return value
}

// awaitErrors returns once so many pulls have failed for a reason.
func (a *agent) awaitErrors(reason string, n float64) {
	a.t.Helper()
	for deadline := time.Now().Add(time.Minute); a.metric("pull_errors_total", reason) < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			a.t.Fatalf("%v pulls failed as %s: %s", a.metric("pull_errors_total", ""), reason, a.log)
		}
	}
}

func (a *agent) status() remote.Status { return a.Status(map[int]int{1: 10, 2: 20, 3: 30}) }

func parse(t *testing.T, text string) policy.Policy {
	t.Helper()
	p, err := policy.ParseYAML([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var (
	usual   = policy.Decision{KeepOneIn: 1}
	tenth   = policy.Decision{KeepOneIn: 10, Rule: 1}
	boosted = policy.Decision{KeepOneIn: 1, Frequency: 499, Rule: 1}
)

const tenthOfAll = "rules: [{selector: '{}', rate: 1/10}]"

// The way of a policy: set, boosted, expired; and what is seen of it meanwhile.
func TestFollow(t *testing.T) {
	_, h := keeper(t, t.TempDir())
	url, _ := serve(t, "127.0.0.1:0", h)
	c := client(t, url)
	a := follow(t, c)
	first, err := c.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Set(t.Context(), parse(t, tenthOfAll), first.Tag, "alice"); err != nil {
		t.Fatal(err)
	}
	a.await(tenth)
	if _, err := c.Set(t.Context(), policy.Policy{}, first.Tag, "bob"); err == nil || !strings.Contains(err.Error(), "412") {
		t.Errorf("a lost update gave %v", err)
	}
	b := remote.Boost{Selector: `{service_name="checkout"}`, Frequency: 499, For: "5s", Reason: "spike", By: "carol"}
	if _, err := c.Boost(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	a.await(boosted)
	s := a.status()
	if s.Version != 2 || s.Source != url || s.Received == nil || s.Error != "" || len(s.Rules) != 2 ||
		s.Rules[0].State != "in_force" || s.Rules[0].Rule.Reason != "spike" || s.Rules[1].Processes != 20 {
		t.Errorf("status is %+v", s)
	}
	a.await(policy.Decision{KeepOneIn: 10, Rule: 2}) // by its own clock: nobody sets anything
	if s := a.status(); s.Rules[0].State != "expired" || s.Rules[0].Processes != 0 || s.Rules[1].State != "in_force" {
		t.Errorf("status is %+v", s)
	}
	if v, in, out := a.metric("version", ""), a.metric("rules", "in_force"), a.metric("rules", "expired"); v != 2 || in != 1 || out != 1 {
		t.Errorf("version %v, %v rules in force, %v expired", v, in, out)
	}
	w := httptest.NewRecorder()
	a.Handler(func() map[int]int { return nil }).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if !json.Valid(w.Body.Bytes()) || !strings.Contains(w.Body.String(), `"rule":{"selector":"{service_name=\"checkout\"}","frequency":499,`) {
		t.Errorf("status is %s", w.Body)
	}
}

// Cut off from its server, an agent keeps the policy and ends the boosts; when the
// server is back, it takes what has changed meanwhile.
func TestServerAway(t *testing.T) {
	k, h := keeper(t, t.TempDir())
	url, stop := serve(t, "127.0.0.1:0", h)
	c := client(t, url)
	if _, err := c.Set(t.Context(), parse(t, tenthOfAll), "*", ""); err != nil {
		t.Fatal(err)
	}
	a := follow(t, c)
	a.await(tenth)
	if _, err := c.Boost(t.Context(), remote.Boost{Selector: "{}", Frequency: 499, For: "6s"}); err != nil {
		t.Fatal(err)
	}
	a.await(boosted)
	stop()
	a.awaitErrors("unreachable", 3)
	if s := a.status(); s.Version != 2 || s.Error == "" {
		t.Errorf("status is %+v", s)
	}
	a.await(policy.Decision{KeepOneIn: 10, Rule: 2})
	if _, err := k.Set(policy.Policy{}, nil, server.Author{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	serve(t, url[len("http://"):], h)
	a.await(usual)
	if s := a.status(); s.Version != 3 || s.Error != "" {
		t.Errorf("status is %+v", s)
	}
	log := a.log.String()
	if strings.Count(log, "cannot be pulled") != 1 || strings.Count(log, "can be pulled again") != 1 {
		t.Errorf("log is\n%s", log)
	}
}

// hostile answers in a way that no server of ours does.
func hostile(good http.Handler, bad http.HandlerFunc) (h http.Handler, turn func()) {
	turned := make(chan struct{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-turned:
			bad(w, r)
		default:
			good.ServeHTTP(w, r)
		}
	}), func() { close(turned) }
}

// Whatever a server answers, the last good policy stays in force, and the agent
// neither takes it all in nor asks all the time.
func TestHostileAnswers(t *testing.T) {
	body := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"bad"`)
			_, _ = io.WriteString(w, text)
		}
	}
	for _, c := range []struct {
		name, reason string
		answer       http.HandlerFunc
	}{
		{"garbage", "invalid", body("\x00\xff<html>")},
		{"empty", "invalid", body("")},
		{"huge", "invalid", body(strings.Repeat(" ", 8<<20))},
		{"deep", "invalid", body(strings.Repeat(`{"rules":[`, 20_000))},
		{"boost for ever", "invalid", body(`{"rules":[{"selector":"{}","frequency":999,"until":"9999-01-01T00:00:00Z"}]}`)},
		{"no ETag", "invalid", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"rules":[]}`) }},
		{"long ETag", "invalid", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", strings.Repeat("x", 1000))
			_, _ = io.WriteString(w, `{"rules":[]}`)
		}},
		{"endless", "invalid", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"bad"`)
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}},
		{"cut off", "unreachable", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"bad"`)
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"rules":[]}`)
		}},
		{"large header", "unreachable", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 100_000))
		}},
		{"error page", "refused", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "\x1b[31m"+strings.Repeat("x", 1<<20), http.StatusBadGateway)
		}},
		{"redirect", "refused", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k, good := keeper(t, t.TempDir())
			h, turn := hostile(good, c.answer)
			url, _ := serve(t, "127.0.0.1:0", h)
			if _, err := k.Set(parse(t, tenthOfAll), nil, server.Author{}, time.Now()); err != nil {
				t.Fatal(err)
			}
			a := follow(t, client(t, url))
			a.await(tenth)
			turn()
			k.Release() // ends the long poll
			a.awaitErrors(c.reason, 2)
			if got := a.checkout(); got != tenth {
				t.Errorf("decision is %+v", got)
			}
			if log := a.log.String(); strings.Count(log, "cannot be pulled") != 1 || strings.Contains(log, "\x1b") || len(log) > 40_000 {
				t.Errorf("log has %d bytes: %.2000s", len(log), log)
			}
		})
	}
}

// A server that never waits, whatever it is asked, is asked once a second.
func TestServerThatDoesNotWait(t *testing.T) {
	var asked atomicCount
	url, _ := serve(t, "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := asked.add()
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, n))
		fmt.Fprintf(w, `{"version":%d,"rules":[]}`, n)
	}))
	a := follow(t, client(t, url))
	begin := time.Now()
	for a.metric("version", "") < 3 {
		time.Sleep(10 * time.Millisecond)
	}
	if took, n := time.Since(begin), asked.get(); float64(n) > took.Seconds()+2 {
		t.Errorf("%d questions in %v", n, took)
	}
}

type atomicCount struct {
	mu sync.Mutex
	n  int
}

func (c *atomicCount) add() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}

func (c *atomicCount) get() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// scripted gives answers that a test makes up.
type scripted chan remote.Answer

func (scripted) String() string { return "script" }

func (s scripted) Next(ctx context.Context, _ string, _ time.Duration) (remote.Answer, error) {
	select {
	case a := <-s:
		return a, nil
	case <-ctx.Done():
		return remote.Answer{}, ctx.Err()
	}
}

// Rules end by the server's clock, however wrong ours is; an answer that says
// nothing but the time corrects it, and does not revive what has expired.
func TestClocks(t *testing.T) { synctest.Test(t, testClocks) }

func testClocks(t *testing.T) {
	source := make(scripted)
	a := follow(t, source)
	theirs := time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC) // years behind this host
	p := parse(t, "rules: [{selector: '{}', frequency: 499, until: 1990-01-01T01:00:00Z}]")
	source <- remote.Answer{Policy: p, Tag: "1", Time: theirs}
	a.await(boosted)
	source <- remote.Answer{Unchanged: true, Time: theirs.Add(59 * time.Minute)}
	source <- remote.Answer{Unchanged: true, Time: theirs.Add(30 * time.Minute)} // the one before has been taken
	if got := a.checkout(); got != boosted {
		t.Errorf("decision is %+v", got)
	}
	source <- remote.Answer{Unchanged: true, Time: theirs.Add(time.Hour)}
	a.await(usual)
	source <- remote.Answer{Unchanged: true, Time: theirs}
	source <- remote.Answer{Unchanged: true}
	source <- remote.Answer{Unchanged: true}
	if got := a.checkout(); got != usual {
		t.Errorf("an expired rule is back: %+v", got)
	}
	// Another policy has the clock of its answer.
	source <- remote.Answer{Policy: p, Tag: "2", Time: theirs}
	a.await(boosted)
	source <- remote.Answer{Unchanged: true} // says no time, so the one known goes on
	source <- remote.Answer{Unchanged: true}
	if got := a.checkout(); got != boosted {
		t.Errorf("decision is %+v", got)
	}
	// And without one, ours, by which this end is too far ahead.
	source <- remote.Answer{Policy: parse(t, "rules: [{selector: '{}', frequency: 499, until: 2040-01-01T01:00:00Z}]"), Tag: "3"}
	a.awaitErrors("invalid", 1)
	if got := a.checkout(); got != boosted {
		t.Errorf("decision is %+v", got)
	}
}

// A first answer that says unchanged would leave the agent without any policy.
func TestUnchangedAtFirst(t *testing.T) {
	source := make(scripted, 1)
	a := follow(t, source)
	source <- remote.Answer{Unchanged: true}
	a.awaitErrors("invalid", 1)
	if s := a.status(); s.Received != nil || s.Error == "" {
		t.Errorf("status is %+v", s)
	}
}

// Decisions may be asked for from anywhere while policies change.
func TestConcurrentUse(t *testing.T) {
	source := make(scripted)
	a := follow(t, source)
	p := parse(t, tenthOfAll)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				if got := a.checkout(); got != tenth && got != usual {
					t.Errorf("decision is %+v", got)
				}
				a.status()
				a.metric("version", "")
			}
		})
	}
	source <- remote.Answer{Policy: p, Tag: "1"}
	source <- remote.Answer{Policy: policy.Policy{}, Tag: "2"}
	source <- remote.Answer{Policy: p, Tag: "3"}
	a.await(tenth)
	cancel()
	all.Wait()
}

func TestNewClientRefuses(t *testing.T) {
	for _, address := range []string{"", "localhost:7171", "ftp://host", "http://", "http://user:secret@host:port", "http://host?x=y", "//host"} {
		if c, err := remote.NewClient(address); err == nil {
			t.Errorf("%q is accepted as %v", address, c)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("error is %v", err)
		}
	}
	if s := client(t, "https://user:secret@host").String(); strings.Contains(s, "secret") {
		t.Errorf("the source is called %s", s)
	}
}
