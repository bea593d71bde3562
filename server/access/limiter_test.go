// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/server/access"
)

// limited is a limiter before a handler that reads the body.
type limited struct {
	http.Handler
	registry *prometheus.Registry
}

func limit(t *testing.T, l access.Limits) limited {
	t.Helper()
	registry := prometheus.NewRegistry()
	limiter, err := access.NewLimiter(l, registry)
	if err != nil {
		t.Fatal(err)
	}
	return limited{limiter.Limit(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	})), registry}
}

// send gives 0 if the body was taken, else the seconds to wait.
func (l limited) send(t *testing.T, address string, size int) int {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", io.NopCloser(strings.NewReader(strings.Repeat("x", size)))) // of no known length
	r.RemoteAddr = address + ":1"
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r)
	if w.Code == http.StatusOK {
		return 0
	}
	wait, err := strconv.Atoi(w.Header().Get("Retry-After"))
	if w.Code != http.StatusTooManyRequests || err != nil || wait < 1 {
		t.Fatalf("%d, Retry-After: %d, %v", w.Code, wait, err)
	}
	return wait
}

// Two clients send as much as they can and heed Retry-After: each gets its own rate
// and the burst, and who is quiet saves up no more than that.
func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limits access.Limits
		size   int
		taken  int // requests of each in 100 s
	}{
		{"requests", access.Limits{RequestsPerSecond: 5}, 10, 50 + 500},
		{"bytes", access.Limits{BytesPerSecond: 1000}, 100, 100 + 1000},
		{"bytes in pieces larger than the burst", access.Limits{BytesPerSecond: 10}, 1000, 2},
		{"none", access.Limits{}, 1 << 10, 5000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := limit(t, tt.limits)
				l.send(t, "10.0.0.1", 1)
				time.Sleep(time.Hour)
				for _, client := range []string{"10.0.0.1", "10.0.0.2"} {
					taken := 0
					for begin := time.Now(); time.Since(begin) < 100*time.Second && taken < 5000; {
						wait := l.send(t, client, tt.size)
						if wait == 0 {
							taken++
						}
						time.Sleep(time.Duration(wait) * time.Second)
					}
					if low, high := tt.taken*97/100, tt.taken*102/100+1; taken < low || taken > high {
						t.Errorf("%d requests of %s, want %d", taken, client, tt.taken)
					}
				}
			})
		})
	}
}

// More clients than are remembered cost no more memory, and are all served.
func TestManyClients(t *testing.T) {
	l := limit(t, access.Limits{RequestsPerSecond: 1})
	for i := range 10_000 {
		if l.send(t, "2001:db8:"+strconv.FormatInt(int64(i), 16), 0) != 0 {
			t.Fatal("a first request was refused")
		}
	}
	want := `# HELP fleetprof_ingest_identities Identities whose rates are known.
# TYPE fleetprof_ingest_identities gauge
fleetprof_ingest_identities 8192
# HELP fleetprof_ingest_identities_forgotten_total Identities whose rates were forgotten because there were too many.
# TYPE fleetprof_ingest_identities_forgotten_total counter
fleetprof_ingest_identities_forgotten_total 1808
`
	if err := testutil.GatherAndCompare(l.registry, strings.NewReader(want), "fleetprof_ingest_identities", "fleetprof_ingest_identities_forgotten_total"); err != nil {
		t.Error(err)
	}
}

func TestLimitedIsCounted(t *testing.T) {
	l := limit(t, access.Limits{RequestsPerSecond: 1, BytesPerSecond: 1})
	l.send(t, "10.0.0.1", 100)
	l.send(t, "10.0.0.1", 1)
	for range 12 {
		l.send(t, "10.0.0.2", 0)
	}
	want := `# HELP fleetprof_ingest_limited_total Requests that were answered with 429, by the limit that their identity was beyond.
# TYPE fleetprof_ingest_limited_total counter
fleetprof_ingest_limited_total{limit="bytes"} 1
fleetprof_ingest_limited_total{limit="requests"} 2
`
	if err := testutil.GatherAndCompare(l.registry, strings.NewReader(want), "fleetprof_ingest_limited_total"); err != nil {
		t.Error(err)
	}
}
