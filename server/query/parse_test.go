// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/server/query"
)

func TestParseRange(t *testing.T) {
	now := time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, c := range []struct {
		params   string
		from, to time.Time
	}{
		{"", ago(15 * time.Minute), now},
		{"last=1h30m", ago(90 * time.Minute), now},
		{"last=2d", ago(48 * time.Hour), now},
		{"last=1w1ms", ago(7*24*time.Hour + time.Millisecond), now},
		{"seconds=30", ago(30 * time.Second), now},
		{"seconds=30&last=1h", ago(30 * time.Second), now},
		{"from=now-1h", ago(time.Hour), now},
		{"from=now-2h&to=now-1h", ago(2 * time.Hour), ago(time.Hour)},
		{"from=now-1h&last=5m", ago(time.Hour), ago(55 * time.Minute)},
		{"from=now-1h&seconds=60", ago(time.Hour), ago(59 * time.Minute)},
		{"to=now-1h&last=5m", ago(65 * time.Minute), ago(time.Hour)},
		{"to=now-1h", ago(75 * time.Minute), ago(time.Hour)},
		{"to=now%2B1h", ago(-45 * time.Minute), ago(-time.Hour)},
		{"to=now+1h", ago(-45 * time.Minute), ago(-time.Hour)},
		{"from=2026-11-22T12:00:00Z", ago(time.Hour), now},
		{"from=2026-11-22T12:00:00.25%2B01:00", ago(2*time.Hour - 250*time.Millisecond), now},
		{"from=1795348800", ago(time.Hour), now},
		{"from=1795348800000", ago(time.Hour), now},
		{"from=0&to=99999999999", time.Time{}, time.Time{}}, // the year 5138
		{"from=0&to=100000000000", time.Unix(0, 0), time.UnixMilli(100_000_000_000)},
		{"from=now-1h&to=now&last=1h", time.Time{}, time.Time{}},
		{"from=now&to=now", time.Time{}, time.Time{}},
		{"from=now-", time.Time{}, time.Time{}},
		{"from=nowish", time.Time{}, time.Time{}},
		{"from=-5", time.Time{}, time.Time{}},
		{"from=1795348800.5", time.Time{}, time.Time{}},
		{"from=2026-11-22", time.Time{}, time.Time{}},
		{"to=1500-01-01T00:00:00Z", time.Time{}, time.Time{}},
		{"last=15", time.Time{}, time.Time{}},
		{"last=0s", time.Time{}, time.Time{}},
		{"last=-5m", time.Time{}, time.Time{}},
		{"last=5y", time.Time{}, time.Time{}},
		{"last=4000000000w", time.Time{}, time.Time{}},
		{"last=99999999999999999999s", time.Time{}, time.Time{}},
		{"seconds=1.5", time.Time{}, time.Time{}},
		{"seconds=99999999999", time.Time{}, time.Time{}},
	} {
		params, err := url.ParseQuery(c.params)
		if err != nil {
			t.Fatal(err)
		}
		got, err := query.ParseRange(params, now)
		if c.from.IsZero() {
			if err == nil {
				t.Errorf("%s is %v, want an error", c.params, got)
			}
			continue
		}
		if err != nil || !got.From.Equal(c.from) || !got.To.Equal(c.to) {
			t.Errorf("%s is %v, %v, want %v", c.params, got, err, query.Range{From: c.from, To: c.to})
		}
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("now-1h", "now", "", "")
	f.Add("2026-11-22T12:00:00Z", "", "1h30m", "")
	f.Add("1795348800", "1795348800000", "", "30")
	now := time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, from, to, last, seconds string) {
		r, err := query.ParseRange(url.Values{"from": {from}, "to": {to}, "last": {last}, "seconds": {seconds}}, now)
		if err != nil {
			if text := err.Error(); !strings.Contains(text, "parameter") {
				t.Errorf("error does not name the parameter: %s", text)
			}
			return
		}
		if !r.From.Before(r.To) || r.From.Unix() < 0 || r.To.Year() > 2200 {
			t.Errorf("range is %v", r)
		}
	})
}

// FuzzSelector parses what a selector prints again, and expects the same.
func FuzzSelector(f *testing.F) {
	for _, s := range []string{"", "{}", `{a="b"}`, `{a=~"b.*",c!="d",e!~"f|g"}`, `{"a.b"='c'}`, "{a=`\\`}", `{a="\u00e4"}`, "checkout"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := query.ParseSelector(text)
		if err != nil {
			if !strings.Contains(err.Error(), "parameter query") {
				t.Errorf("error does not name the parameter: %v", err)
			}
			return
		}
		again, err := query.ParseSelector(s.String())
		if err != nil || again.String() != s.String() {
			t.Errorf("%q prints as %s, which parses as %s: %v", text, s, again, err)
		}
		value := func(name string) string { return name }
		if s.Matches(value) != again.Matches(value) {
			t.Errorf("%q and %s match differently", text, s)
		}
	})
}
