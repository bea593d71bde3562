// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Who is who: each role may do what it is for and nothing else, and nothing goes without TLS.
func TestSecuredRoles(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	agent := newSender(t, s.agent())
	if err := agent.send(t); err != nil {
		t.Fatal(err)
	}
	certified := newSender(t, s.as("cert_file=agent.pem", "key_file=agent.key"))
	if err := certified.send(t); err != nil {
		t.Errorf("with the certificate: %v", err)
	}
	top, err := command("query", "--server="+s.admin(), "--last=5m")
	if err != nil || !strings.Contains(top, "work") {
		t.Errorf("%v: %s", err, top)
	}
	if _, err := command("policy", "boost", "{}", "--frequency=97", "--for=1m", "--reason=p99", "--server="+s.admin()); err != nil {
		t.Error(err)
	}
	log, err := os.ReadFile(filepath.Join(s.data, "policy", "audit.log"))
	if err != nil || !strings.Contains(string(log), `"user":"admin"`) || !strings.Contains(string(log), `"what":"boost"`) {
		t.Errorf("%v: the audit log is %s", err, log)
	}

	_, err = command("query", "--server="+s.agent())
	refused(t, "query of the agent", err, "agent may not do this: it takes the role read")
	_, err = command("query", "--server="+s.as("cert_file=agent.pem", "key_file=agent.key"))
	refused(t, "query with the agent's certificate", err, "agent-certificate may not do this")
	_, err = command("policy", "boost", "{}", "--frequency=97", "--for=1m", "--server="+s.agent())
	refused(t, "boost of the agent", err, "agent may not do this: it takes the role policy")
	refused(t, "push of admin", newSender(t, s.admin()).send(t), "403", "admin may not do this: it takes the role push")

	if err := os.WriteFile(s.file("wrong.token"), []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, "push with a wrong token", newSender(t, s.as("bearer_token_file=wrong.token")).send(t), "401", "nobody's here")
	refused(t, "push without a token", newSender(t, s.as()).send(t), "401", "who are you?")
	other := &secured{daemon: s.daemon, files: t.TempDir()}
	credentials(t, other.files)
	refused(t, "push to a server of another authority", newSender(t, other.agent()).send(t), "unknown authority")
	if err := os.WriteFile(other.file("ca.pem"), []byte(s.read(t, "ca.pem")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newSender(t, other.as("cert_file=agent.pem", "key_file=agent.key")).send(t); err == nil {
		t.Error("a certificate of another authority is good for something")
	}
	plain, err := http.Get("http" + strings.TrimPrefix(s.url, "https") + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Body.Close()
	if plain.StatusCode != http.StatusBadRequest {
		t.Errorf("without TLS: %s", plain.Status)
	}
	s.checkAnswers(t)
	s.interrupt(t)
	for _, name := range []string{"agent.token", "admin.token"} {
		if strings.Contains(s.log.String(), s.read(t, name)) {
			t.Errorf("the log has the content of %s", name)
		}
	}
}

// checkAnswers asks as browsers, Prometheus and Grafana do.
func (s *secured) checkAnswers(t *testing.T) {
	t.Helper()
	admin, agent := s.read(t, "admin.token"), s.read(t, "agent.token")
	dashboard, err := os.ReadFile("../../deploy/grafana/dashboards/agents.json")
	if err != nil {
		t.Fatal(err)
	}
	profileType := regexp.MustCompile(`"profileTypeId": "([^"]+)"`).FindSubmatch(dashboard)
	if profileType == nil {
		t.Fatal("the dashboard has no flame graph")
	}
	flame := fmt.Sprintf(`{"profileTypeID":%q,"labelSelector":"{}","start":"%d","end":"%d"}`,
		profileType[1], time.Now().Add(-time.Hour).UnixMilli(), time.Now().UnixMilli())
	const grafana = "/querier.v1.QuerierService/SelectMergeStacktraces"
	for _, tt := range []struct {
		method, path, body, user, password string
		status                             int
		has                                string
	}{
		{"GET", "/healthz", "", "", "", 200, "ok"},
		{"GET", "/readyz", "", "", "", 200, "ready"},
		{"GET", "/", "", "", "", 401, "who are you?"},
		{"GET", "/metrics", "", "", "", 401, ""},
		{"GET", "/", "", "admin", admin, 200, "<html"},
		{"GET", "/metrics", "", "", admin, 200, `fleetprof_access_requests_total{result="forbidden"}`},
		{"GET", "/metrics", "", "", agent, 403, "role read"},
		{"GET", "/api/v1/policy", "", "", agent, 200, `"frequency":97`},
		{"GET", "/metrics", "", "agent", admin, 401, ""}, // a token is the password of its own name only
		{"POST", grafana, flame, "admin", admin, 200, `"work"`},
		{"POST", grafana, flame, "", agent, 403, "role read"},
	} {
		status, answer := s.ask(t, tt.method, tt.path, tt.body, tt.user, tt.password)
		if status != tt.status || !strings.Contains(answer, tt.has) {
			t.Errorf("%s %s of %q: %d %.300s", tt.method, tt.path, tt.user, status, answer)
		}
	}
}

// A token and certificates are replaced while server and agent run: nothing is restarted, and
// what is old ends when it is taken out.
func TestSecuredRotation(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newSecured(t)
	agent := newSender(t, s.agent())
	certified := newSender(t, s.as("cert_file=agent.pem", "key_file=agent.key"))
	for _, one := range []*sender{agent, certified} {
		if err := one.send(t); err != nil {
			t.Fatal(err)
		}
	}
	old, oldUsers := s.read(t, "agent.token"), s.read(t, "users.yaml")
	if err := os.Remove(s.file("agent.token")); err != nil {
		t.Fatal(err)
	}
	said := credentials(t, s.files) // new certificates too
	refused(t, "a token that the server does not know yet", agent.send(t), "401")
	if status, _ := s.ask(t, "GET", "/api/v1/policy", "", "", old); status != 200 {
		t.Errorf("the old token gets %d", status)
	}

	_, entry, ok := strings.Cut(said, "users.yaml stays as it is, and lacks\n")
	if !ok {
		t.Fatalf("the script says %q", said)
	}
	s.reload(t, oldUsers+"\n"+entry)
	if err := agent.send(t); err != nil {
		t.Errorf("with the new token: %v", err)
	}
	if status, _ := s.ask(t, "GET", "/api/v1/policy", "", "", old); status != 200 {
		t.Errorf("the old token gets %d while both are there", status)
	}
	if err := s.showsCertificate(t); err != nil {
		t.Errorf("the server's certificate: %v", err)
	}
	if err := certified.send(t); err != nil {
		t.Errorf("with another certificate: %v", err)
	}

	lines := strings.SplitN(oldUsers, "\n", 3)
	s.reload(t, lines[0]+"\n"+entry+lines[2]+"\n")
	if status, _ := s.ask(t, "GET", "/api/v1/policy", "", "", old); status != 401 {
		t.Errorf("the old token gets %d in the end", status)
	}
	if err := agent.send(t); err != nil {
		t.Errorf("in the end: %v", err)
	}
	s.interrupt(t)
}

// An agent as a unit has it: it sends with its token, follows the policy of the server, and
// shows its metrics to who may read them.
func TestSecuredAgent(t *testing.T) {
	needRoot(t)
	t.Parallel()
	s := newSecured(t)
	if _, err := command("policy", "boost", "{}", "--frequency=97", "--for=5m", "--server="+s.admin()); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	background(t, fleetprof, "agent", "--store="+s.agent(), "--listen="+address, "--window=1s",
		"--auth-file="+s.file("agent-users.yaml"), "--tls-cert="+s.file("server.pem"), "--tls-key="+s.file("server.key"))
	own := &secured{daemon: &daemon{url: "https://" + address}, files: s.files}
	until(t, "the agent to listen", func() error {
		response, err := s.trusting(t).Get(own.url + "/healthz")
		if err == nil {
			response.Body.Close()
		}
		return err
	})
	until(t, "the policy", func() error { return own.metric(t, "metrics", "fleetprof_policy_version 1") })
	until(t, "a profile to be stored", func() error {
		_, err := command("query", "--server="+s.admin(), `{host_name!=""}`)
		return err
	})
	for token, want := range map[string]int{s.read(t, "metrics.token"): 200, s.read(t, "admin.token"): 401, s.read(t, "agent.token"): 401, "": 401} {
		if status, _ := own.ask(t, "GET", "/metrics", "", "", token); status != want {
			t.Errorf("the agent answers %d, want %d", status, want)
		}
	}
}
