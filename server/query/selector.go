// SPDX-License-Identifier: Apache-2.0

package query

import (
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// maxSelector bounds the text of a selector, in bytes.
const maxSelector = 16 << 10

// metricName is the label Prometheus takes a name before the braces for.
const metricName = "__name__"

const selectorExample = `write it like {service_name="checkout", thread_name=~"worker.*"}`

// Selector tells which samples are asked for, in the syntax of Prometheus:
// {name="value"} with the operators =, !=, =~ and !~, separated by commas; all
// must hold. Regular expressions match the whole value. A label that a sample
// does not have is the empty string. The zero Selector takes everything.
// https://prometheus.io/docs/prometheus/latest/querying/basics/#instant-vector-selectors
type Selector struct {
	matchers []*labels.Matcher
}

// ParseSelector reads a selector; the empty text and {} take everything. The
// error is one sentence with the position of the mistake and an example.
func ParseSelector(text string) (Selector, error) {
	if strings.TrimSpace(text) == "" {
		return Selector{}, nil
	}
	if len(text) > maxSelector {
		return Selector{}, &paramError{"query", text[:32] + "…", fmt.Sprintf("at most %d bytes", maxSelector)}
	}
	matchers, err := parser.NewParser(parser.Options{}).ParseMetricSelector(text)
	if err != nil {
		return Selector{}, &paramError{"query", text, mistake(err)}
	}
	for _, m := range matchers {
		if m.Name == metricName {
			return Selector{}, &paramError{"query", text, "profiles have no metric name: leave out " + m.Value + "; " + selectorExample}
		}
	}
	return Selector{matchers}, nil
}

// mistake says what the parser did not like and where, counted in bytes from 1.
func mistake(err error) string {
	var all parser.ParseErrors
	if !errors.As(err, &all) || len(all) == 0 {
		return err.Error() + ": " + selectorExample
	}
	return fmt.Sprintf("%v at position %d: %s", all[0].Err, all[0].PositionRange.Start+1, selectorExample)
}

// Matches reports whether labels are selected; value gives the value of a
// label, or the empty string.
func (s Selector) Matches(value func(name string) string) bool {
	for _, m := range s.matchers {
		if !m.Matches(value(m.Name)) {
			return false
		}
	}
	return true
}

// String gives the selector in its normal form.
func (s Selector) String() string {
	parts := make([]string, len(s.matchers))
	for i, m := range s.matchers {
		parts[i] = m.String()
	}
	return "{" + strings.Join(parts, ",") + "}"
}
