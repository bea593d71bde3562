// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
)

// strippedBurn compiles a program that burns CPU, takes its symbols away, and starts it.
func strippedBurn(t *testing.T) (buildID string, debug []byte) {
	t.Helper()
	dir, kept := t.TempDir(), filepath.Join(t.TempDir(), "symbols")
	path := filepath.Join(dir, "burnstripped")
	for _, args := range [][]string{
		{"gcc", "-O2", "-fno-omit-frame-pointer", "-Wl,--build-id", "-o", path, "testdata/burn.c"},
		{"objcopy", "--only-keep-debug", path, kept},
		{"strip", path},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	debug, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	burn := exec.Command(path)
	if err := burn.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = burn.Process.Kill(), burn.Wait() })
	return objfiletest.Open(t, path).BuildID(), debug
}

// untilSampled waits for a profile in a directory with a function whose name begins so.
func untilSampled(t *testing.T, dir, function string, log func() string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(dir, "*.pb.gz"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			if hasFunction(t, path, function) {
				return
			}
		}
	}
	t.Fatalf("no profile has %s\n%s", function, log())
}

func hasFunction(t *testing.T, path, function string) bool {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := profile.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, fn := range p.Function {
		if strings.HasPrefix(fn.Name, function) {
			return true
		}
	}
	return false
}

// A stripped program has no names while the server that has its debug file hangs, which holds up
// nothing, and has them once it answers.
func TestDebuginfod(t *testing.T) {
	needRoot(t)
	id, debug := strippedBurn(t)
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/buildid/"+id+"/debuginfo" {
			http.NotFound(w, r) // other programs run here
			return
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		_, _ = w.Write(debug)
	}))
	defer server.Close()
	state, store := filepath.Join(t.TempDir(), "state"), t.TempDir()
	agent := startMortal(t, state, "dir:"+store, "--debuginfod="+server.URL)
	defer agent.kill()
	untilSampled(t, store, "burnstripped+0x", agent.log.String)
	if files, err := filepath.Glob(filepath.Join(store, "*.pb.gz")); err != nil || hasFunction(t, files[len(files)-1], "burn_inner") {
		t.Error("the name is there before the debug file is")
	}
	close(release)
	untilSampled(t, store, "burn_inner", agent.log.String)
	kept, err := os.ReadFile(filepath.Join(state, "debuginfod", id+".debug"))
	if err != nil || string(kept) != string(debug) {
		t.Errorf("%d bytes are kept of %d, %v", len(kept), len(debug), err)
	}
	all := metrics(t, agent.address)
	if n := all[`fleetprof_debuginfod_requests_total{result="found"}`]; n != 1 {
		t.Errorf("%v files are found, want 1", n)
	}
	if n := all["fleetprof_debuginfod_bytes"]; n != float64(len(debug)) {
		t.Errorf("%v bytes, want %d", n, len(debug))
	}
}
