// SPDX-License-Identifier: Apache-2.0

// Package objfiletest opens ELF files for tests.
package objfiletest

import (
	"os"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// Open opens a file, for as long as the test lasts.
func Open(t testing.TB, path string) *objfile.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	o, err := objfile.Open(f, info.Size())
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	return o
}
