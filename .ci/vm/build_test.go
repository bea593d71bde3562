// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The archive is unpacked by cpio(1), an implementation that is not ours.
func TestImageIsACPIOArchive(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip(err)
	}
	from := t.TempDir()
	content := make(image)
	want := make(map[string][]byte)
	for i, name := range []string{"init", "bin/a", "bin/bb", "deep/er/ccc", "empty"} {
		text := bytes.Repeat([]byte{byte('a' + i), 0}, i*5)
		if name == "empty" {
			text = nil
		}
		file := filepath.Join(from, filepath.Base(name))
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		content["/"+name] = file
		want[name] = text
	}
	var archive bytes.Buffer
	if err := content.write(&archive); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	unpack := exec.Command("cpio", "--extract", "--no-absolute-filenames", "--quiet")
	unpack.Dir, unpack.Stdin = to, &archive
	if err := run(unpack); err != nil {
		t.Fatal(err)
	}
	for name, text := range want {
		got, err := os.ReadFile(filepath.Join(to, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, text) {
			t.Errorf("%s holds %q, want %q", name, got, text)
		}
		if info, err := os.Stat(filepath.Join(to, name)); err != nil || info.Mode() != 0o755 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestFindDependency(t *testing.T) {
	const description = "Package: linux-image-cloud-amd64\nVersion: 7.3.4-1~bpo13+1\n" +
		"Depends: linux-base-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-image-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-modules-cloud-amd64\n" +
		"Suggests: linux-binary-1\n"
	if got := findDependency(description, "linux-image-"); got != "linux-image-7.3.4+deb13-cloud-amd64" {
		t.Errorf("image %q", got)
	}
	if got := findDependency(description, "linux-binary-"); got != "" {
		t.Errorf("binary %q, want none", got)
	}
}

func TestUnpackOnceLeavesNothingHalfDone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "suite", "package")
	broken := errors.New("broken")
	if err := unpackOnce(dir, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	notAPackage := func(work string) error {
		return os.WriteFile(filepath.Join(work, "x.deb"), []byte("x"), 0o600)
	}
	if err := unpackOnce(dir, notAPackage); err == nil {
		t.Error("unpacked what is no package")
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestChoose(t *testing.T) {
	all, err := choose(" ")
	if err != nil || len(all) != len(kernels()) {
		t.Errorf("no name chooses %v, %v", all, err)
	}
	some, err := choose("6.1-arm64  5.10-amd64")
	if err != nil || len(some) != 2 || some[0].String() != "6.1-arm64" || some[1].String() != "5.10-amd64" {
		t.Errorf("two names choose %v, %v", some, err)
	}
	if _, err := choose("6.1-arm64 2.4-amd64"); err == nil {
		t.Error("an unknown kernel is passed over")
	}
}
