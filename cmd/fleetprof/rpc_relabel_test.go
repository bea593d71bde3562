// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// What rules say of samples holds for requests: of a server that they drop neither metrics
// nor exemplars tell, and one that they rename has that name everywhere.
func TestRulesDecideWhatIsToldOfRequests(t *testing.T) {
	needRoot(t)
	built, dir := builtHandlers(t, buildGoHTTP).dir, t.TempDir()
	path := filepath.Join(dir, "fleetprof.yaml")
	replaceFile(t, path, relabelled("rpcdropped", "renamed"))
	w := newWatcher(t, "--trace-exemplars=5", "--config="+path)
	servers := handlerServers()
	goHTTP := &servers[slices.IndexFunc(servers, func(h handlerServer) bool { return h.name == "go-http" })]
	begin := w.nextWindow(t)
	asked := make(map[string]map[string]tracedRequest)
	for _, name := range []string{"rpcdropped", "burnkept"} {
		program := filepath.Join(dir, name)
		if err := os.Link(built+"/gohttp", program); err != nil {
			t.Fatal(err)
		}
		address := freeAddress(t)
		server := background(t, program, address)
		awaitAddress(t, address)
		asked[name] = askTraced(t, &handlerClient{address: address, server: goHTTP}, time.Now().Add(2*windowLength))
		defer server.end()
	}
	windows := w.windows(t, time.Now().Add(windowLength))

	of := make(map[string]float64) // requests by service
	for series, n := range metrics(t, w.address) {
		if !strings.HasPrefix(series, "fleetprof_rpc_") {
			continue
		}
		for _, service := range []string{"rpcdropped", "burnkept", "renamed"} {
			if strings.Contains(series, `service_name="`+service+`"`) && (service != "renamed" || strings.HasPrefix(series, "fleetprof_rpc_requests_total")) {
				of[service] += n
			}
		}
		if series == "fleetprof_rpc_withheld_requests_total" && n < float64(len(asked["rpcdropped"]))/2 {
			t.Errorf("%v requests are withheld of %d", n, len(asked["rpcdropped"]))
		}
	}
	if _, told := of["rpcdropped"]; told || of["burnkept"] != 0 || of["renamed"] < float64(len(asked["burnkept"]))/2 {
		t.Errorf("requests by service: %v; asked %d", of, len(asked["burnkept"]))
	}
	exemplars := 0
	for _, document := range w.exemplars(t, begin) {
		for _, e := range document.Exemplars {
			if _, dropped := asked["rpcdropped"][e.TraceID.String()]; dropped {
				t.Errorf("an exemplar of the server that is dropped: %v", e.Labels)
			}
			if _, kept := asked["burnkept"][e.TraceID.String()]; kept {
				exemplars++
				if e.Labels["service_name"] != "renamed" {
					t.Errorf("an exemplar has the labels %v", e.Labels)
				}
			}
		}
	}
	samples := 0
	within(windows, handlerTrial{begin: begin, end: time.Now()}, func(s *profile.Sample) {
		if slices.Equal(s.Label["process_executable_name"], []string{"burnkept"}) {
			samples++
			if !slices.Equal(s.Label["service_name"], []string{"renamed"}) {
				t.Errorf("a sample has the labels %v", s.Label)
			}
		}
	})
	if exemplars == 0 || samples == 0 {
		t.Errorf("%d exemplars and %d samples", exemplars, samples)
	}
}
