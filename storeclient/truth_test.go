// SPDX-License-Identifier: Apache-2.0

package storeclient

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/prometheus/promql/parser"
)

const (
	period   = 10_000_000 // of 100 Hz, in nanoseconds
	duration = 10 * time.Second
)

// window is one profile with the labels of its series, as all stores take it.
type window struct {
	start  time.Time
	labels map[string]string
	stacks map[string]int64 // samples, by stack: outermost;innermost
}

func (w window) profile() *profile.Profile {
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: period,
		TimeNanos: w.start.UnixNano(), DurationNanos: int64(duration),
	}
	m := &profile.Mapping{ID: 1, Start: 0x1000, Limit: 0x9000, File: "/usr/bin/shop", BuildID: "c0ffee", HasFunctions: true}
	p.Mapping = append(p.Mapping, m)
	known := map[string]*profile.Location{}
	for _, stack := range slices.Sorted(maps.Keys(w.stacks)) {
		s := &profile.Sample{Value: []int64{w.stacks[stack], w.stacks[stack] * period}}
		for _, name := range slices.Backward(strings.Split(stack, ";")) {
			if known[name] == nil {
				id := uint64(len(p.Location)) + 1
				f := &profile.Function{ID: id, Name: name, SystemName: name, Filename: name + ".go"}
				known[name] = &profile.Location{ID: id, Mapping: m, Address: 0x1000 + id, Line: []profile.Line{{Function: f, Line: 7}}}
				p.Function, p.Location = append(p.Function, f), append(p.Location, known[name])
			}
			s.Location = append(s.Location, known[name])
		}
		p.Sample = append(p.Sample, s)
	}
	return p
}

func (w window) gzip() []byte {
	var b bytes.Buffer
	if err := w.profile().Write(&b); err != nil {
		panic(err) // a bytes.Buffer takes everything
	}
	return b.Bytes()
}

// matches says whether a selector takes the window, by Prometheus' own code.
func (w window) matches(selector string) (bool, error) {
	matchers, err := parser.NewParser(parser.Options{}).ParseMetricSelector(selector)
	for _, m := range matchers {
		if m.Name != "__name__" && !m.Matches(w.labels[m.Name]) {
			return false, err
		}
	}
	return true, err
}

// shop makes windows of a service with three routes over five minutes; the last window of
// each minute says nothing. Every value is different.
func shop(service string, begin time.Time) (all []window) {
	n := int64(0)
	for start := begin; start.Before(begin.Add(5 * time.Minute)); start = start.Add(duration) {
		if start.Second() == 50 {
			continue
		}
		for _, route := range []string{"/cart", "/item/{id}", ""} {
			n++
			l := map[string]string{"service_name": service, "host_name": fmt.Sprint("host-", n%2)}
			if route != "" {
				l["http_route"] = route
			}
			all = append(all, window{start, l, map[string]int64{"main;serve;work": n, "main;serve": 2 * n, "main;gc": 3}})
		}
	}
	return all
}

// truth is what a store should answer about windows, computed from nothing but these.
type truth struct {
	t       *testing.T
	windows []window
}

func (tr truth) selected(q Query) (all []window) {
	for _, w := range tr.windows {
		ok, err := w.matches(matchers(q.Selector))
		if err != nil {
			tr.t.Fatal(err)
		}
		if ok && !w.start.Before(q.From) && w.start.Before(q.To) {
			all = append(all, w)
		}
	}
	return all
}

// stacks are the CPU time by stack.
func (tr truth) stacks(q Query) map[string]int64 {
	sums := map[string]int64{}
	for _, w := range tr.selected(q) {
		for stack, n := range w.stacks {
			sums[stack] += n * period
		}
	}
	return sums
}

// series are the CPU time by values of labels and step.
func (tr truth) series(q Query, by []string, step time.Duration) map[string]int64 {
	sums := map[string]int64{}
	for _, w := range tr.selected(q) {
		var values []string
		for _, name := range by {
			values = append(values, w.labels[name])
		}
		for _, n := range w.stacks {
			sums[fmt.Sprint(values, " ", w.start.Truncate(step).Format(time.TimeOnly))] += n * period
		}
	}
	return sums
}

// check asks a store that has the windows.
func (tr truth) check(c Client, begin time.Time, service string) {
	only := func(more string) string { return fmt.Sprintf(`{service_name=%q%s}`, service, more) }
	for name, q := range map[string]Query{
		"all":         {only(""), "", begin, begin.Add(5 * time.Minute)},
		"one route":   {only(`,http_route="/item/{id}"`), "", begin, begin.Add(5 * time.Minute)},
		"no route":    {only(`,http_route=""`), "", begin, begin.Add(5 * time.Minute)},
		"other hosts": {only(`,host_name!~"host-1|x"`), "", begin, begin.Add(5 * time.Minute)},
		"two minutes": {only(""), "", begin.Add(time.Minute), begin.Add(3 * time.Minute)},
	} {
		tr.t.Run(name, func(t *testing.T) {
			p, err := c.Profile(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]int64{}
			for _, s := range p.Sample {
				var names []string
				for _, l := range slices.Backward(s.Location) {
					names = append(names, l.Line[0].Function.Name)
				}
				got[strings.Join(names, ";")] += s.Value[len(s.Value)-1]
			}
			if want := tr.stacks(q); !maps.Equal(got, want) || len(want) == 0 {
				t.Errorf("stacks are %v, want %v", got, want)
			}
			if p.TimeNanos != q.From.UnixNano() || p.DurationNanos != int64(q.To.Sub(q.From)) {
				t.Errorf("time is %v for %v", time.Unix(0, p.TimeNanos), time.Duration(p.DurationNanos))
			}
			for _, by := range [][]string{nil, {"http_route"}, {"host_name", "http_route"}} {
				for _, step := range []time.Duration{30 * time.Second, time.Minute} {
					tr.checkSeries(t, c, q, by, step)
				}
			}
		})
	}
}

func (tr truth) checkSeries(t *testing.T, c Client, q Query, by []string, step time.Duration) {
	t.Helper()
	s, err := c.Series(t.Context(), Align(q, step), by, step)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, g := range s.Groups {
		if len(g.Values) != len(by) {
			t.Fatalf("values are %q of %q", g.Values, by)
		}
		for _, p := range g.Points {
			got[fmt.Sprint(g.Values, " ", p.Time.Format(time.TimeOnly))] += p.Value
		}
	}
	if want := tr.series(q, by, step); !maps.Equal(got, want) || s.Unit != "nanoseconds" {
		t.Errorf("by %q in steps of %v: %v in %s, want %v", by, step, got, s.Unit, want)
	}
}
