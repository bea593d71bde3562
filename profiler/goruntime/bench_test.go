// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"os"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
)

// BenchmarkRead reads a large program with a server of net/http.
func BenchmarkRead(b *testing.B) {
	const path = "/usr/local/go/bin/go"
	if _, err := os.Stat(path); err != nil {
		b.Skip("no Go toolchain there")
	}
	f := objfiletest.Open(b, path)
	for b.Loop() {
		if _, err := Read(f); err != nil {
			b.Fatal(err)
		}
	}
}
