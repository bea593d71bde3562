// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
)

var (
	update = flag.Bool("update", false, "rewrite table.go, fetching toolchains and modules as needed")
	every  = flag.Bool("every", false, "run programs of every version, which takes minutes, not only some")
)

// toolchains are the first and a late release of each Go that the table has. Those
// that are not on the machine are skipped, except by -update.
func toolchains() []string {
	all := []string{
		"go1.20", "go1.20.14", "go1.21.0", "go1.21.13", "go1.22.0", "go1.22.12", "go1.23.0", "go1.23.12",
		"go1.24.0", "go1.24.13", "go1.25.0", "go1.25.6", "go1.26.0",
	}
	return append(all, runtime.Version())
}

// late are the toolchains whose programs are run. The last is the one that builds
// the tests.
func late() []string {
	if !*every {
		return []string{"go1.20.14", "go1.23.12", runtime.Version()}
	}
	return []string{"go1.20.14", "go1.21.13", "go1.22.12", "go1.23.12", "go1.24.13", "go1.25.6", runtime.Version()}
}

// minorOf is 26 for go1.26.8, as text.
func minorOf(toolchain string) string { return strings.Split(toolchain, ".")[1] }

// offline are the variables that let the go command use a toolchain, and nothing
// that is not on the machine.
func offline(toolchain string) []string {
	env := append(os.Environ(), "GOTOOLCHAIN="+toolchain, "GOFLAGS=-mod=mod", "GOWORK=off")
	if !*update {
		env = append(env, "GOPROXY=off", "GONOSUMDB=google.golang.org/*,golang.org/x/*")
	}
	return env
}

// needToolchain skips the test if a toolchain is not there.
func needToolchain(t *testing.T, toolchain string) {
	t.Helper()
	cmd := exec.Command("go", "version")
	cmd.Env, cmd.Dir = offline(toolchain), t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), toolchain+" ") {
		t.Skipf("no toolchain %s: %s", toolchain, out)
	}
}

// program is one to build from testdata.
type program struct {
	source, toolchain string
	// require is a module and version that the source needs.
	require string
	// env and flags go to the go command.
	env, flags []string
}

// build returns the path of the program.
func (p program) build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", p.source))); err != nil {
		t.Fatal(err)
	}
	module := "module example.org/program\n\ngo 1." + minorOf(p.toolchain) + "\n"
	if p.require != "" {
		module += "\nrequire " + p.require + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(module), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "program")
	cmd := exec.Command("go", append(append([]string{"build", "-o", out}, p.flags...), ".")...)
	cmd.Dir, cmd.Env = dir, append(offline(p.toolchain), p.env...)
	if b, err := cmd.CombinedOutput(); err != nil {
		if p.require != "" && strings.Contains(string(b), "GOPROXY=off") {
			t.Skipf("no module %s: %s", p.require, b)
		}
		t.Fatalf("build %+v: %v\n%s", p, err, b)
	}
	return out
}

func read(t testing.TB, path string) *Layout {
	t.Helper()
	l, err := Read(objfiletest.Open(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return l
}
