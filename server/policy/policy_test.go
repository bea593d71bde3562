// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/server/policy"
)

// service is the endpoints on a loopback port.
type service struct {
	t        testing.TB
	url      string
	keeper   *policy.Keeper
	registry *prometheus.Registry
	listener *deadlines
}

// deadlines is a listener that knows what deadlines its connections have.
type deadlines struct {
	net.Listener
	mu  sync.Mutex
	all []*limited
}

// limited is one of these connections.
type limited struct {
	net.Conn
	mu          sync.Mutex
	read, write time.Time
}

func (d *deadlines) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	one := &limited{Conn: c}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, one)
	return one, nil
}

// beyond counts the connections that may be read and written for so long from now on.
func (d *deadlines) beyond(after time.Duration) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.all {
		c.mu.Lock()
		if at := time.Now().Add(after); c.read.After(at) && c.write.After(at) {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

func (c *limited) SetReadDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = at
	return c.Conn.SetReadDeadline(at)
}

func (c *limited) SetWriteDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = at
	return c.Conn.SetWriteDeadline(at)
}

// timeout bounds requests that do not wait.
const timeout = 10 * time.Second

func open(dir string, registry *prometheus.Registry) (*policy.Keeper, error) {
	return policy.Open(policy.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler), Registerer: registry})
}

func start(t testing.TB, dir string) *service {
	t.Helper()
	s := &service{t: t, registry: prometheus.NewRegistry()}
	var err error
	if s.keeper, err = open(dir, s.registry); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	s.keeper.Register(mux)
	h := httptest.NewUnstartedServer(mux)
	h.Config.ReadTimeout, h.Config.WriteTimeout, h.Config.IdleTimeout = timeout, timeout, time.Minute
	s.listener = &deadlines{Listener: h.Listener}
	h.Listener = s.listener
	h.Start()
	t.Cleanup(h.Close)
	t.Cleanup(s.keeper.Release)
	s.url = h.URL + "/api/v1/policy"
	return s
}

// answer is what came back.
type answer struct {
	status int
	tag    string
	body   string
}

func (s *service) do(method, path, body string, headers ...string) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Error(err)
		return answer{}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Error(err)
	}
	return answer{resp.StatusCode, resp.Header.Get("ETag"), string(text)}
}

func (s *service) want(a answer, status int, part string) answer {
	s.t.Helper()
	if a.status != status || !strings.Contains(a.body, part) {
		s.t.Errorf("answer is %d %s, want %d and %s", a.status, a.body, status, part)
	}
	return a
}

const off = `{"rules":[{"selector":"{service_name=\"batch\"}","off":true}]}`

func TestSetAndGet(t *testing.T) {
	s := start(t, t.TempDir())
	first := s.want(s.do("GET", "", ""), 200, `{"version":0,"rules":[]}`)
	set := s.want(s.do("PUT", "?by=alice", off, "If-Match", first.tag), 200, `{"version":1,"rules":[{"selector":"{service_name=\"batch\"}","off":true}]}`)
	if got := s.do("GET", "", ""); got != set {
		t.Errorf("set gave %v, get %v", set, got)
	}
	s.want(s.do("GET", "", "", "If-None-Match", set.tag), 304, "")
	s.want(s.do("GET", "", "", "If-None-Match", `"x", W/`+set.tag), 304, "")

	s.want(s.do("PUT", "", off), 428, "If-Match is missing")
	s.want(s.do("PUT", "", off, "If-Match", first.tag), 412, "the policy has changed meanwhile")
	s.want(s.do("PUT", "", off, "If-Match", "W/"+set.tag), 412, "")
	s.want(s.do("PUT", "", `{"rules":[`, "If-Match", "*"), 400, `"faults":[{"line":1,"column":11,"reason":"not JSON:`)
	s.want(s.do("PUT", "", "rules: []", "If-Match", "*"), 400, "not JSON")
	s.want(s.do("PUT", "", `{"rules":[{"selector":"{}","off":true,"until":"2020-01-01T00:00:00Z"}]}`, "If-Match", "*"), 400, "is past")
	s.want(s.do("PUT", "", strings.Repeat(" ", 300<<10), "If-Match", "*"), 413, "too large")
	s.want(s.do("PUT", "?by=%1b", off, "If-Match", "*"), 400, "by: want")
	s.want(s.do("GET", "?wait=x", ""), 400, "want a time such as 60s")
	if got := s.do("GET", "", ""); got != set {
		t.Errorf("after refusals the policy is %v", got)
	}
	s.want(s.do("PUT", "", `{"version":1,"rules":[]}`, "If-Match", `"other", `+set.tag), 200, `"version":2`)
	s.want(s.do("PUT", "", off, "If-Match", "*"), 200, `"version":3`)
	if got := testutil.ToFloat64(counter(t, s.registry, "conflict")); got != 2 {
		t.Errorf("%v conflicts counted", got)
	}
}

// counter is the counter of PUTs with a result.
func counter(t *testing.T, r *prometheus.Registry, result string) prometheus.Collector {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "found"})
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "fleetprof_policy_server_requests_total" && m.Label[0].GetValue() == "set" && m.Label[1].GetValue() == result {
				g.Set(m.Counter.GetValue())
			}
		}
	}
	return g
}

func TestBoost(t *testing.T) {
	s := start(t, t.TempDir())
	s.do("PUT", "", `{"rules":[{"selector":"{a=\"b\"}","off":true},{"selector":"{}","rate":"1/2"}]}`, "If-Match", "*")
	before := time.Now()
	a := s.want(s.do("POST", "/boost", `{"selector":"{service_name=\"checkout\"}","frequency":499,"for":"60s","by":"bob"}`), 200, `"version":2`)
	var got struct {
		Rules []struct {
			Selector, Rate string
			Frequency      int
			Until          time.Time
		}
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Rules) != 3 || got.Rules[1].Frequency != 499 || got.Rules[2].Rate != "1/2" {
		t.Fatalf("rules are %+v", got.Rules)
	}
	if end := got.Rules[1].Until; end.Before(before.Add(59*time.Second)) || end.After(time.Now().Add(time.Minute)) {
		t.Errorf("the boost ends at %v", end)
	}
	s.want(s.do("POST", "/boost", `{"selector":"{http_route=\"/\"}","frequency":499,"for":"60s"}`), 400, "single samples")
	s.want(s.do("POST", "/boost", strings.Repeat(" ", 10_000)), 413, "")
}

// Rules that have expired go with the next change.
func TestExpiredRulesGo(t *testing.T) {
	s := start(t, t.TempDir())
	s.do("POST", "/boost", `{"selector":"{a=\"b\"}","frequency":499,"for":"1s"}`)
	for strings.Contains(s.do("GET", "", "").body, `\"b\"`) {
		time.Sleep(50 * time.Millisecond)
		s.want(s.do("POST", "/boost", `{"selector":"{c=\"d\"}","frequency":499,"for":"60s"}`), 200, "")
	}
}

// A long poll ends with the change, with 304 at the end of its time, and at once
// when the server ends.
func TestLongPoll(t *testing.T) {
	s := start(t, t.TempDir())
	first := s.do("GET", "", "")
	s.want(s.do("GET", "?wait=1h", "", "If-None-Match", `"0-other"`), 200, "")
	begin := time.Now()
	s.want(s.do("GET", "?wait=200ms", "", "If-None-Match", first.tag), 304, "")
	if waited := time.Since(begin); waited < 200*time.Millisecond {
		t.Errorf("the answer comes after %v", waited)
	}
	var waiting sync.WaitGroup
	for range 50 {
		waiting.Go(func() {
			s.want(s.do("GET", "?wait=60s", "", "If-None-Match", first.tag), 200, `"version":1`)
		})
	}
	s.awaitWaiting(50)
	for end := time.Now().Add(timeout); s.listener.beyond(2*timeout) != 50; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of 50 long polls have a connection that outlives the server's own deadlines", s.listener.beyond(2*timeout))
		}
	}
	s.want(s.do("PUT", "", off, "If-Match", first.tag), 200, "")
	waiting.Wait()
	tag := s.do("GET", "", "").tag
	waiting.Go(func() { s.want(s.do("GET", "?wait=60s", "", "If-None-Match", tag), 304, "") })
	s.awaitWaiting(1)
	s.keeper.Release()
	s.keeper.Release()
	waiting.Wait()
}

// awaitWaiting returns once so many long polls wait.
func (s *service) awaitWaiting(n int) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		families, err := s.registry.Gather()
		if err != nil {
			s.t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "fleetprof_policy_server_waiting" && f.Metric[0].Gauge.GetValue() == float64(n) {
				return
			}
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d long polls do not wait", n)
		}
	}
}

// Of writers at the same time with the same ETag one wins.
func TestOneOfManyWins(t *testing.T) {
	s := start(t, t.TempDir())
	first := s.do("GET", "", "")
	var all sync.WaitGroup
	statuses := make([]int, 20)
	for i := range statuses {
		all.Go(func() {
			statuses[i] = s.do("PUT", "", fmt.Sprintf(`{"rules":[{"selector":"{}","rate":"1/%d"}]}`, i+1), "If-Match", first.tag).status
		})
	}
	all.Wait()
	sum := 0
	for _, status := range statuses {
		sum += status
	}
	if sum != 200+19*412 {
		t.Errorf("statuses are %v", statuses)
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	for i := range 60 {
		s.do("PUT", "?by=alice", fmt.Sprintf(`{"rules":[{"selector":"{}","rate":"1/%d","reason":"<%d>"}]}`, i+1, i), "If-Match", "*")
	}
	last := s.do("GET", "", "")
	if got := start(t, dir).do("GET", "", ""); got != last {
		t.Errorf("after the restart %v, before %v", got, last)
	}
	files, err := os.ReadDir(filepath.Join(dir, "versions"))
	if err != nil || len(files) != 50 || files[0].Name() != "0000000011.json" || files[49].Name() != "0000000060.json" {
		t.Errorf("%v: versions are %v", err, files)
	}
	log, err := os.Open(filepath.Join(dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	version, before := 0, ""
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var e struct {
			Time             time.Time
			Remote, By, What string
			Before, After    string
			Version          int
			Changes          []string
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		version++
		if e.Version != version || e.By != "alice" || e.What != "set" || !strings.HasPrefix(e.Remote, "127.0.0.1:") || e.Time.IsZero() || len(e.Changes) != min(version, 2) {
			t.Fatalf("entry is %s", lines.Bytes())
		}
		if version > 1 && e.Before != before {
			t.Fatalf("version %d replaces %s, and version %d was %s", version, e.Before, version-1, before)
		}
		before = e.After
	}
	newest, err := os.ReadFile(filepath.Join(dir, "versions", "0000000060.json"))
	if want := fmt.Sprintf("sha256:%x", sha256.Sum256(bytes.TrimSpace(newest))); err != nil || before != want {
		t.Errorf("the log ends with %s, %v, want %s", before, err, want)
	}
	if version != 60 {
		t.Errorf("%d entries", version)
	}
}

// A broken file is an error that names it and the way out, and stays as it is.
// Moved away, it gives place to the version before it.
func TestBrokenFile(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	s.do("PUT", "", off, "If-Match", "*")
	s.do("PUT", "", `{"rules":[]}`, "If-Match", "*")
	path := filepath.Join(dir, "versions", "0000000002.json")
	for text, want := range map[string]string{
		`{"version":2,"ru`:          "line 1, column 17: not JSON: the document ends in the middle",
		"":                          "not JSON",
		`{"version":1,"rules":[]}`:  "it says version 1",
		strings.Repeat(" ", 300000): "want at most 262144",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := open(dir, prometheus.NewRegistry())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("error is %v, want %s", err, want)
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != text {
			t.Errorf("the file has become %q, %v", kept, err)
		}
	}
	if err := os.Rename(path, filepath.Join(dir, "broken.json")); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir)
	s.want(s.do("GET", "", ""), 200, `"version":1,"rules":[{`)
}

// What cannot be written is not in force; nor is what cannot be logged.
func TestDiskErrors(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	for _, name := range []string{"versions", "audit.log"} {
		path := filepath.Join(dir, name)
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if name == "audit.log" {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		s.want(s.do("PUT", "", off, "If-Match", "*"), 500, "write ")
		s.want(s.do("GET", "", ""), 200, `"version":0,"rules":[]`)
		if err := os.MkdirAll(filepath.Join(dir, "versions"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// The audit log is bounded, and each of its lines is.
func TestAuditLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	path := filepath.Join(dir, "audit.log")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	var rules []string
	for i := range 100 {
		rules = append(rules, fmt.Sprintf(`{"selector":"{a=\"%d%s\"}","off":true}`, i, strings.Repeat("ü", 400)))
	}
	s.want(s.do("PUT", "", `{"rules":[`+strings.Join(rules, ",")+`]}`, "If-Match", "*"), 200, "")
	line, err := os.ReadFile(path)
	if err != nil || len(line) > 20_000 || !strings.Contains(string(line), "and 80 more") {
		t.Errorf("%v: %d bytes in the log", err, len(line))
	}
	if before, err := os.Stat(path + ".1"); err != nil || before.Size() != 1<<20 {
		t.Errorf("the full log has become %v, %v", before, err)
	}
}
