// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/profiletest"
)

// What `query --exemplars` prints.
func TestPrintExemplars(t *testing.T) {
	start := time.Date(2026, 11, 22, 13, 0, 0, 5e6, time.UTC)
	call := profiletest.Exemplar(1, start, map[string]string{"service_name": "inventory", "rpc_method": "acme.Shop/GetItem", "rpc_system_name": "grpc"})
	call.CPU, call.Duration = nil, 2*time.Second
	long := profiletest.Exemplar(2, start, map[string]string{"service_name": "shop", "http_request_method": "GET", "http_route": "/cart/{id}"})
	*long.CPU, long.StatusClass = 1234567*time.Microsecond, "5xx"
	odd := profiletest.Exemplar(3, start, map[string]string{"service_name": "a\x1b[31m", "http_request_method": "GET", "url_template": "/"})
	*odd.CPU, odd.StatusClass = 0, ""
	body, err := json.Marshal(map[string]any{"data": []sample.Exemplar{odd, call, long}})
	if err != nil {
		t.Fatal(err)
	}
	for lines, want := range map[int]string{
		3: `
time                       duration        cpu status  trace id                          handler
2026-11-22T13:00:00.005Z     30.0ms   1234.6ms    5xx  00000000000000000000000000000002  shop GET /cart/{id}
2026-11-22T13:00:00.005Z   2000.0ms          -    2xx  00000000000000000000000000000001  inventory acme.Shop/GetItem
2026-11-22T13:00:00.005Z     30.0ms      0.0ms      -  00000000000000000000000000000003  a�[31m GET /
`,
		1: `
time                       duration        cpu status  trace id                          handler
2026-11-22T13:00:00.005Z     30.0ms   1234.6ms    5xx  00000000000000000000000000000002  shop GET /cart/{id}
(there are more)
`,
	} {
		var out bytes.Buffer
		if err := printExemplars(&out, body, lines); err != nil {
			t.Fatal(err)
		}
		if got := "\n" + out.String(); got != want {
			t.Errorf("printed is%swant%s", got, want)
		}
	}
	if err := printExemplars(new(bytes.Buffer), []byte("<html>"), 1); err == nil {
		t.Error("an answer that is none is printed")
	}
}
