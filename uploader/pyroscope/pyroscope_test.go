// SPDX-License-Identifier: Apache-2.0

package pyroscope_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/reshape"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/uploader"
	"github.com/fleetprof/fleetprof/uploader/pyroscope"
	"github.com/fleetprof/fleetprof/uploader/storetest"
)

var start = time.Now().Add(-time.Minute)

func destination(t *testing.T, address string) *pyroscope.Destination {
	t.Helper()
	d, err := pyroscope.New(address)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// clock stands still but when it is set.
type clock struct{ now chan time.Time }

func newClock() clock {
	c := clock{make(chan time.Time, 1)}
	c.now <- start
	return c
}

func (c clock) Now() time.Time {
	now := <-c.now
	c.now <- now
	return now
}

func (c clock) pass(d time.Duration) { c.now <- (<-c.now).Add(d) }

func wantTotals(t *testing.T, s *storetest.Pyroscope, want storetest.Totals) {
	t.Helper()
	if got := s.Totals(); !maps.Equal(got, want) {
		t.Errorf("%d totals are not the %d sent", len(got), len(want))
	}
}

// The store's name tells tenants apart and keeps the rest to itself, which the requests carry.
func TestNameAndHeader(t *testing.T) {
	s := &storetest.Pyroscope{}
	address := strings.Replace(s.Serve(t), "://", "://user:secret@", 1) + "/prefix?tenant=shop&header.X-Key=key"
	d := destination(t, address)
	if name := d.String(); strings.Contains(name, "secret") || strings.Contains(name, "key") || !strings.HasSuffix(name, "/prefix?tenant=shop") {
		t.Errorf("the destination is called %s", name)
	}
	_ = d.Send(t.Context(), storetest.Window(t, profiletest.New(start, profiletest.Sample{Stack: "main", Count: 1})))
	r := s.Requests()[0]
	user, password, _ := r.BasicAuth()
	if r.URL.Path != "/prefix/push.v1.PusherService/Push" || user != "user" || password != "secret" || r.Header.Get("X-Scope-OrgID") != "shop" || r.Header.Get("X-Key") != "key" {
		t.Errorf("request to %s with %v", r.URL, r.Header)
	}
	if _, err := pyroscope.New("parca://host:7070"); err == nil {
		t.Error("an address of Parca is accepted")
	}
	if n := uploader.Concurrent(d).Concurrency(); n != 2 {
		t.Errorf("%d windows at a time", n)
	}
}

// What goes beyond the limits of Pyroscope arrives all the same, and what has to be left off of it
// is counted.
func TestLimits(t *testing.T) {
	labels := func(more map[string]string) map[string]string {
		all := map[string]string{"service_name": "shop", "host_name": "web-1"}
		maps.Copy(all, more)
		return all
	}
	many := map[string]string{}
	for i := range 40 {
		many[fmt.Sprintf("k8s_pod_label_%02d", i)] = "x"
	}
	pairs := make([]profiletest.Sample, 0, 130*130)
	for i := range 130 * 130 { // few bytes, and more than 16,000 samples
		pairs = append(pairs, profiletest.Sample{Stack: fmt.Sprintf("f%d;g%d", i/130, i%130), Labels: labels(nil), Count: 1})
	}
	pids := make([]profiletest.Sample, 0, 5500)
	for i := range 5500 { // more than 5,000 series, if they were some
		pids = append(pids, profiletest.Sample{Stack: "main", Count: 1, Labels: labels(map[string]string{
			"process_pid": fmt.Sprint(i), "thread_name": fmt.Sprint("worker-", i), "process_executable_name": "shop",
		})})
	}
	for _, c := range []struct {
		name    string
		samples []profiletest.Sample
		relabel func(map[string]string)
		cuts    reshape.Cuts
	}{
		{"samples", pairs, nil, reshape.Cuts{}},
		{"series", pids, nil, reshape.Cuts{}},
		{"names", []profiletest.Sample{{Stack: "main", Count: 3, Labels: labels(many)}}, func(labels map[string]string) {
			for i := 27; i < 40; i++ { // three have other names
				delete(labels, fmt.Sprintf("k8s_pod_label_%02d", i))
			}
		}, reshape.Cuts{Labels: 13}},
		{"name", []profiletest.Sample{{Stack: "main", Count: 3, Labels: labels(map[string]string{strings.Repeat("n", 1025): "x"})}},
			func(labels map[string]string) { delete(labels, strings.Repeat("n", 1025)) }, reshape.Cuts{Labels: 1}},
		{"value", []profiletest.Sample{{Stack: "main", Count: 3, Labels: labels(map[string]string{"a": strings.Repeat("x", 3000)})}},
			func(labels map[string]string) { labels["a"] = labels["a"][:2048] }, reshape.Cuts{Values: 1}},
		{"stack", []profiletest.Sample{{Stack: strings.Repeat("n", 1<<20), Count: 3, Labels: labels(nil)}}, nil, reshape.Cuts{Stacks: 1}},
	} {
		s := &storetest.Pyroscope{}
		d := destination(t, s.Serve(t))
		p := profiletest.New(start, c.samples...)
		if err := d.Send(t.Context(), storetest.Window(t, p)); err != nil {
			t.Errorf("%s: %.300v", c.name, err)
		}
		if c.name == "stack" {
			p.Sample[0].Location = nil
		}
		wantTotals(t, s, storetest.Expected(p, func(labels map[string]string) {
			storetest.Series(labels)
			if c.relabel != nil {
				c.relabel(labels)
			}
		}))
		if got := d.Cuts(); got != c.cuts {
			t.Errorf("%s: cuts are %+v", c.name, got)
		}
	}
}

// A window that is larger than what may come at once is sent in the time that the rate needs.
func TestRate(t *testing.T) {
	c := newClock()
	s := &storetest.Pyroscope{Now: c.Now}
	d := destination(t, s.Serve(t))
	var samples []profiletest.Sample
	for i := range 70 { // of 99 kB: a name comes as that of a symbol and of a file, too
		samples = append(samples, profiletest.Sample{
			Stack: strings.Repeat(fmt.Sprint(i%10), 33_000), Labels: map[string]string{"service_name": fmt.Sprint(i)}, Count: 1,
		})
	}
	p := profiletest.New(start, samples...)
	w := storetest.Window(t, p)
	var err error
	attempts := 1
	for ; attempts < 20; attempts++ {
		if err = d.Send(t.Context(), w); err == nil {
			break
		}
		if errors.As(err, new(uploader.Permanent)) || !strings.Contains(err.Error(), "rate limit") {
			t.Fatal(err)
		}
		c.pass(500 * time.Millisecond)
	}
	// 7 MB less the 2 MB at once, by 2 MB each time.
	if err != nil || attempts != 4 {
		t.Errorf("after %d attempts: %v", attempts, err)
	}
	wantTotals(t, s, storetest.Expected(p, storetest.Series))
}

// What Pyroscope has no name for gets another, and what it finds too old is refused for good.
func TestNamesAndAge(t *testing.T) {
	c := newClock()
	s := &storetest.Pyroscope{Now: c.Now}
	d := destination(t, s.Serve(t))
	p := profiletest.New(start, profiletest.Sample{Stack: "main", Count: 3})
	p.SampleType = []*profile.ValueType{{Type: "off-cpu", Unit: "count"}, {Type: "2nd", Unit: "nanoseconds"}}
	if err := d.Send(t.Context(), storetest.Window(t, p)); err != nil {
		t.Error(err)
	}
	want := storetest.Totals{
		`__name__="process_cpu" service_name="unknown_service" off_cpu/count main`:    3,
		`__name__="process_cpu" service_name="unknown_service" _2nd/nanoseconds main`: 3 * profiletest.Period,
	}
	if got := s.Totals(); !maps.Equal(got, want) {
		t.Errorf("totals are %v", got)
	}
	var samples []profiletest.Sample
	for i := range 50 {
		samples = append(samples, profiletest.Sample{Stack: "main", Count: 1, Labels: map[string]string{"service_name": fmt.Sprint("}shop{", i)}})
	}
	p = profiletest.New(start, samples...)
	s.Requests()
	c.pass(2 * time.Hour)
	var permanent uploader.Permanent
	if err := d.Send(t.Context(), storetest.Window(t, p)); !errors.As(err, &permanent) || permanent.Reason != "400" || errors.As(err, new(uploader.Partial)) {
		t.Errorf("what is too old: %v", err)
	}
	if n := len(s.Requests()); n != 1 { // and none to find out which
		t.Errorf("%d requests for what is too old", n)
	}
}

// Series of one request meet different ends: one is refused, one is beyond the rate, and the others
// are stored.
func TestMixedAnswer(t *testing.T) {
	c := newClock()
	s := &storetest.Pyroscope{Now: c.Now, Refuse: func(labels map[string]string) bool { return labels["service_name"] == "1" }}
	d := destination(t, s.Serve(t))
	fill := profiletest.New(start, profiletest.Sample{Stack: strings.Repeat("x", 330_000), Labels: map[string]string{"service_name": "fill"}, Count: 1})
	for range 2 { // all but 20 kB of what may come at once
		if err := d.Send(t.Context(), storetest.Window(t, fill)); err != nil {
			t.Fatal(err)
		}
	}
	want := storetest.Expected(fill, storetest.Series)
	for key, v := range want {
		want[key] = 2 * v
	}
	var samples []profiletest.Sample
	for i, size := range []int{1, 1, 100_000, 1} {
		samples = append(samples, profiletest.Sample{Stack: strings.Repeat("x", size), Labels: map[string]string{"service_name": fmt.Sprint(i)}, Count: int64(i + 1)})
	}
	p := profiletest.New(start, samples...)
	w := storetest.Window(t, p)
	if err := d.Send(t.Context(), w); err == nil || errors.As(err, new(uploader.Permanent)) {
		t.Errorf("one is beyond the rate: %.200v", err)
	}
	c.pass(time.Second)
	var partial uploader.Partial
	if err := d.Send(t.Context(), w); !errors.As(err, &partial) || partial.Samples != 2 {
		t.Errorf("%d samples are refused: %.200v", partial.Samples, err)
	}
	p.Sample = append(p.Sample[:1], p.Sample[2:]...)
	for key, v := range storetest.Expected(p, storetest.Series) {
		want[key] += v
	}
	wantTotals(t, s, want)
}
