// SPDX-License-Identifier: Apache-2.0

// Package programtest has programs for tests.
package programtest

import (
	"os"
	"os/exec"
	"testing"
)

// Need gives the path of a program that `make test` installs. Without it a test is skipped, but fails
// for root: there a check that is skipped would read as passed.
func Need(t testing.TB, name string) (path string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Geteuid() != 0 {
		t.Skip(err)
	}
	if err != nil {
		t.Fatalf("%v; `make test` installs it", err)
	}
	return path
}
