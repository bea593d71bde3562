// SPDX-License-Identifier: Apache-2.0

package statedir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func open(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func expect(t *testing.T, d *Dir, name, want string) {
	t.Helper()
	if got, err := d.Read(name, 100); err != nil || string(got) != want {
		t.Errorf("%s is %q, %v; want %q", name, got, err, want)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	d := open(t, path)
	if _, err := d.Read("x", 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read of nothing: %v", err)
	}
	for _, text := range []string{"first and long", "second"} {
		if err := d.Write("x", []byte(text)); err != nil {
			t.Fatal(err)
		}
		expect(t, d, "x", text)
	}
	if _, err := d.Read("x", 5); err == nil {
		t.Error("a file that is too large is read")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, open(t, path), "x", "second")
}

// What a crash left half written is neither read nor in the way.
func TestCrashWhileWriting(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	if err := d.Write("x", []byte("whole")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "x"+temporary), []byte("half of something longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, d, "x", "whole")
	if err := d.Write("x", []byte("next")); err != nil {
		t.Fatal(err)
	}
	expect(t, d, "x", "next")
	if files, err := os.ReadDir(path); err != nil || len(files) != 1 {
		t.Errorf("files are %v, %v", files, err)
	}
}

// Nobody else reads what is kept, whoever made the directory.
func TestNobodyElse(t *testing.T) {
	path := t.TempDir()
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	d := open(t, path)
	if err := d.Write("x", nil); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{".": 0o700, "x": 0o600} {
		if info, err := os.Stat(filepath.Join(path, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestRefused(t *testing.T) {
	path := t.TempDir()
	first := open(t, path)
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("a second agent: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file); err == nil {
		t.Error("a file is taken for a directory")
	}
	if os.Geteuid() != 0 {
		return
	}
	others := t.TempDir()
	if err := os.Chown(others, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(others); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("the directory of somebody else: %v", err)
	}
}

// Names lead nowhere else.
func TestLinksOut(t *testing.T) {
	path, outside := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(path, "x")); err != nil {
		t.Fatal(err)
	}
	if text, err := open(t, path).Read("x", 100); err == nil {
		t.Errorf("read %q", text)
	}
}
