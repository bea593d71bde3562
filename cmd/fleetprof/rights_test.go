// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// withRights is a command line that runs fleetprof as root with some capabilities and
// no way to others, which is how deploy/ has it.
func withRights(capabilities ...string) []string {
	set := "-all"
	for _, c := range capabilities {
		set += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	return []string{"setpriv", "--bounding-set=" + set, "--inh-caps=" + set, "--no-new-privs", fleetprof}
}

// rights lists what the agent uses, without one.
func rights(without ...string) (all []string) {
	for _, n := range needed {
		if !slices.Contains(without, n.name) {
			all = append(all, n.name)
		}
	}
	return all
}

// TestRights has an agent with the documented capabilities and no others at work,
// without the one that it can do without: it samples, and names functions of the
// kernel and in a container, the container, and the requests of a server.
func TestRights(t *testing.T) {
	needRoot(t)
	c := newContainerd(t)
	lone := plainPod{c: c, namespace: "default"}
	lone.start(t, "lone", "0")
	server := filepath.Join(t.TempDir(), "tiny")
	if out, err := exec.Command("go", "build", "-o", server, "./testdata/rpc/tiny").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	agent := watcherOf(t, withRights(rights("CAP_SYS_ADMIN")...), "--containerd="+c.socket)
	address := freeAddress(t)
	background(t, server, address)
	var sampled, named, kernel, container, request int64
	for deadline := time.Now().Add(20 * time.Second); sampled == 0 || named == 0 || kernel == 0 || container == 0 || request == 0; {
		if time.Now().After(deadline) {
			t.Fatalf("of %d samples %d have the container's function, %d a kernel function, %d the container's name, %d a route",
				sampled, named, kernel, container, request)
		}
		askUntil(t, "http://"+address+"/items/1", time.Now().Add(2*windowLength))
		for _, w := range agent.windows(t, time.Now().Add(-windowLength)) {
			for _, s := range w.Sample {
				n := s.Value[0]
				sampled += n
				named += n * has(s, "/burn", "main")
				kernel += n * has(s, "", "do_syscall_64", "invoke_syscall")
				container += n * is(s, "container_name", "lone")
				request += n * is(s, "http_route", "/items/{id}")
			}
		}
	}
}

// askUntil asks until a time, as often as it can.
func askUntil(t *testing.T, url string, until time.Time) {
	t.Helper()
	for time.Now().Before(until) {
		if answer, err := http.Get(url); err == nil {
			answer.Body.Close()
		}
	}
}

// is is 1 if a sample has a label with a value.
func is(s *profile.Sample, label, value string) int64 {
	if slices.Contains(s.Label[label], value) {
		return 1
	}
	return 0
}

// has is 1 if one of the functions, of a file whose path ends so, is on a sample's stack.
func has(s *profile.Sample, file string, functions ...string) int64 {
	for _, l := range s.Location {
		for _, line := range l.Line {
			if l.Mapping != nil && strings.HasSuffix(l.Mapping.File, file) && slices.Contains(functions, line.Function.Name) {
				return 1
			}
		}
	}
	return 0
}

// TestEachRight takes one capability away at a time: doctor says so, and what it
// checks by doing it fails.
func TestEachRight(t *testing.T) {
	needRoot(t)
	t.Parallel()
	failing := map[string]string{
		"CAP_BPF": "sampling", "CAP_PERFMON": "sampling", "CAP_SYS_PTRACE": "files of processes",
		"CAP_SYSLOG": "kernel function names", "CAP_SYS_ADMIN": "probes (uprobes)",
		"CAP_DAC_READ_SEARCH": "", "CAP_CHECKPOINT_RESTORE": "", // only some files show these
	}
	page, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range needed {
		t.Run(n.name, func(t *testing.T) {
			findings := doctor(t, withRights(rights(n.name, "CAP_SYS_ADMIN")...))
			if f := findings["privileges"]; f.Status != n.worst || !strings.Contains(f.Detail, n.name+" (to "+n.use+")") {
				t.Errorf("doctor says %+v", f)
			}
			if check := failing[n.name]; check != "" && findings[check].Status == statusOK {
				t.Errorf("%s: %+v", check, findings[check])
			}
			if !strings.Contains(string(page), "| `"+n.name+"` | "+n.use+" |") {
				t.Error("docs/operating.md has no row of it that says as doctor does what it is for")
			}
		})
	}
	findings := doctor(t, withRights(rights()...))
	for _, check := range append(slices.Collect(maps.Values(failing)), "privileges", "requests") {
		if check != "" && findings[check].Status != statusOK {
			t.Errorf("with all of them, %s: %+v", check, findings[check])
		}
	}
}

// doctor gives the findings by check.
func doctor(t *testing.T, command []string) map[string]finding {
	t.Helper()
	out, err := exec.Command(command[0], append(command[1:], "doctor", "--json")...).Output()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var all []finding
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	byCheck := make(map[string]finding)
	for _, f := range all {
		byCheck[f.Check] = f
	}
	return byCheck
}

// TestUnits has systemd check its units.
func TestUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("there is no systemd-analyze")
	}
	dir := t.TempDir()
	units, err := filepath.Glob("../../deploy/systemd/*.service")
	if err != nil || len(units) != 2 {
		t.Fatalf("units are %q, %v", units, err)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		// The program has to be there.
		text = []byte(strings.ReplaceAll(string(text), "/usr/local/bin/fleetprof", fleetprof))
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(unit)), text, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", filepath.Join(dir, filepath.Base(unit))).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", filepath.Base(unit), err, out)
		}
	}
}
