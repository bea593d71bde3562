// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// policyAgent is a `fleetprof agent` of a test.
type policyAgent struct {
	t    *testing.T
	url  string
	stop func()
}

func startPolicyAgent(t *testing.T, args ...string) *policyAgent {
	t.Helper()
	address := freeAddress(t)
	cmd := exec.Command(fleetprof, append([]string{"agent", "--listen=" + address, "--window=1s"}, args...)...)
	log := new(strings.Builder)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("agent: %v", err)
		}
		if t.Failed() {
			t.Log(log)
		}
	})
	t.Cleanup(stop)
	return &policyAgent{t, "http://" + address, stop}
}

// policyStatus is what an agent tells of its policy.
type policyStatus struct {
	Source, Error string
	Version       int
	Restored      bool
	Rules         []struct {
		Number, Processes int
		State             string
		Rule              struct {
			Selector  string
			Frequency int
		}
	}
}

// await asks the agent for its policy until that is as wanted.
func (a *policyAgent) await(what string, want func(policyStatus) bool) {
	a.t.Helper()
	var last string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		body, err := a.get("/api/v1/policy")
		if err != nil {
			continue
		}
		var s policyStatus
		if last = body; json.Unmarshal([]byte(body), &s) == nil && want(s) {
			return
		}
	}
	a.t.Fatalf("waited in vain for %s: the agent's policy is %s", what, last)
}

func (a *policyAgent) get(path string) (string, error) {
	resp, err := http.Get(a.url + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// control runs `fleetprof policy`.
func control(t *testing.T, server, input string, args ...string) {
	t.Helper()
	cmd := exec.Command(fleetprof, append([]string{"policy", args[0], "--server=" + server}, args[1:]...)...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

// Server and agent are processes of their own. The agent takes what is set and
// boosted, counts the processes of each rule, lets the boost end though the server
// is gone, has the same in force if it is started again without the server, and finds the
// policy again when the server is back.
func TestPolicyReachesTheAgent(t *testing.T) {
	needRoot(t)
	t.Parallel()
	burner := burners(t)[0]
	if err := burner.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer burner.stop(t)
	data := t.TempDir() + "/data"
	server := start(t, "server", "--data="+data)
	keeping := []string{"--store=" + server.url, "--state-dir=" + t.TempDir() + "/state"}
	agent := startPolicyAgent(t, keeping...)
	agent.await("an answer of the server", func(s policyStatus) bool { return s.Source == server.url && s.Error == "" })

	control(t, server.url, "rules: [{selector: '{process_executable_name=\"burnc\"}', rate: 1/2}, {selector: '{host_name=~\".+\"}', rate: 1/1}]", "set", "-")
	agent.await("processes of both rules", func(s policyStatus) bool {
		return s.Version == 1 && len(s.Rules) == 2 && s.Rules[0].Processes == 1 && s.Rules[1].Processes > 0
	})
	if metrics, err := agent.get("/metrics"); err != nil || !strings.Contains(metrics, "\nfleetprof_policy_version 1\n") || !strings.Contains(metrics, "\nfleetprof_policy_rules{state=\"in_force\"} 2\n") {
		t.Errorf("metrics: %v\n%s", err, metrics)
	}
	control(t, server.url, "", "boost", `{process_executable_name="burnc"}`, "--frequency=499", "--for=8s")
	agent.await("the boost", func(s policyStatus) bool {
		return s.Version == 2 && s.Rules[0].Rule.Frequency == 499 && s.Rules[0].State == "in_force"
	})
	server.interrupt(t) // while the agent waits for its answer
	agent.await("the end of the boost without a server", func(s policyStatus) bool {
		return s.Version == 2 && s.Error != "" && s.Rules[0].State == "expired" && s.Rules[1].State == "in_force" && s.Rules[1].Processes == 1
	})
	if resp, err := http.Post(agent.url+"/api/v1/policy", "application/json", strings.NewReader("{}")); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("the agent's answer to a change is %v, %v", resp, err)
	}

	agent.stop()
	agent = startPolicyAgent(t, keeping...)
	agent.await("the policy of the last run", func(s policyStatus) bool {
		return s.Version == 2 && s.Restored && s.Rules[0].State == "expired" && s.Rules[1].State == "in_force" && s.Rules[1].Processes == 1
	})
	again := exec.Command(fleetprof, "server", "--data="+data, "--listen="+strings.TrimPrefix(server.url, "http://"))
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = again.Process.Kill() // nothing of it is needed any more
		_ = again.Wait()
	}()
	agent.await("the server again", func(s policyStatus) bool { return s.Version == 2 && s.Error == "" && !s.Restored })
	control(t, server.url, "rules: []", "set", "-")
	agent.await("the last policy", func(s policyStatus) bool { return s.Version == 3 && len(s.Rules) == 0 })
}

// In one process, agent and server need no network between them; and an agent may
// be told to obey nobody.
func TestPolicyOfOneProcess(t *testing.T) {
	needRoot(t)
	t.Parallel()
	d := start(t, "run", "--data="+t.TempDir()+"/data")
	control(t, d.url, "rules: [{selector: '{}', rate: 1/1}]", "set", "-")
	one := &policyAgent{t: t, url: d.url}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		metrics, err := one.get("/metrics")
		if err == nil && strings.Contains(metrics, "\nfleetprof_policy_version 1\n") && strings.Contains(metrics, "\nfleetprof_policy_server_version 1\n") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v: metrics are\n%s", err, metrics)
		}
	}
	d.interrupt(t)

	agent := startPolicyAgent(t, "--store=dir:"+t.TempDir(), "--policy-from=none", "--state-dir=/proc/none") // not to be made
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		text, err := agent.get("/api/v1/policy")
		if strings.Contains(text, "obeys no policy") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v: answer is %s", err, text)
		}
	}
}

// Without a server, a file holds the policy, and is read again when it has changed.
func TestPolicyOfFile(t *testing.T) {
	needRoot(t)
	t.Parallel()
	path := t.TempDir() + "/policy.yaml"
	replaceFile(t, path, "version: 3\nrules: [{selector: '{host_name=~\".+\"}', rate: 1/2}]")
	agent := startPolicyAgent(t, "--store=dir:"+t.TempDir(), "--policy="+path)
	agent.await("the policy of the file", func(s policyStatus) bool {
		return s.Source == "file: "+path && s.Version == 3 && len(s.Rules) == 1 && s.Rules[0].Processes > 0
	})
	replaceFile(t, path, "version: 4\nrules: [{selector: '{}', rate: 1/2}, {}]")
	agent.await("what is wrong with the file", func(s policyStatus) bool {
		return s.Version == 3 && strings.Contains(s.Error, "line 2, column 38: rule 2: selector is missing")
	})
	replaceFile(t, path, "version: 5\nrules: []")
	agent.await("the mended file", func(s policyStatus) bool { return s.Version == 5 && s.Error == "" })
}
