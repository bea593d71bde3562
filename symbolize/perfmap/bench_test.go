// SPDX-License-Identifier: Apache-2.0

package perfmap

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// large is the file of a program with 100,000 functions, each compiled twice, in any order.
func large() []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var text bytes.Buffer
	for i := range 200_000 {
		fmt.Fprintf(&text, "%x %x JS:*someFunction%d file:///srv/app/node_modules/some/module.js:%d:17\n", 0x7f0000000000+rng.Uint64N(100_000)*512, 100+rng.Uint64N(400), i, i%3000)
	}
	return text.Bytes()
}

func BenchmarkUpdate(b *testing.B) {
	text := large()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		t := Open(bytes.NewReader(text), 8<<20)
		if err := t.Update(int64(len(text))); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(t.Bytes()), "table-bytes")
	}
}

func BenchmarkLookup(b *testing.B) {
	text := large()
	t := Open(bytes.NewReader(text), 8<<20)
	if err := t.Update(int64(len(text))); err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		if _, err := t.Lookup(0x7f0000000000 + rng.Uint64N(100_000)*512); err != nil {
			b.Fatal(err)
		}
	}
}
