// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"testing"
)

// write makes a file.
func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// watch loads a file and watches it.
func watch(t *testing.T, path string) *Watcher {
	t.Helper()
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return NewWatcher(f)
}

// expect makes looks; each must say what is expected.
func (w *Watcher) expect(t *testing.T, step string, looks ...bool) {
	t.Helper()
	for i, want := range looks {
		if got := w.Changed(); got != want {
			t.Errorf("%s: look %d says %v", step, i+1, got)
		}
	}
}

// A change is told at the second look that finds the same, and once. The texts are
// equally long, so that size alone tells nothing.
func TestChangesAreSeen(t *testing.T) {
	path := write(t, t.TempDir()+"/f.yaml", "window: 1s")
	w := watch(t, path)
	w.expect(t, "at first", false, false)

	write(t, path, "window: 2s")
	w.expect(t, "written in place", false, true, false, false)

	if err := os.Rename(write(t, path+".new", "window: 3s"), path); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "replaced", false, true, false)

	write(t, path, "window: 4s")
	w.expect(t, "in the making", false)
	write(t, path, "window: 5s")
	w.expect(t, "changed meanwhile", false, true, false)

	write(t, path, "window: 6s")
	w.expect(t, "changed", false)
	write(t, path, "window: 5s")
	w.expect(t, "and changed back", false, false)

	write(t, path, "window: 7s")
	w.Skip()
	w.expect(t, "loaded for another reason", false, false)

	os.Remove(path)
	w.expect(t, "removed", false, true, false)
	write(t, path, "window: 7s")
	w.expect(t, "there again", false, true, false)
}

// The kubelet updates a ConfigMap by renaming the link that leads to the directory of
// all files (AtomicWriter in pkg/volume/util/atomic_writer.go of Kubernetes): neither
// the file nor its own link is touched.
func TestConfigMapsAreSeen(t *testing.T) {
	dir := t.TempDir()
	link := func(to, from string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	for version, text := range map[string]string{"..v1": "window: 1s", "..v2": "window: 2s"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, version, "f.yaml"), text)
	}
	link("..v1", "..data")
	link("..data/f.yaml", "f.yaml")
	w := watch(t, filepath.Join(dir, "f.yaml"))
	w.expect(t, "at first", false, false)

	link("..v2", "..data_tmp")
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(filepath.Join(dir, "..v1"))
	w.expect(t, "updated", false, true, false)
}
