// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/programtest"
)

// containerImage is the image that tests make.
const containerImage = "localhost/fleetprof/burn:test"

// testContainerd is a containerd of the test's own, with its state in a temporary
// directory and the image in both of its ways in: its own API and CRI.
type testContainerd struct {
	dir, socket string
	cmd         *exec.Cmd
}

func newContainerd(t testing.TB) *testContainerd {
	t.Helper()
	for _, program := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc"} {
		programtest.Need(t, program)
	}
	dir := t.TempDir()
	c := &testContainerd{dir: dir, socket: filepath.Join(dir, "socket")}
	config := fmt.Sprintf(`version = 2
root = "%[1]s/root"
state = "%[1]s/state"
[grpc]
address = "%[2]s"
[ttrpc]
address = "%[2]s.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %[3]q
stream_server_address = "127.0.0.1"
stream_server_port = "0"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "%[1]s/cni"
bin_dir = "%[1]s/cni"
`, dir, c.socket, containerImage)
	if err := os.WriteFile(dir+"/config.toml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start(t)
	t.Cleanup(func() { c.stop(t) })
	archive := filepath.Join(dir, "image.tar")
	writeImage(t, archive, compileStatic(t, "testdata/containers/burn.c"))
	for _, namespace := range []string{"k8s.io", "default"} {
		c.run(t, "-n", namespace, "images", "import", archive)
	}
	return c
}

// compileStatic compiles a C program that needs no libraries.
func compileStatic(t testing.TB, source string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if out, err := exec.Command("gcc", "-O2", "-static", "-o", path, source).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// start returns when containerd answers.
func (c *testContainerd) start(t testing.TB) {
	t.Helper()
	c.cmd = exec.Command("containerd", "--config", c.dir+"/config.toml", "--log-level", "error")
	log, err := os.OpenFile(c.dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.cmd.Stderr = log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for c.command("version").Run() != nil {
		if unix.Kill(c.cmd.Process.Pid, 0) != nil {
			t.Fatal("containerd has ended")
		}
	}
}

// stop ends containerd; containers go on.
func (c *testContainerd) stop(t testing.TB) {
	t.Helper()
	c.end(t, unix.SIGTERM)
}

func (c *testContainerd) end(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(signal); err != nil {
		t.Error(err)
	}
	_ = c.cmd.Wait() // it was told to
	if t.Failed() {
		said, _ := os.ReadFile(c.dir + "/log")
		t.Logf("containerd: %s", said)
	}
}

func (c *testContainerd) command(args ...string) *exec.Cmd {
	return exec.Command("ctr", append([]string{"--address", c.socket, "--connect-timeout", "1s"}, args...)...)
}

func (c *testContainerd) run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.command(args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ctr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// writeImage writes an image with one program, /burn, as an archive in the layout of
// https://github.com/opencontainers/image-spec/blob/main/image-layout.md.
func writeImage(t testing.TB, path string, program []byte) {
	t.Helper()
	var archive, layer bytes.Buffer
	out := tar.NewWriter(&archive)
	file := func(to *tar.Writer, name string, mode int64, content []byte) {
		header := &tar.Header{Name: name, Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg}
		if err := to.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	type object = map[string]any
	blob := func(mediaType string, content []byte) object {
		digest := fmt.Sprintf("%x", sha256.Sum256(content))
		file(out, "blobs/sha256/"+digest, 0o644, content)
		return object{"mediaType": mediaType, "digest": "sha256:" + digest, "size": len(content)}
	}
	text := func(v any) []byte {
		content, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	inside := tar.NewWriter(&layer)
	file(inside, "burn", 0o755, program)
	if err := inside.Close(); err != nil {
		t.Fatal(err)
	}
	const types = "application/vnd.oci.image."
	layers := blob(types+"layer.v1.tar", layer.Bytes())
	config := blob(types+"config.v1+json", text(object{
		"architecture": runtime.GOARCH, "os": "linux",
		// Whoever makes an image may claim anything in its labels.
		"config": object{"Entrypoint": []string{"/burn"}, "Labels": object{
			"io.kubernetes.pod.namespace": "liar", "com.amazonaws.ecs.task-arn": "liar",
		}},
		"rootfs": object{"type": "layers", "diff_ids": []any{layers["digest"]}},
	}))
	manifest := blob(types+"manifest.v1+json", text(object{
		"schemaVersion": 2, "mediaType": types + "manifest.v1+json", "config": config, "layers": []any{layers},
	}))
	manifest["annotations"] = object{"io.containerd.image.name": containerImage}
	file(out, "oci-layout", 0o644, text(object{"imageLayoutVersion": "1.0.0"}))
	file(out, "index.json", 0o644, text(object{"schemaVersion": 2, "manifests": []any{manifest}}))
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}
