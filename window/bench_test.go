// SPDX-License-Identifier: Apache-2.0

package window

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

func BenchmarkAdd(b *testing.B) {
	stacks := make([]sample.Stack, 1000)
	for i := range stacks {
		stacks[i] = make(sample.Stack, 40)
		for j := range stacks[i] {
			stacks[i][j] = sample.Location{Object: program, Offset: uint64(j) * 4096}
		}
		stacks[i][0].Offset = uint64(i)
	}
	c := NewCollector(start)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.Add(stacks[i%len(stacks)], sample.Labels{Executable: "program", PID: "1"}, ticks(1))
	}
}

func BenchmarkEncode(b *testing.B) {
	ended, cancel := context.WithCancel(b.Context())
	cancel()
	all := hostileLocations()
	for _, bench := range []struct {
		name    string
		window  *Window
		ctx     context.Context
		symbols symbolizerFunc
	}{
		{"usual", usualWindow().Cut(start), b.Context(), offsetNames},
		{"full", fullWindow(all).Cut(start), b.Context(), longNames},
		{"full at the end", fullWindow(all).Cut(start), ended, nil},
	} {
		b.Run(bench.name, func(b *testing.B) {
			e := Encoding{Symbolizer: bench.symbols, Host: "host"}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Encode(bench.ctx, bench.window); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// usualWindow is that of a busy host with 16 CPUs.
func usualWindow() *Collector {
	random := rand.New(rand.NewPCG(1, 2))
	c := NewCollector(start)
	for range 3000 {
		stack := make(sample.Stack, 40)
		for i := range stack {
			stack[i] = sample.Location{Object: program, Offset: uint64(random.ExpFloat64() * 1000)}
		}
		c.Add(stack, sample.Labels{Executable: "program", PID: fmt.Sprint(random.IntN(100))}, ticks(1))
	}
	return c
}
