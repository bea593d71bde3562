// SPDX-License-Identifier: Apache-2.0

package query

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
)

// everything knows every build ID, and names nothing.
type everything struct{}

func (everything) Known(string) bool { return true }

func (everything) Name(string, string, uint64, uint64) ([]sample.Frame, bool) { return nil, false }

// BenchmarkNothingToName says what it costs that something could lack a name: the part of the time of a
// query, in percent, for profiles that have all names, of files of which the server has debug information.
func BenchmarkNothingToName(b *testing.B) {
	s, err := store.Open(b.TempDir(), store.Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	begin := time.Now().Add(-time.Hour)
	for i := range 20 {
		gz := profiletest.Gzip(b, profiletest.Random(uint64(i), "host", begin.Add(time.Duration(i)*profiletest.Duration), 1000))
		p, err := columns.Read(gz)
		if err == nil {
			err = s.Append(b.Context(), p, store.IDOf(gz))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Seal(b.Context()); err != nil {
		b.Fatal(err)
	}
	q := request{kind: defaultKind, span: Range{begin, time.Now()}}
	api, err := New(Options{Store: s, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), CacheBytes: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	query, naming := time.Hour, time.Hour // the shortest: others use the machine, too
	for b.Loop() {
		begin := time.Now()
		m, err := api.merge(b.Context(), q)
		if err != nil {
			b.Fatal(err)
		}
		if err := m.writePProf(b.Context(), io.Discard); err != nil {
			b.Fatal(err)
		}
		query = min(query, time.Since(begin))
		begin = time.Now()
		if err := m.name(b.Context(), everything{}); err != nil {
			b.Fatal(err)
		}
		m.nameByPlace()
		naming = min(naming, time.Since(begin))
		b.ReportMetric(float64(len(m.dict.Locations)), "locations")
	}
	b.ReportMetric(100*float64(naming)/float64(query), "percent")
}
