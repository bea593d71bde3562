// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
)

// BenchmarkWire is a window of 2,000 samples, drawn from 20,000 different ones: what it takes
// as gzip pprof, as a push that begins a session, and as one of which all stacks were sent
// before. The agent reads the pprof and encodes the push; the server decodes it.
func BenchmarkWire(b *testing.B) {
	pool := profiletest.Random(1, "web-17.example.net", start.Add(10*time.Second), 20_000)
	all, r := pool.Sample, rand.New(rand.NewPCG(1, 2))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	everything := decode(b, pool)
	pool.Sample = all[:2000]
	gz := profiletest.Gzip(b, pool.Compact())
	read := func() *columns.Profile {
		raw, err := columns.Inflate(gz)
		if err != nil {
			b.Fatal(err)
		}
		p, err := columns.Decode(raw)
		if err != nil {
			b.Fatal(err)
		}
		return p
	}
	perSample := func(b *testing.B, bytes int) { b.ReportMetric(float64(bytes)/2000, "B/sample") }
	b.Run("read-pprof", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			read()
		}
		perSample(b, len(gz))
	})
	b.Run("encode-new", func(b *testing.B) {
		b.ReportAllocs()
		x, p, size := newPair(b), read(), 0
		for b.Loop() {
			x.e.Reset()
			body, err := x.e.Encode(p, id(1))
			if err != nil {
				b.Fatal(err)
			}
			size = len(body)
		}
		perSample(b, size)
	})
	b.Run("encode-known", func(b *testing.B) {
		b.ReportAllocs()
		x, p, size := newPair(b), read(), 0
		x.send(everything, 1)
		for b.Loop() {
			body, err := x.e.Encode(p, id(1))
			if err != nil {
				b.Fatal(err)
			}
			x.e.Commit()
			size = len(body)
		}
		perSample(b, size)
	})
	b.Run("decode-known", func(b *testing.B) {
		b.ReportAllocs()
		x, p := newPair(b), read()
		x.send(everything, 1)
		body, err := x.e.Encode(p, id(1))
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			push, err := x.u.Unpack(body)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := x.s.Decode(push); err != nil {
				b.Fatal(err)
			}
			x.s.Rollback()
		}
		b.ReportMetric(float64(x.s.Size())/1024, "session-kB")
	})
}
