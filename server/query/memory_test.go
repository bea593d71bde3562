// SPDX-License-Identifier: Apache-2.0

package query

import (
	"bytes"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
)

// heap is the memory in use once garbage is gone.
func heap() int64 {
	runtime.GC()
	runtime.GC() // the first may have to end one that was under way
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemoryIsCounted compares what the bounds on memory go by with the heap:
// what is counted must be at least half of what is used, and at most twice.
func TestMemoryIsCounted(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	start := time.Now().Add(-time.Hour)
	for n := range uint64(4) {
		var b bytes.Buffer
		err := profiletest.Random(n, "host", start.Add(time.Duration(n)*profiletest.Duration), 150).WriteUncompressed(&b)
		if err != nil {
			t.Fatal(err)
		}
		p, err := columns.Decode(b.Bytes())
		if err == nil {
			err = s.Append(t.Context(), p, store.IDOf(b.Bytes()))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	api, err := New(Options{Store: s, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	q := request{kind: defaultKind, span: Range{start, time.Now()}}
	before := heap()
	m, err := api.merge(t.Context(), q)
	if err != nil || m.profiles != 4 {
		t.Fatal(m.profiles, err)
	}
	within(t, "a merged profile and the cache", m.held()+api.cache.held(), heap()-before)
	runtime.KeepAlive(m)
	runtime.KeepAlive(api)
}

func within(t *testing.T, what string, counted, used int64) {
	t.Helper()
	t.Logf("%s: %d bytes counted, %d used", what, counted, used)
	if counted < used/2 || counted > 2*used {
		t.Errorf("%s: %d bytes counted, %d used", what, counted, used)
	}
}
