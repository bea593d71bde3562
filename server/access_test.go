// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/server/access"
	"github.com/fleetprof/fleetprof/server/profiletest"
)

// guardedServer knows three users, whose tokens are their names: agent, reader and
// boss.
func guardedServer(t *testing.T, dir string) *running {
	t.Helper()
	text := "users:\n"
	for name, role := range map[string]string{"agent": "push", "reader": "read", "boss": "policy"} {
		text += fmt.Sprintf("  - {name: %s, roles: [%s], token_sha256: %x}\n", name, role, sha256.Sum256([]byte(name)))
	}
	path := filepath.Join(t.TempDir(), "users.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return startGuarded(t, dir, http.HandlerFunc(hello), access.Options{AuthFile: path})
}

// Who may do what: users by the status that each gets. 0 is no refusal, whatever else
// becomes of the request.
func TestRoles(t *testing.T) {
	r := guardedServer(t, t.TempDir())
	push, read, either, change := "agent", "reader", "agent reader", "boss"
	for _, tt := range []struct{ method, path, may string }{
		{"GET", "/healthz", "nobody agent reader boss"},
		{"GET", "/readyz", "nobody agent reader boss"},
		{"GET", "/", read},
		{"GET", "/healthz/x", read},
		{"GET", "/metrics", read},
		{"GET", "/api/v1/pprof", read},
		{"HEAD", "/api/v1/pprof", read},
		{"GET", "/api/v1/labels", read},
		{"GET", "/api/v1/policy", either},
		{"PUT", "/api/v1/policy", change},
		{"POST", "/api/v1/policy/boost", change},
		{"POST", "/api/v1/profiles", push},
		{"POST", "/api/v1/exemplars", push},
		{"POST", "/api/v1/push", push},
		{"GET", "/api/v1/debuginfo/0123456789abcdef", push},
		{"PUT", "/api/v1/debuginfo/0123456789abcdef", push},
		{"POST", "/ingest?name=a", push},
		{"POST", "/push.v1.PusherService/Push", push},
		{"POST", "/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw", push},
		{"POST", "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export", push},
		{"POST", "/v1development/profiles", push},
		{"POST", "/querier.v1.QuerierService/ProfileTypes", read},
		{"POST", "/querier.v1.QuerierServiceX", change},
		{"POST", "/anything/new", change},
		{"DELETE", "/api/v1/profiles", push},
		{"DELETE", "/", change},
	} {
		for _, user := range []string{"nobody", "agent", "reader", "boss"} {
			status, _ := r.do(tt.method, tt.path, nil, func(r *http.Request) {
				if user != "nobody" {
					r.SetBasicAuth(user, user)
				}
			})
			refused, may := status == 401 || status == 403, strings.Contains(tt.may, user)
			if refused == may || (user == "nobody" && status == 403) {
				t.Errorf("%s %s of %s: %d", tt.method, tt.path, user, status)
			}
		}
	}
}

// The audit log tells who changed the policy.
func TestAuditLogTellsTheUser(t *testing.T) {
	dir := t.TempDir()
	r := guardedServer(t, dir)
	r.want("POST", "/api/v1/policy/boost?by=somebody", []byte(`{"selector":"{}","frequency":97,"for":"1m"}`), func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer boss")
	}, 200, "")
	log, err := os.ReadFile(filepath.Join(dir, "policy", "audit.log"))
	if err != nil || !strings.Contains(string(log), `"user":"boss","by":"somebody","what":"boost","version":1,"before":"sha256:`) {
		t.Errorf("%v: the log is %s", err, log)
	}
}

// go tool pprof reads a guarded server by its URL.
func TestGoToolPprofWithPassword(t *testing.T) {
	r := guardedServer(t, t.TempDir())
	gz := profiletest.Gzip(t, profiletest.New(time.Now().Add(-20*time.Second), profiletest.Sample{Stack: "main", Count: 3}))
	r.want("POST", "/api/v1/profiles", gz, func(r *http.Request) { r.Header.Set("Authorization", "Bearer agent") }, 204, "")
	out := filepath.Join(t.TempDir(), "out.pb.gz")
	url := strings.Replace(r.url, "http://", "http://reader:reader@", 1) + "/api/v1/pprof?last=5m"
	cmd := exec.Command("go", "tool", "pprof", "-proto", "-output="+out, url)
	cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := profile.Parse(f)
	if err != nil || len(p.Sample) != 1 || p.Sample[0].Value[0] != 3 {
		t.Errorf("%v: %v", err, p)
	}
}

// Bodies that no endpoint expects are not read for long, and more requests than a
// client may send are answered with when to come again.
func TestBounds(t *testing.T) {
	r := start(t, t.TempDir(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := r.Body.Read(make([]byte, 2<<20))
		for err == nil {
			var more int
			more, err = r.Body.Read(make([]byte, 2<<20))
			n += more
		}
		fmt.Fprint(w, n, " ", err)
	}))
	r.want("POST", "/", make([]byte, 3<<20), nil, 200, "1048576 http: request body too large")
	limited := 0
	for range 1200 {
		if status, text := r.do("POST", "/api/v1/profiles", []byte("x"), nil); status == 429 {
			limited++
			if !strings.Contains(text, "send it again later") {
				t.Fatal(text)
			}
		} else if status != 400 {
			t.Fatal(status, text)
		}
	}
	if limited == 0 {
		t.Error("1,200 uploads at once were let through, want 1,000")
	}
}

// gRPC clients speak HTTP/2 without TLS to the same port.
func TestUnencryptedHTTP2(t *testing.T) {
	r := start(t, t.TempDir(), http.HandlerFunc(hello))
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(r.url + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Errorf("%s by %s", resp.Status, resp.Proto)
	}
}
