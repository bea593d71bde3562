// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// image is the content of an initramfs: absolute names in the machine and the
// files of this host that they are copies of. Directories come by themselves.
type image map[string]string

// addTree adds a directory and all regular files below it.
func (m image) addTree(name, dir string) error {
	return filepath.WalkDir(dir, func(file string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		below, err := filepath.Rel(dir, file)
		m[path.Join(name, below)] = file
		return err
	})
}

// write makes an archive as the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst wants it: "newc"
// cpio, uncompressed. All files can be executed and are root's.
func (m image) write(w io.Writer) error {
	buffered := bufio.NewWriter(w)
	a := &archive{w: buffered, made: map[string]bool{"/": true}}
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := a.directory(path.Dir(name)); err != nil {
			return err
		}
		content, err := os.ReadFile(m[name])
		if err != nil {
			return err
		}
		if err := a.entry(name, 0o100755, content); err != nil {
			return err
		}
	}
	if err := a.entry("TRAILER!!!", 0, nil); err != nil {
		return err
	}
	return buffered.Flush()
}

// archive writes entries and keeps count of them.
type archive struct {
	w       io.Writer
	entries int
	made    map[string]bool // directories
}

func (a *archive) directory(name string) error {
	if a.made[name] {
		return nil
	}
	a.made[name] = true
	if err := a.directory(path.Dir(name)); err != nil {
		return err
	}
	return a.entry(name, 0o040755, nil)
}

// entry writes one header with the name, which together fill a multiple of
// four bytes, and the content, which is filled up likewise.
func (a *archive) entry(name string, mode int, content []byte) error {
	a.entries++
	const headerBytes, owner, links, device = 110, 0, 1, 0
	nameBytes := len(name) + 1
	_, err := fmt.Fprintf(a.w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00%s%s%s",
		a.entries, mode, owner, owner, links, 0, len(content), device, device, device, device, nameBytes, 0,
		name, padding(headerBytes+nameBytes), content, padding(len(content)))
	return err
}

func padding(bytes int) string { return "\x00\x00\x00"[:-bytes&3] }
