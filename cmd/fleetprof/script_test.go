// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts run the real command: what a user types, and what he then reads.
// [root] is true where BPF programs can be loaded, [unshare] where a script
// can hide parts of the system from the command.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:      "testdata/script",
		Deadline: time.Now().Add(2 * time.Minute), // a command that does not end is a failure
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(fleetprof)+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("ADDRESS", freeAddress(t))
			return os.Chmod(env.WorkDir, 0o755)
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "root":
				return os.Geteuid() == 0, nil
			case "unshare":
				return exec.Command("unshare", "--mount", "true").Run() == nil, nil
			}
			return false, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": await, "put": put, "fold": fold, "get": get, "parca": parcaFake},
	})
}

// await returns once a URL answers.
func await(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		answer, err := http.Get(args[0])
		if err == nil {
			answer.Body.Close()
			return
		}
	}
	ts.Fatalf("%s does not answer", args[0])
}
