// SPDX-License-Identifier: Apache-2.0

package strip_test

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/strip"
)

// host has files at their paths in a directory.
type host struct{ root string }

func (h host) Open(o *sample.Object) (*os.File, error) {
	return os.Open(filepath.Join(h.root, o.Path))
}

func (h host) OpenBeside(_ *sample.Object, path string) (*os.File, error) {
	return os.Open(filepath.Join(h.root, path))
}

func (h host) write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.root, path), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A program that has ended and whose file is gone is stripped, with the debug file that is beside it.
func TestHeld(t *testing.T) {
	h, whole := host{t.TempDir()}, build(t, "-g", "-Wl,--build-id")
	h.write(t, "/program", whole)
	at := filepath.Join(h.root, "program")
	run(t, "objcopy", "--only-keep-debug", at, at+".debug")
	run(t, "objcopy", "-S", "--add-gnu-debuglink="+at+".debug", at)
	id := open(t, whole).BuildID()
	o := &sample.Object{Path: "/program"}
	for _, debug := range []bool{true, false} {
		held, err := strip.Hold(h, o, id)
		if err != nil {
			t.Fatal(err)
		}
		if debug {
			if err := os.Rename(at, at+".old"); err != nil {
				t.Fatal(err)
			}
		} else if err := os.Remove(at + ".debug"); err != nil {
			t.Fatal(err)
		}
		f, err := held.Names(limit)
		if err != nil {
			t.Fatal(err)
		}
		got, err := elf.NewFile(bytes.NewReader(content(t, f)))
		if err != nil {
			t.Fatal(err)
		}
		if symbols, _ := got.Symbols(); len(symbols) > 0 != debug {
			t.Errorf("with a debug file %v there are %d symbols", debug, len(symbols))
		}
		if err := held.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(make([]byte, f.Size()), 0); !errors.Is(err, os.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
		if debug {
			if err := os.Rename(at+".old", at); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Another file than the one that was sampled is not stripped under its build ID, and neither is what is no ELF file.
func TestHeldOther(t *testing.T) {
	h, whole := host{t.TempDir()}, build(t, "-Wl,--build-id")
	h.write(t, "/program", whole)
	h.write(t, "/text", []byte("#!/bin/sh\n"))
	for path, id := range map[string]string{"/program": "0123456789abcdef0123", "/text": open(t, whole).BuildID()} {
		held, err := strip.Hold(h, &sample.Object{Path: path}, id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := held.Names(limit); err == nil {
			t.Errorf("%s is taken for %s", path, id)
		}
		if err := held.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := strip.Hold(h, &sample.Object{Path: "/gone"}, ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}
