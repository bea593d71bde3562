// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// BenchmarkName names 10,000 addresses of a program in Go and of one in C++ with much debug information, at
// first and again.
func BenchmarkName(b *testing.B) {
	for _, c := range []struct {
		name  string
		build func(out string) *exec.Cmd
	}{
		{"go", func(out string) *exec.Cmd { return exec.Command("go", "build", "-o", out, "../../cmd/fleetprof") }},
		{"c++", func(out string) *exec.Cmd {
			return exec.Command("g++", "-std=c++17", "-g", "-O2", "-Wl,--build-id", "-o", out, "../../cmd/fleetprof/testdata/orders.cc")
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			path := b.TempDir() + "/program"
			if out, err := c.build(path).CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				b.Fatal(err)
			}
			file, err := objfile.Open(bytes.NewReader(content), int64(len(content)))
			if err != nil {
				b.Fatal(err)
			}
			addresses, start := places(b, file, 10_000)
			for b.Loop() {
				k, err := Open(Options{Dir: b.TempDir(), Bytes: 4 << 30, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
				if err != nil {
					b.Fatal(err)
				}
				for at := int64(0); at < int64(len(content)); at += MaxPart {
					p := part{size: int64(len(content)), offset: at, sum: sha256.Sum256(content)}
					if _, err := k.take("", file.BuildID(), p, bytes.NewReader(content[at:min(at+MaxPart, int64(len(content)))])); err != nil {
						b.Fatal(err)
					}
				}
				for _, unit := range []string{"ms-first", "ms-again"} {
					begin := time.Now()
					for _, address := range addresses {
						if _, ok := k.Name(file.BuildID(), path, start, address); !ok {
							b.Fatalf("%#x is not named", address)
						}
					}
					b.ReportMetric(float64(time.Since(begin).Microseconds())/1000, unit)
				}
				if err := k.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// places gives addresses at random of the section .text, and where its segment begins.
func places(b *testing.B, f *objfile.File, n int) (addresses []uint64, start uint64) {
	b.Helper()
	text, ok := f.Section(".text")
	if !ok {
		b.Fatal("there is no section .text")
	}
	for _, s := range f.Segments {
		if s.Flags&elf.PF_X != 0 {
			start = s.Address &^ (pageSize - 1)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range n {
		addresses = append(addresses, text.Address+random.Uint64N(text.Size))
	}
	return addresses, start
}
