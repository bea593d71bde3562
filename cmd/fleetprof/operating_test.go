// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/server/profiletest"
)

// The examples of docs/ingest.md do what they say.
func TestIngestExamples(t *testing.T) {
	page, err := os.ReadFile("../../docs/ingest.md")
	if err != nil {
		t.Fatal(err)
	}
	d, dir := start(t, "server", "--data="+t.TempDir()), t.TempDir()
	gz := profiletest.Gzip(t, profiletest.New(time.Now().Add(-time.Minute), profiletest.Sample{Stack: "main;work", Count: 7}))
	push := regexp.MustCompile(`(?m)^    (\{"series".*\})$`).FindSubmatch(page)
	if push == nil {
		t.Fatal("there is no push.json on the page")
	}
	for name, text := range map[string]string{
		"cpu.pb.gz": string(gz),
		"push.json": strings.Replace(string(push[1]), "H4sI…", base64.StdEncoding.EncodeToString(gz), 1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wanted := map[string]string{"/service_name/values": `"shop"`, "fleetprof query": "work"}
	examples := regexp.MustCompile(`(?m)^    ((?:curl|fleetprof) .*)$`).FindAllSubmatch(page, -1)
	for _, e := range examples {
		line := string(e[1])
		cmd := exec.Command("bash", "-c", strings.ReplaceAll(line, "http://127.0.0.1:7171", d.url))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "FLEETPROF_SERVER="+d.url, "PATH="+filepath.Dir(fleetprof)+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", line, err, out)
		}
		for part, want := range wanted {
			if strings.Contains(line, part) && !strings.Contains(string(out), want) {
				t.Errorf("%s: %s", line, out)
			}
		}
	}
	// One without a name, two of shop and one of cart.
	if samples := d.samples(t); samples != 4*7 || len(examples) != 6 {
		t.Errorf("after %d examples there are %v samples", len(examples), samples)
	}
	d.interrupt(t)
}

// A data directory as it is at one moment, while the server runs, is a backup: another server
// has all of it that was acknowledged.
func TestSnapshotIsABackup(t *testing.T) {
	data, restored := t.TempDir(), filepath.Join(t.TempDir(), "restored")
	d := start(t, "server", "--data="+data)
	agent := newSender(t, d.url)
	const sent = 20
	for range sent {
		if err := agent.send(t); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("cp", "-a", data, restored).CombinedOutput()
	if err := d.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := agent.send(t); err != nil {
		t.Fatal(err)
	}
	d.interrupt(t)
	again := start(t, "server", "--data="+restored)
	if samples := again.samples(t); samples != sent {
		t.Errorf("%v samples are restored, want %d", samples, sent)
	}
	again.interrupt(t)
}
