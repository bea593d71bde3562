// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server/access"
)

// credentials runs the script and returns what it says.
func credentials(t *testing.T, dir string, names ...string) string {
	t.Helper()
	out, err := exec.Command("./credentials.sh", append([]string{dir}, names...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// contents reads all files of a directory, which are nobody else's to read.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[f.Name()] = string(text)
		if info, err := f.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has the mode %v, %v", f.Name(), info.Mode(), err)
		}
	}
	return all
}

// status is what somebody with a token is answered who needs a role.
func status(t *testing.T, authFile, token string, role access.Roles) int {
	t.Helper()
	guard, err := access.New(access.Options{
		AuthFile: authFile, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	needs := func(*http.Request) access.Roles { return role }
	answer := httptest.NewRecorder()
	request := httptest.NewRequest("GET", "/", nil)
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
	guard.Protect(needs, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(answer, request)
	return answer.Code
}

func TestCredentials(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by it")
	if said := credentials(t, dir, "profiles.example", "127.0.0.1", "::1"); said != "" {
		t.Errorf("it says %q", said)
	}
	made := contents(t, dir)
	for _, tt := range []struct {
		file, token string
		role        access.Roles
		want        int
	}{
		{"users.yaml", "agent.token", access.Push, 200},
		{"users.yaml", "agent.token", access.Read | access.Policy, 403},
		{"users.yaml", "admin.token", access.Read, 200},
		{"users.yaml", "admin.token", access.Policy, 200},
		{"users.yaml", "admin.token", access.Push, 403},
		{"users.yaml", "metrics.token", access.Everything, 401},
		{"agent-users.yaml", "metrics.token", access.Read, 200},
		{"agent-users.yaml", "admin.token", access.Read, 401},
		{"agent-users.yaml", "agent.token", access.Read, 401},
	} {
		if got := status(t, filepath.Join(dir, tt.file), made[tt.token], tt.role); got != tt.want {
			t.Errorf("%s with %s for %v: %d, want %d", tt.file, tt.token, tt.role, got, tt.want)
		}
	}
	for _, name := range []string{"profiles.example", "127.0.0.1", "::1"} {
		verify(t, made, "server.pem", name, x509.ExtKeyUsageServerAuth, true)
	}
	verify(t, made, "server.pem", "other.example", x509.ExtKeyUsageServerAuth, false)
	verify(t, made, "server.pem", "", x509.ExtKeyUsageClientAuth, false)
	verify(t, made, "agent.pem", "agent", x509.ExtKeyUsageClientAuth, true)
	verify(t, made, "agent.pem", "", x509.ExtKeyUsageServerAuth, false)
}

// verify checks a certificate as the other side does.
func verify(t *testing.T, made map[string]string, file, name string, usage x509.ExtKeyUsage, want bool) {
	t.Helper()
	block, _ := pem.Decode([]byte(made[file]))
	if block == nil {
		t.Fatalf("%s is no PEM", file)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(made["ca.pem"])) {
		t.Fatal("there is no authority")
	}
	_, err = certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage}})
	if (err == nil) != want {
		t.Errorf("%s for %q and usage %v: %v", file, name, usage, err)
	}
}

// Said again, the script makes certificates anew and leaves everything else alone, what was
// written by hand in particular.
func TestCredentialsAgain(t *testing.T) {
	dir := t.TempDir()
	credentials(t, dir, "a.example")
	for _, file := range []string{"users.yaml", "agent-users.yaml"} {
		appendTo(t, filepath.Join(dir, file), "  - {name: alice, roles: [read], token_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}\n")
	}
	before := contents(t, dir)
	if said := credentials(t, dir, "b.example"); said != "" {
		t.Errorf("it says %q", said)
	}
	after := contents(t, dir)
	for name, text := range after {
		again := strings.HasPrefix(name, "server.") || strings.HasPrefix(name, "agent.") && name != "agent.token"
		if old, was := before[name]; !was || (text == old) == again {
			t.Errorf("%s: was there: %v, is the same: %v", name, was, text == old)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d files became %d", len(before), len(after))
	}
	verify(t, after, "server.pem", "b.example", x509.ExtKeyUsageServerAuth, true)
	if got := status(t, filepath.Join(dir, "users.yaml"), "test", access.Read); got != 200 {
		t.Errorf("who was added by hand gets %d", got)
	}
}

// Another token is told, not put into a file that is somebody's; with the entry as it is
// told, the server knows it.
func TestCredentialsOtherToken(t *testing.T) {
	dir := t.TempDir()
	credentials(t, dir, "a.example")
	before := contents(t, dir)
	if err := os.Remove(filepath.Join(dir, "agent.token")); err != nil {
		t.Fatal(err)
	}
	said := credentials(t, dir, "a.example")
	after := contents(t, dir)
	if before["users.yaml"] != after["users.yaml"] || before["agent.token"] == after["agent.token"] {
		t.Errorf("users.yaml or agent.token: %v", after)
	}
	_, entry, ok := strings.Cut(said, "users.yaml stays as it is, and lacks\n")
	if !ok || strings.Count(entry, "\n") != 1 {
		t.Fatalf("it says %q", said)
	}
	users := filepath.Join(dir, "users.yaml")
	appendTo(t, users, entry)
	for name, made := range map[string]map[string]string{"old": before, "new": after} { // both, until the old one is taken out
		if got := status(t, users, made["agent.token"], access.Push); got != 200 {
			t.Errorf("the %s token gets %d", name, got)
		}
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, fs.ModePerm)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// Without names it says how it is used.
func TestCredentialsUsage(t *testing.T) {
	out, err := exec.Command("./credentials.sh", t.TempDir()).CombinedOutput()
	if err == nil || !strings.HasPrefix(string(out), "Usage: credentials.sh DIR NAME") || strings.Contains(string(out), "set -e") {
		t.Errorf("%v: %s", err, out)
	}
}
