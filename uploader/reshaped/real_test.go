// SPDX-License-Identifier: Apache-2.0

package reshaped_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/storeclient"
	"github.com/fleetprof/fleetprof/uploader"
	"github.com/fleetprof/fleetprof/uploader/parca"
	"github.com/fleetprof/fleetprof/uploader/pyroscope"
	"github.com/fleetprof/fleetprof/uploader/storetest"
)

// These are addresses of running servers, such as parca://127.0.0.1:7070 and
// pyroscope+http://127.0.0.1:4040.
const (
	realParca     = "FLEETPROF_TEST_PARCA"
	realPyroscope = "FLEETPROF_TEST_PYROSCOPE"
)

// TestRealStores sends to stores that are no fakes, and asks them for the sums by label.
func TestRealStores(t *testing.T) {
	for name, open := range map[string]func(address string) (uploader.Destination, error){
		realParca:     func(address string) (uploader.Destination, error) { return parca.New(address) },
		realPyroscope: func(address string) (uploader.Destination, error) { return pyroscope.New(address) },
	} {
		t.Run(name, func(t *testing.T) {
			address := os.Getenv(name)
			if address == "" {
				t.Skipf("%s is not set", name)
			}
			to, err := open(address)
			if err != nil {
				t.Fatal(err)
			}
			from, err := storeclient.New(address)
			if err != nil {
				t.Fatal(err)
			}
			checkReal(t, to, from)
		})
	}
}

func checkReal(t *testing.T, to uploader.Destination, from storeclient.Client) {
	service := fmt.Sprint("fleetprof-test-", time.Now().UnixNano())
	p := profiletest.Random(1, "web-1", time.Now().Add(-20*time.Second), 300)
	want := map[string]int64{}
	for i, s := range p.Sample {
		route := fmt.Sprint("/route/", i%15)
		s.Label["service_name"], s.Label["http_route"] = []string{service}, []string{route}
		want[route] += s.Value[1]
	}
	if err := to.Send(t.Context(), storetest.Window(t, p)); err != nil {
		t.Fatal(err)
	}
	q := storeclient.Query{Selector: fmt.Sprintf("{service_name=%q}", service), From: time.Now().Add(-5 * time.Minute), To: time.Now()}
	got := map[string]int64{}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		series, err := from.Series(t.Context(), storeclient.Align(q, time.Minute), []string{"http_route"}, time.Minute)
		if err != nil && !errors.Is(err, storeclient.ErrNoSamples) {
			t.Fatal(err)
		}
		clear(got)
		if err == nil {
			for _, g := range series.Groups {
				got[g.Values[0]] += g.Total()
			}
		}
		if maps.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) { // what is stored shows after a while
			t.Fatalf("sums are %v, want %v", got, want)
		}
	}
}
