// SPDX-License-Identifier: Apache-2.0

package config

import "crypto/sha256"

// Watcher finds out that a file is another one, or has another text: written in place,
// replaced by rename(2), or reached through links that lead elsewhere, as those of a
// Kubernetes ConfigMap do. It reads the file at each look. That costs as little as any
// way of being told, depends on no file system, and needs no rules about which links
// and directories to watch.
//
// Not safe for concurrent use.
type Watcher struct {
	path string
	// loaded is the text that was last loaded, seen that of the last look.
	loaded, seen string
}

// NewWatcher watches a file since it was loaded.
func NewWatcher(f *File) *Watcher {
	return &Watcher{path: f.path, loaded: f.digest, seen: f.digest}
}

// Watch watches any file as it is now.
func Watch(path string) *Watcher {
	w := &Watcher{path: path}
	w.Skip()
	return w
}

// Changed looks at the file. It is true once for each change, at the second look that
// finds the same: at the first one, somebody may still be writing.
func (w *Watcher) Changed() bool {
	before := w.look()
	if w.seen != before || w.seen == w.loaded {
		return false
	}
	w.loaded = w.seen
	return true
}

// Skip takes that the file is loaded as it is now, for whatever reason.
func (w *Watcher) Skip() {
	w.look()
	w.loaded = w.seen
}

// look reads the file and returns what the look before has seen.
func (w *Watcher) look() (before string) {
	before = w.seen
	text, err := Read(w.path)
	w.seen = digest(text, err)
	return before
}

// digest tells texts apart, and them from errors.
func digest(text []byte, err error) string {
	if err != nil {
		return err.Error()
	}
	sum := sha256.Sum256(text)
	return string(sum[:])
}
