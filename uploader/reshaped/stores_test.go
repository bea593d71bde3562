// SPDX-License-Identifier: Apache-2.0

package reshaped_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/uploader"
	"github.com/fleetprof/fleetprof/uploader/otlp"
	"github.com/fleetprof/fleetprof/uploader/parca"
	"github.com/fleetprof/fleetprof/uploader/pyroscope"
	"github.com/fleetprof/fleetprof/uploader/storetest"
)

// store is one of those that all tests here send to.
type store struct {
	*storetest.Server
	to     uploader.Destination
	refuse func(func(labels map[string]string) bool)
	want   func(*profile.Profile) storetest.Totals
}

// stores are started for each test.
func stores(t *testing.T) map[string]store {
	p, y, o := &storetest.Parca{}, &storetest.Pyroscope{Now: fast()}, &storetest.OTLP{}
	toParca, err := parca.New(p.Serve(t))
	if err != nil {
		t.Fatal(err)
	}
	toPyroscope, err := pyroscope.New(y.Serve(t))
	if err != nil {
		t.Fatal(err)
	}
	toOTLP, err := otlp.New(o.Serve(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Dead(); err != nil {
			t.Error("Parca has ended:", err)
		}
	})
	series := func(p *profile.Profile) storetest.Totals { return storetest.Expected(p, storetest.Series) }
	return map[string]store{
		"parca":     {&p.Server, toParca, func(f func(map[string]string) bool) { p.Refuse = f }, series},
		"pyroscope": {&y.Server, toPyroscope, func(f func(map[string]string) bool) { y.Refuse = f }, series},
		"otlp":      {&o.Server, toOTLP, func(f func(map[string]string) bool) { o.Refuse = f }, attributes},
	}
}

// fast is a clock on which time goes by with each look, so that no rate is exceeded. It begins with the windows.
func fast() func() time.Time {
	looks := make(chan int, 1)
	looks <- 0
	return func() time.Time {
		n := <-looks
		looks <- n + 1
		return start.Add(time.Duration(n) * 100 * time.Millisecond)
	}
}

var start = time.Now().Add(-time.Minute)

// attributes is what a server of OpenTelemetry should have of a profile: its CPU time, with
// attributes for labels.
func attributes(p *profile.Profile) storetest.Totals {
	return storetest.Expected(p, func(labels map[string]string) {
		for name, value := range maps.Clone(labels) {
			delete(labels, name)
			labels[strings.ReplaceAll(name, "_", ".")] = value
		}
	}, "cpu/nanoseconds")
}

// window has some services with a few label sets each.
func window(seed uint64, samples int) *profile.Profile {
	p := profiletest.Random(seed, "web-1", start, samples)
	for i, s := range p.Sample {
		s.Label["service_name"] = []string{fmt.Sprint("service-", i%5)}
		s.Label["http_route"] = []string{fmt.Sprint("/route/", i%15)}
		s.Label["container_id"] = []string{fmt.Sprint("c", i%5)}
	}
	return p
}

// wantTotals compares what a store has.
func wantTotals(t *testing.T, s store, want storetest.Totals) {
	t.Helper()
	got := s.Totals()
	if maps.Equal(got, want) {
		return
	}
	for key, v := range want {
		if got[key] != v {
			t.Errorf("%d totals are not the %d sent: %s is %d, want %d", len(got), len(want), key, got[key], v)
			return
		}
	}
	t.Errorf("%d totals are more than the %d sent", len(got), len(want))
}

// All stores get all samples with their labels.
func TestRoundTrip(t *testing.T) {
	for name, s := range stores(t) {
		p := window(1, 100)
		if err := s.to.Send(t.Context(), storetest.Window(t, p)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		wantTotals(t, s, s.want(p))
	}
}

// What a store has no say in is sent again, and what it refuses is not.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name      string
		fault     storetest.Fault
		permanent bool
		retry     time.Duration
	}{
		{"429 with Retry-After", storetest.Plain(429, "7"), false, 7 * time.Second},
		{"429", storetest.Plain(429, ""), false, 0},
		{"500", storetest.Plain(500, ""), false, 0},
		{"502", storetest.Plain(502, ""), false, 0},
		{"503 with Retry-After", storetest.Plain(503, "1"), false, time.Second},
		{"401", storetest.Plain(401, ""), false, 0},
		{"404", storetest.Plain(404, ""), false, 0},
		{"cut", storetest.Cut, false, 0},
		{"400", storetest.Plain(400, ""), true, 0},
		{"413", storetest.Plain(413, ""), true, 0},
		{"422", storetest.Plain(422, ""), true, 0},
	} {
		for name, s := range stores(t) {
			s.SetFault(c.fault)
			p := window(2, 20)
			err := s.to.Send(t.Context(), storetest.Window(t, p))
			var retry uploader.Retry
			if err == nil || errors.As(err, new(uploader.Permanent)) != c.permanent || errors.As(err, &retry) != (c.retry > 0) || retry.After != c.retry {
				t.Errorf("%s: %s: error is %#v", name, c.name, err)
			}
			if c.name != "cut" && !strings.Contains(fmt.Sprint(err), "the reason") {
				t.Errorf("%s: %s: error is %v", name, c.name, err)
			}
			if errors.As(err, new(uploader.Partial)) {
				t.Errorf("%s: %s: it is said to be delivered in part: %v", name, c.name, err)
			}
		}
	}
}

// A store that does not answer is left when the context ends.
func TestHang(t *testing.T) {
	for name, s := range stores(t) {
		s.SetFault(storetest.Hang)
		ctx, cancel := context.WithCancel(t.Context())
		sent := make(chan error, 1)
		go func() { sent <- s.to.Send(ctx, storetest.Window(t, window(3, 20))) }()
		for len(s.Requests()) == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
		if err := <-sent; err == nil || errors.As(err, new(uploader.Permanent)) {
			t.Errorf("%s: error is %#v", name, err)
		}
	}
}

// large is a window of 4 MB, most of it the names of functions, each of which is that of a symbol and of a file, too.
func large() *profile.Profile {
	var samples []profiletest.Sample
	for i := range 40 {
		samples = append(samples, profiletest.Sample{
			Stack:  fmt.Sprint("main;", strings.Repeat(string(rune('A'+i)), 35_000)),
			Labels: map[string]string{"service_name": fmt.Sprint(i % 20), "host_name": "web-1", "zone": fmt.Sprint(i)}, Count: int64(i + 1),
		})
	}
	return profiletest.New(start, samples...)
}

// A window of which a part was taken is gone on with there.
func TestGoesOn(t *testing.T) {
	for name, s := range stores(t) {
		p := large()
		if err := s.to.Send(t.Context(), storetest.Window(t, p)); err != nil {
			t.Fatal(err)
		}
		wantTotals(t, s, s.want(p))
		requests := len(s.Requests())
		p.TimeNanos += int64(time.Minute)
		w := storetest.Window(t, p)
		s.SetFault(storetest.After(1, storetest.Plain(503, "")))
		if err := s.to.Send(t.Context(), w); (err == nil) != (requests == 1) {
			t.Errorf("%s: after the first of %d requests the error is %v", name, requests, err)
		}
		s.SetFault(nil)
		s.Requests()
		if requests > 1 {
			if err := s.to.Send(t.Context(), w); err != nil {
				t.Error(err)
			}
		}
		if n := len(s.Requests()); n != requests-1 || requests == 1 && name != "parca" { // which takes it in one
			t.Errorf("%s: %d requests follow the first of %d", name, n, requests)
		}
		want := s.want(p)
		for key, v := range want {
			want[key] = 2 * v
		}
		wantTotals(t, s, want)
	}
}

// service is that of a sample, whatever the store calls it.
func service(labels map[string]string) string { return labels["service_name"] + labels["service.name"] }

// What a store refuses of a window is counted to the sample, and keeps nothing else from being
// stored.
func TestRefusedInPart(t *testing.T) {
	for name, s := range stores(t) {
		s.refuse(func(labels map[string]string) bool { return service(labels) == "service-3" })
		p := window(5, 60)
		w := storetest.Window(t, p)
		w.Exemplars = []byte("exemplars")
		err := s.to.Send(t.Context(), w)
		rest, refused := p.Copy(), int64(0)
		rest.Sample = nil
		for _, sample := range p.Sample {
			if sample.Label["service_name"][0] == "service-3" {
				refused += sample.Value[0]
			} else {
				rest.Sample = append(rest.Sample, sample)
			}
		}
		var partial uploader.Partial
		// Each of OpenTelemetry's resources here has as many samples as others, about: it is not said
		// which one is refused.
		if !errors.As(err, &partial) || name != "otlp" && partial.Samples != refused || partial.Samples < refused || partial.Samples > refused*3/2 {
			t.Errorf("%s: %d samples are refused, want %d: %v", name, partial.Samples, refused, err)
		}
		var permanent uploader.Permanent
		if !errors.As(err, &permanent) || permanent.Reason == "" || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: the reason is %q: %v", name, permanent.Reason, err)
		}
		if !errors.As(err, new(uploader.Incomplete)) {
			t.Errorf("%s: nothing is said of exemplars: %v", name, err)
		}
		wantTotals(t, s, s.want(rest))

		s.refuse(func(map[string]string) bool { return true })
		p.TimeNanos += int64(time.Second)
		err = s.to.Send(t.Context(), storetest.Window(t, p))
		if !errors.As(err, new(uploader.Permanent)) || errors.As(err, new(uploader.Partial)) {
			t.Errorf("%s: all is refused: %v", name, err)
		}
		wantTotals(t, s, s.want(rest))
	}
}

// What the disk has damaged is dropped, and a window without samples is sent.
func TestUnreadable(t *testing.T) {
	for name, s := range stores(t) {
		if err := s.to.Send(t.Context(), sample.Profile{PProf: []byte("no gzip")}); !errors.As(err, new(uploader.Permanent)) {
			t.Errorf("%s: error is %v", name, err)
		}
		if err := s.to.Send(t.Context(), storetest.Window(t, profiletest.New(start))); err != nil {
			t.Errorf("%s: error is %v", name, err)
		}
		if n := len(s.Requests()); n != 0 {
			t.Errorf("%s: %d requests for nothing", name, n)
		}
	}
}
