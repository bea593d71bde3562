// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// busyboxNames are programs that tests start by their names.
func busyboxNames() []string { return []string{"sh", "taskset", "true"} }

// sources are programs in C that tests start. The machines have no compiler:
// the profiler's tests find spin and tls by FLEETPROF_TEST_SPIN and FLEETPROF_TEST_TLS,
// and labels, which is in Go, by FLEETPROF_TEST_LABELS.
func sources() map[string]string {
	return map[string]string{
		"spin":  "profiler/testdata/spin.c",
		"sleep": ".ci/vm/programs/sleep.c",
		"tls":   "profiler/testdata/tls.c",
	}
}

// compile makes a static program for an architecture.
func compile(arch, source, binary string) error {
	compiler := "x86_64-linux-gnu-gcc"
	if arch == "arm64" {
		compiler = "aarch64-linux-gnu-gcc"
	}
	return run(exec.Command(compiler, "-static", "-O2", "-fno-omit-frame-pointer",
		"-fno-optimize-sibling-calls", "-o", binary, source))
}

// buildInitramfs makes the file system of a machine of one architecture: our
// init, the test binaries of the packages with their test data, and the few
// programs they start.
func buildInitramfs(from store, dir, arch string, packages []string) (string, error) {
	busybox, err := from.busybox(arch)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	content := make(image)
	for _, name := range busyboxNames() {
		content["/bin/"+name] = busybox
	}
	init := filepath.Join(dir, "init")
	content["/init"] = init
	if err := run(goCommand(arch, "build", "-o", init, "./.ci/vm/init")); err != nil {
		return "", err
	}
	for name, source := range sources() {
		binary := filepath.Join(dir, name)
		content["/bin/"+name] = binary
		if err := compile(arch, source, binary); err != nil {
			return "", err
		}
	}
	labels := filepath.Join(dir, "labels")
	content["/bin/labels"] = labels
	if err := run(goCommand(arch, "build", "-ldflags=-s -w", "-o", labels, "./profiler/testdata/labels")); err != nil {
		return "", err
	}
	for _, p := range packages {
		name := path.Base(p) + ".test"
		binary := filepath.Join(dir, path.Clean(p), name)
		if err := run(goCommand(arch, "test", "-c", "-o", binary, "./"+path.Clean(p))); err != nil {
			return "", err
		}
		at := path.Join("/tests", p)
		content[path.Join(at, name)] = binary
		err := content.addTree(path.Join(at, "testdata"), filepath.Join(p, "testdata"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	file := filepath.Join(dir, "initramfs")
	f, err := os.Create(file)
	if err != nil {
		return "", err
	}
	return file, errors.Join(content.write(f), f.Close())
}

// goCommand is the go command building static binaries of an architecture.
func goCommand(arch string, args ...string) *exec.Cmd {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	return cmd
}

// run runs a command whose output matters only if it fails.
func run(cmd *exec.Cmd) error {
	_, err := output(cmd)
	return err
}

func output(cmd *exec.Cmd) (stdout string, err error) {
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("run %v: %w\n%s%s", cmd.Args, err, out.Bytes(), complaints.Bytes())
	}
	return out.String(), nil
}
