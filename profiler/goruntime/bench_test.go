// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"os"
	"testing"
)

// BenchmarkRead reads a large program with a server of net/http.
func BenchmarkRead(b *testing.B) {
	const path = "/usr/local/go/bin/go"
	if _, err := os.Stat(path); err != nil {
		b.Skip("no Go toolchain there")
	}
	f := open(b, path)
	for b.Loop() {
		if _, err := Read(f); err != nil {
			b.Fatal(err)
		}
	}
}
