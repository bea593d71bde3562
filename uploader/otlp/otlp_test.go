// SPDX-License-Identifier: Apache-2.0

package otlp_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/reshape"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/uploader"
	"github.com/fleetprof/fleetprof/uploader/otlp"
	"github.com/fleetprof/fleetprof/uploader/storetest"
)

var start = time.Now().Add(-time.Minute)

func destination(t *testing.T, address string) *otlp.Destination {
	t.Helper()
	d, err := otlp.New(address)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var window = profiletest.Sample{Stack: "main;work", Count: 3, Labels: map[string]string{"service_name": "shop", "thread_name": "io", "process_pid": "42"}}

// Labels keep their OpenTelemetry names, those of threads too, and messages are compressed.
func TestSend(t *testing.T) {
	s := &storetest.OTLP{}
	d := destination(t, s.Serve(t)+"?header.X-Key=secret")
	if strings.Contains(d.String(), "secret") {
		t.Errorf("the destination is called %s", d)
	}
	if err := d.Send(t.Context(), storetest.Window(t, profiletest.New(start, window))); err != nil {
		t.Fatal(err)
	}
	if got, want := s.Totals(), (storetest.Totals{`process.pid="42" service.name="shop" thread.name="io" cpu/nanoseconds work;main`: 3 * profiletest.Period}); !maps.Equal(got, want) {
		t.Errorf("totals are %v", got)
	}
	if r := s.Requests()[0]; r.Header.Get("Grpc-Encoding") != "gzip" || r.Header.Get("X-Key") != "secret" {
		t.Errorf("header is %v", r.Header)
	}
	if _, err := otlp.New("parca://host:7070"); err == nil {
		t.Error("an address of Parca is accepted")
	}
}

// The codes of the protocol, but that wrong credentials and addresses are waited for:
// https://opentelemetry.io/docs/specs/otlp/#failures
func TestCodes(t *testing.T) {
	for _, c := range []struct {
		code      int
		retry     time.Duration // of a RetryInfo; negative is none
		permanent bool
	}{
		{code: 1, retry: -1}, {code: 4, retry: -1}, {code: 10, retry: -1}, {code: 11, retry: -1}, {code: 14, retry: -1}, {code: 15, retry: -1},
		{code: 5, retry: -1}, {code: 7, retry: -1}, {code: 12, retry: -1}, {code: 16, retry: -1},
		{code: 2, retry: -1, permanent: true}, {code: 3, retry: -1, permanent: true}, {code: 6, retry: -1, permanent: true},
		{code: 9, retry: -1, permanent: true}, {code: 13, retry: -1, permanent: true},
		{code: 8, retry: -1, permanent: true},
		{code: 8, retry: 0}, {code: 8, retry: 1500 * time.Millisecond}, {code: 14, retry: 7 * time.Second},
	} {
		s := &storetest.OTLP{}
		d := destination(t, s.Serve(t))
		s.SetFault(storetest.GRPC(c.code, c.retry))
		err := d.Send(t.Context(), storetest.Window(t, profiletest.New(start, window)))
		var permanent uploader.Permanent
		var retry uploader.Retry
		if errors.As(err, &permanent) != c.permanent || errors.As(err, &retry) != (c.retry >= 0) || retry.After != max(0, c.retry) {
			t.Errorf("code %d, %v: error is %#v", c.code, c.retry, err)
		}
		if c.permanent && permanent.Reason == "" || !strings.Contains(fmt.Sprint(err), "the reason") {
			t.Errorf("code %d: the reason is %q: %v", c.code, permanent.Reason, err)
		}
	}
}

// What a part is refused of is counted by the profiles with the most samples: it is not said which they
// are. A message without any is a warning.
func TestPartialSuccess(t *testing.T) {
	for _, c := range []struct {
		refused   string
		samples   int64
		permanent bool
	}{{"", 0, false}, {"a", 30, false}, {"c", 30, false}, {"ab", 50, false}, {"abc", 60, true}} {
		s := &storetest.OTLP{Refuse: func(labels map[string]string) bool { return strings.Contains(c.refused, labels["service.name"]) }}
		d := destination(t, s.Serve(t))
		var samples []profiletest.Sample
		for i, name := range []string{"a", "b", "c"} {
			samples = append(samples, profiletest.Sample{Stack: "main", Count: int64(10 * (i + 1)), Labels: map[string]string{"service_name": name}})
		}
		err := d.Send(t.Context(), storetest.Window(t, profiletest.New(start, samples...)))
		var partial uploader.Partial
		errors.As(err, &partial)
		if (err == nil) != (c.refused == "") || !c.permanent && partial.Samples != c.samples {
			t.Errorf("%q refused: %d samples, %v", c.refused, partial.Samples, err)
		}
		if c.permanent && (partial.Samples != 0 || !errors.As(err, new(uploader.Permanent))) {
			t.Errorf("all refused: %v", err)
		}
	}
}

// A stack that no message has room for gives way.
func TestStackTooLarge(t *testing.T) {
	s := &storetest.OTLP{}
	d := destination(t, s.Serve(t))
	huge := profiletest.Sample{Stack: strings.Repeat("n", 2<<20), Count: 2, Labels: map[string]string{"service_name": "shop"}}
	if err := d.Send(t.Context(), storetest.Window(t, profiletest.New(start, huge, window))); err != nil {
		t.Fatal(err)
	}
	if got := s.Totals()[`service.name="shop" cpu/nanoseconds `]; got != 2*profiletest.Period || len(s.Totals()) != 2 {
		t.Errorf("totals are %.300v", s.Totals())
	}
	if got := d.Cuts(); got != (reshape.Cuts{Stacks: 1}) {
		t.Errorf("cuts are %+v", got)
	}
}
