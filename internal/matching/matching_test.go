// SPDX-License-Identifier: Apache-2.0

package matching_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/matching"
)

func TestMatch(t *testing.T) {
	labels := map[string]string{"service_name": "checkout", "thread_name": "worker-7"}
	for text, want := range map[string]bool{
		`{}`:                        true,
		`{service_name="checkout"}`: true,
		`{service_name=~"check"}`:   false, // the whole value
		`{service_name=~"check.*", thread_name!="worker-7"}`: false,
		`{service_name=~"a|checkout|b"}`:                     true,
		`{thread_name=~"worker-[0-9]{1,3}"}`:                 true,
		`{thread_name!~"worker-.*"}`:                         false,
		`{host_name=""}`:                                     true, // it is not there
		`{host_name!=""}`:                                    false,
	} {
		m, _, err := matching.Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := m.Match(func(name string) string { return labels[name] }); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestCost: what would take long to match is refused before it is compiled, and long lists are
// not.
func TestCost(t *testing.T) {
	var pods []string
	for i := range 400 {
		pods = append(pods, fmt.Sprintf("checkout-7d9f8b6c5d-%05d", i))
	}
	matchers := func(n int) string { return "{" + strings.Repeat(`a!="b",`, n) + "}" }
	for name, c := range map[string]struct{ text, want string }{
		"a list":               {`{pod=~"` + strings.Join(pods, "|") + `"}`, ""},
		"as many as allowed":   {matchers(128), ""},
		"counts":               {`{a=~"[0-9a-f]{64}", b=~"x{1000}"}`, ""},
		"letters":              {`{a=~"\\pL+(?i:\\pN+)"}`, ""},
		"matchers":             {matchers(129), "more than 128 matchers"},
		"many counts":          {`{a=~"` + strings.Repeat("x{1000}", 21) + `"}`, "written out"},
		"counts in two":        {`{a=~"` + strings.Repeat("x{1000}", 11) + `",b!~"` + strings.Repeat("x{1000}", 11) + `"}`, "written out"},
		"a count of many":      {`{a=~"(?:` + strings.Repeat(".?", 100) + `){300}"}`, "written out"},
		"an open count":        {`{a=~"(?:` + strings.Repeat(".?", 100) + `){300,}"}`, "written out"},
		"in other quotes":      {"{a=~'" + strings.Repeat("x{1000}", 21) + "'}", "written out"},
		"in a quoted name":     {`{"a.b"=~"` + strings.Repeat("x{1000}", 21) + `"}`, "written out"},
		"written with escapes": {`{a=~"` + strings.Repeat(`\x78{1000}`, 21) + `"}`, "written out"},
	} {
		_, _, err := matching.Parse(c.text)
		var cost *matching.CostError
		if (c.want == "") != (err == nil) || err != nil && (!errors.As(err, &cost) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
	for _, text := range []string{`{a=~"("}`, `{a=~"x{1001}"}`, `{a=~}`, `{a=~"x`} { // these the parser tells
		var cost *matching.CostError
		if _, _, err := matching.Parse(text); err == nil || errors.As(err, &cost) {
			t.Errorf("%s: error is %v", text, err)
		}
	}
}
