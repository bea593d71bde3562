// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server/query"
	"github.com/fleetprof/fleetprof/server/store"
)

// BenchmarkFleetWire prints what a line costs on the wire, in windows 2 to 31 of five hosts.
func BenchmarkFleetWire(b *testing.B) {
	for b.Loop() {
		f, err := newFleet(watchedAgents, true, 1)
		if err != nil {
			b.Fatal(err)
		}
		c := wireCosts(b)
		for range 31 {
			for _, h := range f.hosts {
				if err := c.add(f, f.draw(h, 2000)); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(c.bytes)/float64(c.lines), "B/line")
		b.ReportMetric(float64(c.knownBytes)/float64(c.known), "B/line-known")
		b.ReportMetric(float64(c.bytes-c.knownBytes)/float64(c.lines-c.known), "B/line-new")
		b.ReportMetric(float64(c.gzip)/float64(c.lines), "B/line-pprof")
	}
}

// BenchmarkFleetMerge merges what a selector takes of a minute of thirty hosts, through
// the server's code from disk, and through profile.Merge from pprof files: of the service
// that most hosts run, by which lines are looked for in both.
func BenchmarkFleetMerge(b *testing.B) {
	const hosts, windows, chunk = 30, 6, 50
	f, err := newFleet(hosts, true, 1)
	if err != nil {
		b.Fatal(err)
	}
	s, err := store.Open(b.TempDir(), store.Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	begin := time.Now().Add(-time.Hour)
	var files [][]byte
	for n := range windows {
		for _, h := range f.hosts {
			w := f.draw(h, 2000)
			start := begin.Add(time.Duration(n) * windowLength)
			p, err := f.profile(w, w.lines, start)
			if err != nil {
				b.Fatal(err)
			}
			gz, err := encodePProf(p)
			if err == nil {
				err = s.Append(b.Context(), p, store.IDOf(gz))
			}
			if err != nil {
				b.Fatal(err)
			}
			files = append(files, gz)
		}
	}
	if err := s.Seal(b.Context()); err != nil {
		b.Fatal(err)
	}
	service := f.services[0].label
	selector := `{service_name="` + service + `"}`
	ours := func(selector string) (took time.Duration, samples int64) {
		api, err := query.New(query.Options{Store: s, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		out := mergedBy(b, api, selector, begin, start)
		return time.Since(start), sum(b, out)
	}
	theirs := func(keep func(*profile.Sample) bool) (took time.Duration, samples int64) {
		start := time.Now()
		var merged *profile.Profile
		for at := 0; at < len(files); at += chunk {
			all := []*profile.Profile{}
			if merged != nil {
				all = append(all, merged)
			}
			for _, gz := range files[at:min(at+chunk, len(files))] {
				p, err := profile.ParseData(gz)
				if err != nil {
					b.Fatal(err)
				}
				kept := p.Sample[:0]
				for _, s := range p.Sample {
					if keep(s) {
						kept = append(kept, s)
					}
				}
				p.Sample = kept
				all = append(all, p)
			}
			if merged, err = profile.Merge(all); err != nil {
				b.Fatal(err)
			}
		}
		var out bytes.Buffer
		if err := merged.Write(&out); err != nil {
			b.Fatal(err)
		}
		return time.Since(start), sum(b, &out)
	}
	for _, c := range []struct {
		name     string
		selector string
		keep     func(*profile.Sample) bool
	}{
		{"one-service", selector, func(s *profile.Sample) bool { return label(s, "service_name") == service }},
		{"all", "{}", func(*profile.Sample) bool { return true }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				reference, want := theirs(c.keep)
				took, got := ours(c.selector)
				if got != want || got == 0 {
					b.Fatalf("%d samples merged, %d by profile.Merge", got, want)
				}
				b.ReportMetric(float64(reference)/float64(took), "ratio-time")
				b.ReportMetric(float64(took.Milliseconds()), "ms")
				b.ReportMetric(float64(reference.Milliseconds()), "ms-profile.Merge")
			}
		})
	}
}

// sum adds up the samples of a profile.
func sum(b *testing.B, out *bytes.Buffer) (n int64) {
	b.Helper()
	p, err := profile.Parse(out)
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range p.Sample {
		n += s.Value[0]
	}
	return n
}
