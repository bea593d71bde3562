// SPDX-License-Identifier: Apache-2.0

package query

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// DefaultLast is the range when a query names none.
	DefaultLast = 15 * time.Minute
	// milliDigits tells milliseconds from seconds since the epoch: 12 digits
	// of seconds begin in the year 5138, 12 of milliseconds in 1973.
	milliDigits = 12
)

// latest is the end of the times that can be asked for: far enough from the year 2262, in
// which nanoseconds end, that a step more is none too many.
var latest = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

// Range is the time [From, To).
type Range struct{ From, To time.Time }

// String gives the range in UTC.
func (r Range) String() string {
	return r.From.UTC().Format(time.RFC3339) + " to " + r.To.UTC().Format(time.RFC3339)
}

// ParseRange reads the time range of a query from these parameters:
//
//	from, to  a time: RFC 3339 (2026-11-22T13:00:00Z), seconds since the Unix
//	          epoch (up to 11 digits) or milliseconds (12 or more), now, or now
//	          with a duration before or after it (now-1h30m)
//	last      a duration: numbers with the units ms, s, m, h, d, w (15m, 1h30m)
//	seconds   the same in whole seconds, as go tool pprof -seconds adds it; it
//	          takes the place of last
//
// Any two of from, to and last make a range. Without to it ends at from plus
// last, or now; without from it starts last before its end; the default of last
// is 15m. All three at once are refused, as they may contradict each other.
func ParseRange(params url.Values, now time.Time) (Range, error) {
	last, hasLast, err := parseLast(params)
	if err != nil {
		return Range{}, err
	}
	from, hasFrom, err := parseTimeParam(params, "from", now)
	if err != nil {
		return Range{}, err
	}
	to, hasTo, err := parseTimeParam(params, "to", now)
	if err != nil {
		return Range{}, err
	}
	switch {
	case hasFrom && hasTo && hasLast:
		return Range{}, &paramError{"last", last.String(), "give only two of from, to and last (or seconds)"}
	case hasFrom && hasLast:
		to = from.Add(last)
	case hasFrom && !hasTo:
		to = now
	case !hasFrom:
		if !hasTo {
			to = now
		}
		from = to.Add(-last)
	}
	if to.After(latest) {
		return Range{}, &paramError{"to", params.Get("to"), "the range ends at " + to.UTC().Format(time.RFC3339) + ": want an end before the year 2200"}
	}
	if epoch := time.Unix(0, 0); from.Before(epoch) { // there is nothing
		from = epoch
	}
	if !from.Before(to) {
		return Range{}, &paramError{"from", params.Get("from"), fmt.Sprintf("want a time before the end of the range, %s", to.UTC().Format(time.RFC3339Nano))}
	}
	return Range{from, to}, nil
}

// parseLast gives the default and false when the query says nothing.
func parseLast(params url.Values) (time.Duration, bool, error) {
	if text := params.Get("seconds"); text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n == 0 {
			return 0, false, &paramError{"seconds", text, "want a whole number of seconds above 0, such as 30"}
		}
		return time.Duration(n) * time.Second, true, nil
	}
	text := params.Get("last")
	if text == "" {
		return DefaultLast, false, nil
	}
	d, ok := parseDuration(text)
	if !ok || d == 0 {
		return 0, false, &paramError{"last", text, "want a duration above 0 such as 30s, 15m, 1h30m, 7d"}
	}
	return d, true, nil
}

func parseTimeParam(params url.Values, name string, now time.Time) (time.Time, bool, error) {
	text := params.Get(name)
	if text == "" {
		return time.Time{}, false, nil
	}
	t, ok := parseTime(text, now)
	if !ok || t.Unix() < 0 || t.After(latest) {
		return time.Time{}, false, &paramError{name, text, "want a time such as 2026-11-22T13:00:00Z, 1795352400 (Unix seconds), 1795352400000 (Unix milliseconds), now or now-1h"}
	}
	return t, true, nil
}

func parseTime(text string, now time.Time) (time.Time, bool) {
	if rest, ok := strings.CutPrefix(text, "now"); ok {
		return parseRelative(rest, now)
	}
	if n, err := strconv.ParseUint(text, 10, 63); err == nil {
		if len(text) >= milliDigits {
			return time.UnixMilli(int64(n)), true
		}
		return time.Unix(int64(n), 0), true
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	return t, err == nil
}

// parseRelative reads what follows now. A plus sign in a URL is a space unless
// it is escaped, so a space stands for it.
func parseRelative(rest string, now time.Time) (time.Time, bool) {
	if rest == "" {
		return now, true
	}
	d, ok := parseDuration(rest[1:])
	switch {
	case !ok:
		return time.Time{}, false
	case rest[0] == '-':
		return now.Add(-d), true
	case rest[0] == '+' || rest[0] == ' ':
		return now.Add(d), true
	}
	return time.Time{}, false
}

// parseDuration reads numbers that each have a unit, such as 1h30m.
func parseDuration(text string) (time.Duration, bool) {
	units := []struct {
		name string
		unit time.Duration
	}{
		{"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute}, {"h", time.Hour},
		{"d", 24 * time.Hour}, {"w", 7 * 24 * time.Hour},
	}
	var sum time.Duration
	for rest := text; rest != ""; {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.ParseUint(rest[:digits], 10, 32)
		if err != nil {
			return 0, false
		}
		rest = rest[digits:]
		found := false
		for _, u := range units {
			if after, ok := strings.CutPrefix(rest, u.name); ok {
				if n > uint64((math.MaxInt64-sum)/u.unit) {
					return 0, false
				}
				sum += time.Duration(n) * u.unit
				rest, found = after, true
				break
			}
		}
		if !found {
			return 0, false
		}
	}
	return sum, text != ""
}
