// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/server/access"
)

const (
	token    = "b2c0f7d1-a-token"
	password = "correct horse: battery"
	// passwordHash is of cost 10, so each check of it takes a while.
	passwordHash = "$2a$10$iht5hgwWYiGSyOoV51ajbuJlaQ0xVWHG.EH0Tw6cj6JXjrdlRZgfK"
)

func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// usersFile has agents with the token and alice with the password.
func usersFile(t testing.TB) string {
	t.Helper()
	return write(t, filepath.Join(t.TempDir(), "users.yaml"), fmt.Sprintf(`users:
  - name: agents
    roles: [push]
    token_sha256: %s
  - name: alice
    roles: [read, policy]
    password_bcrypt: %s
`, tokenHash(token), passwordHash))
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// guarded is a guard before a handler that answers with who asks.
type guarded struct {
	t        testing.TB
	guard    *access.Guard
	handler  http.Handler
	log      bytes.Buffer
	registry *prometheus.Registry
}

func guard(t testing.TB, o access.Options) *guarded {
	t.Helper()
	g := &guarded{t: t, registry: prometheus.NewRegistry()}
	o.Logger, o.Registerer = slog.New(slog.NewTextHandler(&g.log, nil)), g.registry
	var err error
	if g.guard, err = access.New(o); err != nil {
		t.Fatal(err)
	}
	roles := map[string]access.Roles{"/push": access.Push, "/read": access.Read, "/policy": access.Policy, "/either": access.Push | access.Read}
	needs := func(r *http.Request) access.Roles { return roles[r.URL.Path] }
	g.handler = g.guard.Protect(needs, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s", access.Name(r.Context()))
	}))
	return g
}

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func basic(name, password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(name, password) }
}

func from(address string, show func(*http.Request)) func(*http.Request) {
	return func(r *http.Request) {
		r.RemoteAddr = address + ":4711"
		show(r)
	}
}

func nothing(*http.Request) {}

func (g *guarded) ask(path string, show func(*http.Request)) *http.Response {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	show(r)
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, r)
	return w.Result()
}

func (g *guarded) want(path string, show func(*http.Request), status int, part string) {
	g.t.Helper()
	resp := g.ask(path, show)
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || !strings.Contains(string(text), part) {
		g.t.Errorf("%s: %d %q %v, want %d %q", path, resp.StatusCode, text, err, status, part)
	}
	if asks := len(resp.Header.Values("WWW-Authenticate")) > 0; asks != (status == http.StatusUnauthorized) {
		g.t.Errorf("%s: status %d, and asks who it is: %v", path, status, asks)
	}
}

func (g *guarded) count(result string) float64 {
	g.t.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "fleetprof_access_requests_total" && m.GetLabel()[0].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	g.t.Fatalf("no counter of %s", result)
	return 0
}

func TestRoles(t *testing.T) {
	g := guard(t, access.Options{AuthFile: usersFile(t)})
	g.want("/open", nothing, 200, "hello ")
	for _, path := range []string{"/push", "/read", "/policy", "/either"} {
		g.want(path, nothing, 401, "who are you?")
	}
	for _, show := range []func(*http.Request){bearer(token), basic("agents", token), func(r *http.Request) { r.Header.Set("Authorization", "bearer  "+token) }} {
		g.want("/push", show, 200, "hello agents")
		g.want("/either", show, 200, "hello agents")
		g.want("/read", show, 403, "agents may not do this: it takes the role read")
		g.want("/policy", show, 403, "the role policy")
	}
	alice := basic("alice", password)
	g.want("/read", alice, 200, "hello alice")
	g.want("/policy", alice, 200, "hello alice")
	g.want("/either", alice, 200, "hello alice")
	g.want("/push", alice, 403, "the role push")
	if granted, forbidden := g.count("granted"), g.count("forbidden"); granted != 9 || forbidden != 7 {
		t.Errorf("%v granted, %v forbidden", granted, forbidden)
	}
}

// What is wrong is refused, from ever other addresses so that nothing is throttled.
func TestWrongCredentials(t *testing.T) {
	g := guard(t, access.Options{AuthFile: usersFile(t)})
	header := func(text string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", text) }
	}
	wrong := []func(*http.Request){
		bearer("another"), bearer(password), bearer(tokenHash(token)), bearer(token + " " + token),
		basic("alice", token), basic("bob", password), // each takes bcrypt's time
		basic("", password), basic("", token),
		header("Basic"), header("Bearer"), header("Bearer "), header("Basic !!!"), header("Digest x"), header(token),
	}
	for i, show := range wrong {
		g.want("/read", from(fmt.Sprintf("10.0.0.%d", i), show), 401, "nobody's here")
	}
	if n := g.count("unknown"); n != float64(len(wrong)) {
		t.Errorf("%v counted of %d", n, len(wrong))
	}
}

func TestNobodyIsAsked(t *testing.T) {
	g := guard(t, access.Options{})
	if g.guard.Asks() || g.guard.TLSConfig() != nil {
		t.Error("without files somebody is asked")
	}
	g.want("/policy", nothing, 200, "hello ")
}

// Guessing is slow, also for who guesses right; those known before are not held up.
func TestGuessing(t *testing.T) {
	path := usersFile(t)
	synctest.Test(t, func(t *testing.T) {
		g := guard(t, access.Options{AuthFile: path})
		g.want("/push", from("10.1.1.1", bearer(token)), 200, "agents")
		for range 10 {
			g.want("/read", from("10.1.1.1", bearer("guess")), 401, "")
		}
		for _, guess := range []func(*http.Request){bearer("guess"), basic("alice", password), basic("agents", token)} {
			resp := g.ask("/read", from("10.1.1.1", guess))
			if after := resp.Header.Get("Retry-After"); resp.StatusCode != 429 || after != "5" {
				t.Errorf("%s, after %q", resp.Status, after)
			}
		}
		g.want("/push", from("10.1.1.1", bearer(token)), 200, "agents")
		g.want("/read", from("10.1.1.2", basic("alice", password)), 200, "alice")
		var guessed int
		for begin := time.Now(); time.Since(begin) < time.Hour; time.Sleep(time.Second) {
			if g.ask("/read", from("10.1.1.1", bearer("guess"))).StatusCode == 401 {
				guessed++
			}
		}
		if guessed < 700 || guessed > 730 {
			t.Errorf("%d guesses in an hour, want one in five seconds", guessed)
		}
	})
}

// A /64 of IPv6 is one address.
func TestGuessingFromManyAddresses(t *testing.T) {
	g := guard(t, access.Options{AuthFile: usersFile(t)})
	for i := range 10 {
		g.want("/read", from(fmt.Sprintf("[2001:db8::%x]", i), bearer("guess")), 401, "")
	}
	g.want("/read", from("[2001:db8::ffff]", bearer("guess")), 429, "")
	g.want("/read", from("[2001:db8:0:1::1]", bearer("guess")), 401, "")
}

// A name that nobody has takes as long as one that somebody has.
func TestNamesDoNotShowInTime(t *testing.T) {
	g := guard(t, access.Options{AuthFile: usersFile(t)})
	taken := func(name string) time.Duration {
		begin := time.Now()
		g.want("/read", basic(name, "wrong"), 401, "")
		return time.Since(begin)
	}
	if known, unknown := taken("alice"), taken("bob"); unknown < known/10 {
		t.Errorf("%v for a known name, %v for an unknown one", known, unknown)
	}
}

// Refusals are logged, not all of many, and never with what was shown.
func TestLog(t *testing.T) {
	path := usersFile(t)
	g := guard(t, access.Options{AuthFile: path})
	g.want("/read", nothing, 401, "")
	if g.log.Len() > 0 {
		t.Errorf("log of a first request: %s", &g.log)
	}
	g.want("/read", bearer(token), 403, "")
	for i := range 99 {
		g.want("/read", from(fmt.Sprintf("10.0.0.%d", i), bearer("SECRET")), 401, "")
	}
	g.want("/read", from("10.0.1.1", basic("SECRET-name", "SECRET-password")), 401, "")
	lines := strings.Count(g.log.String(), "\n")
	if lines < 10 || lines > 12 || !strings.Contains(g.log.String(), "path=/read remote=10.0.0.1:4711") {
		t.Errorf("%d lines of log:\n%s", lines, &g.log)
	}
	for _, secret := range []string{"SECRET", token, tokenHash(token)} {
		if strings.Contains(g.log.String(), secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
	want := fmt.Sprintf("# HELP fleetprof_access_unreported_total Refused requests that were not logged because there were too many.\n"+
		"# TYPE fleetprof_access_unreported_total counter\nfleetprof_access_unreported_total %d\n", 101-lines)
	if err := testutil.GatherAndCompare(g.registry, strings.NewReader(want), "fleetprof_access_unreported_total"); err != nil {
		t.Error(err)
	}
}

// A changed file counts at once, a broken one not at all.
func TestReloadUsers(t *testing.T) {
	path := usersFile(t)
	g := guard(t, access.Options{AuthFile: path})
	g.want("/read", basic("alice", password), 200, "alice")
	write(t, path, "users: [{name: alice, roles: [read], token_sha256: nonsense}]")
	if err := g.guard.Reload(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error is %v", err)
	}
	g.want("/read", basic("alice", password), 200, "alice")
	write(t, path, fmt.Sprintf("users: [{name: bob, roles: [read], token_sha256: %s}]", tokenHash("new")))
	if err := g.guard.Reload(); err != nil {
		t.Fatal(err)
	}
	g.want("/read", basic("alice", password), 401, "")
	g.want("/push", bearer(token), 401, "")
	g.want("/read", bearer("new"), 200, "bob")
}

// Two entries of a name: the old secret and the new one.
func TestReplacingASecret(t *testing.T) {
	g := guard(t, access.Options{AuthFile: write(t, filepath.Join(t.TempDir(), "users.yaml"), fmt.Sprintf(
		"users: [{name: a, roles: [push], token_sha256: %s}, {name: a, roles: [push], token_sha256: %s}]", tokenHash("old"), tokenHash("new")))})
	for _, secret := range []string{"old", "new"} {
		g.want("/push", bearer(secret), 200, "hello a")
		g.want("/push", basic("a", secret), 200, "hello a")
	}
}
