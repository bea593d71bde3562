// SPDX-License-Identifier: Apache-2.0

package storeclient

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server/grafana"
	"github.com/fleetprof/fleetprof/server/ingest"
	"github.com/fleetprof/fleetprof/server/query"
	"github.com/fleetprof/fleetprof/server/store"
)

// TestOursAsPyroscope: a fleetprof server takes what is pushed to Pyroscope, and answers as
// Pyroscope does.
func TestOursAsPyroscope(t *testing.T) {
	log, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	s, err := store.Open(t.TempDir(), store.Options{Logger: log, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	in, err := ingest.New(s, log, registry)
	if err != nil {
		t.Fatal(err)
	}
	api, err := query.New(query.Options{Store: s, Logger: log, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	in.Register(mux)
	grafana.New(api).Register(mux)
	h := httptest.NewServer(mux)
	t.Cleanup(func() {
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	address := "pyroscope+" + h.URL
	checkStore(t, address, writePyroscope)
	c, err := New(address)
	if err != nil {
		t.Fatal(err)
	}
	checkNoSamples(t, c, "process_cpu:cpu:nanoseconds:cpu:nanoseconds, process_cpu:samples:count:cpu:nanoseconds (--type)")
}
