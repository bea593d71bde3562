// SPDX-License-Identifier: Apache-2.0

package query

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
)

// BenchmarkMerge merges the windows of a busy host, from the files in the store
// to a gzip pprof, and the same with profile.Merge. It prints the ratio.
func BenchmarkMerge(b *testing.B) {
	const windows, samples = 20, 1000
	s, err := store.Open(b.TempDir(), store.Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	begin := time.Now().Add(-time.Hour)
	var files [][]byte
	for i := range windows {
		start := begin.Add(time.Duration(i) * profiletest.Duration)
		gz := profiletest.Gzip(b, profiletest.Random(uint64(i), "host", start, samples))
		p, err := columns.Read(gz)
		if err == nil {
			err = s.Append(b.Context(), p, store.IDOf(gz))
		}
		if err != nil {
			b.Fatal(err)
		}
		files = append(files, gz)
	}
	if err := s.Seal(b.Context()); err != nil {
		b.Fatal(err)
	}
	q := request{kind: defaultKind, span: Range{begin, time.Now()}}
	ours := func(cacheBytes int64) func() {
		api, err := New(Options{Store: s, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), CacheBytes: cacheBytes})
		if err != nil {
			b.Fatal(err)
		}
		return func() {
			m, err := api.merge(context.Background(), q)
			if err != nil || m.profiles != windows {
				b.Fatal(m.profiles, err)
			}
			if err := m.writePProf(context.Background(), io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	}
	theirs := func() {
		var all []*profile.Profile
		for _, gz := range files {
			p, err := profile.Parse(bytes.NewReader(gz))
			if err != nil {
				b.Fatal(err)
			}
			all = append(all, p)
		}
		p, err := profile.Merge(all)
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Write(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		referenceTime, referenceBytes := measure(theirs)
		coldTime, coldBytes := measure(ours(1))
		warm := ours(1 << 30)
		warm()
		warmTime, _ := measure(warm)
		b.ReportMetric(float64(referenceTime)/float64(coldTime), "ratio-time")
		b.ReportMetric(float64(referenceTime)/float64(warmTime), "ratio-time-cached")
		b.ReportMetric(float64(referenceBytes)/float64(coldBytes), "ratio-bytes")
		b.ReportMetric(float64(coldTime.Milliseconds()), "ms")
	}
}

// measure gives the time f takes and the bytes it allocates.
func measure(f func()) (time.Duration, uint64) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin := time.Now()
	f()
	took := time.Since(begin)
	runtime.ReadMemStats(&after)
	return took, after.TotalAlloc - before.TotalAlloc
}
