// SPDX-License-Identifier: Apache-2.0

package index

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func openDir(t *testing.T, path string, limit int64) *Dir {
	t.Helper()
	d, err := OpenDir(path, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// keep puts a file of so many bytes into a directory.
func keep(t *testing.T, d *Dir, key Key, size int64) {
	t.Helper()
	f, err := d.Create(key)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := d.Keep(key, f, size); err != nil {
		t.Fatal(err)
	}
}

// holds tells whether a directory has an index.
func holds(t *testing.T, d *Dir, key Key) bool {
	t.Helper()
	f, _, err := d.Open(key)
	if err == nil {
		return f.Close() == nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
	return false
}

// TestDirKeeps keeps what was kept for a restart, and nothing else.
func TestDirKeeps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names")
	d := openDir(t, path, 1<<20)
	if holds(t, d, Key{1}) {
		t.Error("an index of which nobody knows")
	}
	keep(t, d, Key{1}, 5000)
	if _, err := d.Create(Key{2}); err != nil { // and the agent is killed
		t.Fatal(err)
	}
	for name, content := range map[string]string{"notes": "x", "abcd" + suffix: "x", Key{3}.file() + "x": "x"} {
		if err := os.WriteFile(filepath.Join(path, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = openDir(t, path, 1<<20)
	if bytes, files, evicted := d.Usage(); bytes != 8192 || files != 1 || evicted != 0 {
		t.Errorf("%d bytes in %d files, %d evicted", bytes, files, evicted)
	}
	if !holds(t, d, Key{1}) || holds(t, d, Key{2}) {
		t.Error("not the index that was kept")
	}
	if _, err := os.Stat(filepath.Join(path, Key{2}.file()+partial)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("half an index: %v", err)
	}
	if _, err := os.Stat(filepath.Join(path, "notes")); err != nil {
		t.Errorf("what is not ours: %v", err)
	}
	d.Remove(Key{1})
	if bytes, files, _ := d.Usage(); holds(t, d, Key{1}) || bytes != 0 || files != 0 {
		t.Errorf("%d bytes in %d files after all are removed", bytes, files)
	}
}

// TestDirMakesRoom lets go of what was not used for the longest time, also when it is opened with less room.
func TestDirMakesRoom(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path, 10*sector)
	keep(t, d, Key{0}, 3*sector)
	keep(t, d, Key{1}, 3*sector)
	open, _, err := d.Open(Key{1})
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	keep(t, d, Key{2}, 3*sector)
	holds(t, d, Key{0}) // is used
	keep(t, d, Key{9}, 3*sector)
	if holds(t, d, Key{1}) || !holds(t, d, Key{0}) || !holds(t, d, Key{2}) || !holds(t, d, Key{9}) {
		t.Error("not the one that was used first has gone")
	}
	if _, _, evicted := d.Usage(); evicted != 1 {
		t.Errorf("%d evicted", evicted)
	}
	if n, err := open.ReadAt(make([]byte, 10), 0); n != 10 || err != nil {
		t.Errorf("who had it open reads %d bytes: %v", n, err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(path, Key{2}.file()), old, old); err != nil {
		t.Fatal(err)
	}
	d = openDir(t, path, 6*sector)
	if _, files, _ := d.Usage(); files != 2 || holds(t, d, Key{2}) {
		t.Errorf("%d files, the oldest is there: %t", files, holds(t, d, Key{2}))
	}
}

// TestDirLosesFiles goes on when files vanish, or are no files.
func TestDirLosesFiles(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path, 1<<20)
	keep(t, d, Key{1}, 100)
	keep(t, d, Key{2}, 100)
	for _, key := range []Key{{1}, {2}} {
		if err := os.Remove(filepath.Join(path, key.file())); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(path, Key{2}.file()), 0o700); err != nil {
		t.Fatal(err)
	}
	if holds(t, d, Key{1}) {
		t.Error("an index that is gone")
	}
	if f, _, err := d.Open(Key{2}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a directory is opened: %v, %v", f, err)
	}
	if bytes, files, _ := d.Usage(); bytes != 0 || files != 0 {
		t.Errorf("%d bytes in %d files", bytes, files)
	}
}
