// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// What lies beside an object is looked for in the root of its process, which no link leads out of.
func TestOpenBeside(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can change the root of a process")
	}
	root := t.TempDir()
	source := filepath.Join(t.TempDir(), "pause.c")
	write(t, source, "#include <unistd.h>\nint main(void) { return pause(); }\n")
	if out, err := exec.Command("gcc", "-static", "-o", root+"/pause", source).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	if err := os.MkdirAll(root+"/dir", 0o755); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, outside, "outside")
	write(t, root+"/dir/inside", "inside")
	for link, to := range map[string]string{
		"absolute": outside, "relative": "../../../../../../../.." + outside, "within": "/dir/inside",
	} {
		if err := os.Symlink(to, root+"/dir/"+link); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/pause")
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: root}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()

	f, o := testFiles(t), &sample.Object{Path: "/pause"}
	defer f.close()
	f.hold(&region{object: o}, uint32(cmd.Process.Pid))
	for path, want := range map[string]string{
		"/dir/inside": "inside", "/dir/within": "inside", "/dir/absolute": "", "/dir/relative": "", "/dir/none": "", "/dir": "",
	} {
		file, err := f.OpenBeside(o, path)
		switch {
		case want == "" && err == nil:
			t.Errorf("%s could be opened", path)
			file.Close()
		case want == "":
			if path != "/dir" && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %v, want %v", path, err, os.ErrNotExist)
			}
		case err != nil:
			t.Error(err)
		default:
			got, err := io.ReadAll(file)
			if err != nil || string(got) != want {
				t.Errorf("%s has %q, %v, want %q", path, got, err, want)
			}
			file.Close()
		}
	}
	if file, err := f.OpenBeside(&sample.Object{Path: "/pause"}, "/dir/inside"); err == nil {
		t.Error("opened for an object that was not sampled")
		file.Close()
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
