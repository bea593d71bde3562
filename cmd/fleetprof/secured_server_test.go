// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/uploader"
)

// secured is a `fleetprof server` set up as docs/operating.md says, with files that
// deploy/credentials.sh makes.
type secured struct {
	*daemon
	files, data string
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	s := &secured{files: t.TempDir(), data: t.TempDir()}
	credentials(t, s.files)
	s.daemon = start(t, "server", "--data="+s.data, "--auth-file="+s.file("users.yaml"),
		"--tls-cert="+s.file("server.pem"), "--tls-key="+s.file("server.key"), "--tls-client-ca="+s.file("ca.pem"))
	return s
}

func (s *secured) file(name string) string { return filepath.Join(s.files, name) }

func (s *secured) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(s.file(name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// as is the server's address with who asks: NAME=FILE, …
func (s *secured) as(settings ...string) string {
	address := s.url + "?ca_file=" + s.file("ca.pem")
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		if strings.Contains(name, "file") {
			value = s.file(value)
		}
		address += "&" + name + "=" + value
	}
	return address
}

func (s *secured) admin() string { return s.as("username=admin", "password_file=admin.token") }
func (s *secured) agent() string { return s.as("bearer_token_file=agent.token") }

// sender is an agent's way to the server. Each profile that it sends is another one.
type sender struct {
	uploader.Destination
	sent time.Duration
}

func newSender(t *testing.T, address string) *sender {
	t.Helper()
	to, err := destination(address)
	if err != nil {
		t.Fatal(err)
	}
	return &sender{Destination: to}
}

func (s *sender) send(t *testing.T) error {
	t.Helper()
	s.sent += time.Millisecond
	begin := time.Now().Add(-time.Minute + s.sent)
	gz := profiletest.Gzip(t, profiletest.New(begin, profiletest.Sample{Stack: "main;work", Count: 1}))
	return s.Send(t.Context(), sample.Profile{Start: begin, Duration: profiletest.Duration, Samples: 1, PProf: gz})
}

// refused wants an error that says so.
func refused(t *testing.T, what string, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q", what, err, text)
		}
	}
}

// until waits for something to succeed.
func until(t *testing.T, what string, do func() error) {
	t.Helper()
	err := do()
	for deadline := time.Now().Add(20 * time.Second); err != nil; err = do() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited for %s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// command runs fleetprof; the error has what it says.
func command(args ...string) (stdout string, err error) {
	cmd := exec.Command(fleetprof, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, said.String())
	}
	return out.String(), nil
}

// trusting is a client that knows the authority.
func (s *secured) trusting(t *testing.T) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(s.read(t, "ca.pem"))) {
		t.Fatal("there is no authority")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// ask sends a request with a header of authorization, and gives status and answer.
func (s *secured) ask(t *testing.T, method, path, body string, user, password string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	switch {
	case user != "":
		request.SetBasicAuth(user, password)
	case password != "":
		request.Header.Set("Authorization", "Bearer "+password)
	}
	response, err := s.trusting(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// reload replaces the file of users, as editors and secret managers do, and waits until the
// server has read it. To ask with a token that is to become known would be slowed down.
func (s *secured) reload(t *testing.T, users string) {
	t.Helper()
	begin := float64(time.Now().UnixNano()) / 1e9
	if err := os.WriteFile(s.file("users.yaml.new"), []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.file("users.yaml.new"), s.file("users.yaml")); err != nil {
		t.Fatal(err)
	}
	value := regexp.MustCompile(`(?m)^fleetprof_access_last_reload_success_timestamp_seconds (\S+)$`)
	until(t, "the users to be read", func() error {
		_, text := s.ask(t, "GET", "/metrics", "", "admin", s.read(t, "admin.token"))
		found := value.FindStringSubmatch(text)
		if found == nil {
			return fmt.Errorf("the answer is %.300s", text)
		}
		if at, err := strconv.ParseFloat(found[1], 64); err != nil || at <= begin {
			return fmt.Errorf("they were read at %s: %v", found[1], err)
		}
		return nil
	})
}

// showsCertificate fails unless the server shows the certificate of its file to who connects.
func (s *secured) showsCertificate(t *testing.T) error {
	t.Helper()
	block, _ := pem.Decode([]byte(s.read(t, "server.pem")))
	response, err := s.trusting(t).Get(s.url + "/healthz")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if !bytes.Equal(response.TLS.PeerCertificates[0].Raw, block.Bytes) {
		return fmt.Errorf("it is another one")
	}
	return nil
}

// metric fails unless somebody is shown that line.
func (s *secured) metric(t *testing.T, user, line string) error {
	t.Helper()
	if _, text := s.ask(t, "GET", "/metrics", "", user, s.read(t, user+".token")); !strings.Contains(text, "\n"+line+"\n") {
		return fmt.Errorf("no %s", line)
	}
	return nil
}
