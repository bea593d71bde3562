// SPDX-License-Identifier: Apache-2.0

package reshaped_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/uploader"
	"github.com/fleetprof/fleetprof/uploader/storetest"
)

// logs are written by several goroutines.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// sums adds up metrics of the uploader by name and reason.
func sums(t *testing.T, r *prometheus.Registry) map[string]int64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := strings.TrimPrefix(f.GetName(), "fleetprof_uploader_")
			for _, l := range m.Label {
				if l.GetName() == "reason" {
					name += " " + l.GetValue()
				}
			}
			all[name] += int64(m.GetCounter().GetValue() + m.GetGauge().GetValue())
		}
	}
	return all
}

// TestThroughUploader has a store in trouble, of which one service is never welcome: all samples that
// go in come out, are refused and counted, or wait, and none is stored twice.
func TestThroughUploader(t *testing.T) {
	for name, s := range stores(t) {
		faults := []storetest.Fault{storetest.Plain(500, ""), storetest.Cut, storetest.Plain(429, "0")}
		turn := make(chan int, 1)
		turn <- 0
		s.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
			n := <-turn
			turn <- n + 1
			return n < 9 && n%3 == 1 && faults[n/3](w, r)
		})
		s.refuse(func(labels map[string]string) bool { return service(labels) == "service-1" })
		registry, log := prometheus.NewRegistry(), new(logs)
		up, err := uploader.New(uploader.Options{
			Destinations: []uploader.Destination{s.to}, SpoolDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(log, nil)), Registerer: registry,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- up.Run(ctx) }()
		want, in, refused := storetest.Totals{}, int64(0), int64(0)
		for n := range 5 {
			p := window(uint64(10+n), 30)
			p.TimeNanos += int64(n) * int64(10*time.Second)
			w := storetest.Window(t, p)
			up.Enqueue(w)
			in += w.Samples
			var rest []*profile.Sample
			for _, sample := range p.Sample {
				if sample.Label["service_name"][0] == "service-1" {
					refused += sample.Value[0]
				} else {
					rest = append(rest, sample)
				}
			}
			p.Sample = rest
			for key, v := range s.want(p) {
				want[key] += v
			}
		}
		for deadline := time.Now().Add(time.Minute); sums(t, registry)["waiting_profiles"] > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not all is sent: %v", name, sums(t, registry))
			}
		}
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		wantTotals(t, s, want)
		got := sums(t, registry)
		reason := "samples_dropped_total rejected_" + map[string]string{"parca": "invalid_argument", "pyroscope": "400", "otlp": "partial_success"}[name]
		if got["samples_in_total"] != in || got["samples_sent_total"]+got[reason] != in || got["profiles_sent_total"] != 5 || got["retries_total"] == 0 {
			t.Errorf("%s: of %d samples became %v", name, in, got)
		}
		// Of OpenTelemetry's it is not said which are refused.
		if n := got[reason]; n < refused || name != "otlp" && n > refused {
			t.Errorf("%s: %d samples are refused, and %d counted", name, refused, n)
		}
		if text := log.b.String(); strings.Count(text, "level=ERROR") != 1 || strings.Count(text, "refuses a part") != 1 {
			t.Errorf("%s: the log is\n%s", name, text)
		}
	}
}
