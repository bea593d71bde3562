// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
)

// BenchmarkBuild builds the tables of real files.
func BenchmarkBuild(b *testing.B) {
	for _, path := range []string{
		"/lib/x86_64-linux-gnu/libc.so.6", "/bin/bash", "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
		"/usr/lib/x86_64-linux-gnu/libLLVM-16.so.1", "/usr/lib/chromium/chromium", "/usr/bin/node",
		"/usr/local/go/bin/go",
	} {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		b.Run(filepath.Base(path), func(b *testing.B) {
			f := objfiletest.Open(b, path)
			var table *Table
			for b.Loop() {
				var err error
				if table, err = Build(f); err != nil {
					b.Fatal(err)
				}
			}
			text := uint64(0)
			for _, r := range table.Regions {
				text += r.Limit - r.Start
			}
			b.ReportMetric(float64(len(table.Rows)), "rows")
			b.ReportMetric(float64(len(table.Rules)), "rules")
			b.ReportMetric(float64(table.Bytes()>>10), "table-KiB")
			b.ReportMetric(float64(text>>10), "text-KiB")
		})
	}
}

// BenchmarkLookup looks up addresses all over libc.
func BenchmarkLookup(b *testing.B) {
	const path = "/lib/x86_64-linux-gnu/libc.so.6"
	if _, err := os.Stat(path); err != nil {
		b.Skip("no libc there")
	}
	table := build(b, path)
	r := table.Regions[0]
	size, addr := r.Limit-r.Start, uint64(0)
	for b.Loop() {
		addr = (addr + 7919) % size
		table.Lookup(r.Start + addr)
	}
}
