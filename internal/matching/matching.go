// SPDX-License-Identifier: Apache-2.0

// Package matching reads label matchers in the syntax of Prometheus, for all that select by
// labels. What else a selector may or may not say, and how a mistake is told, is theirs.
package matching

import (
	"errors"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// MetricName is the label Prometheus takes a name before the braces for.
const MetricName = "__name__"

// Matchers must all hold; none take everything. Safe for concurrent use.
type Matchers []*labels.Matcher

// Parse reads matchers in braces. position is where the mistake of an error is, counted in
// bytes from 1; 0 if that is not known. A *CostError says that there is no mistake, but more to
// do than is good. The caller bounds the length of text.
// https://prometheus.io/docs/prometheus/latest/querying/basics/#instant-vector-selectors
func Parse(text string) (all Matchers, position int, err error) {
	if err := check(text); err != nil {
		return nil, 0, err
	}
	found, err := parser.NewParser(parser.Options{}).ParseMetricSelector(text)
	var mistakes parser.ParseErrors
	if errors.As(err, &mistakes) && len(mistakes) > 0 {
		return nil, int(mistakes[0].PositionRange.Start) + 1, mistakes[0].Err
	}
	return found, 0, err
}

// Match reports whether labels are selected; value gives the value of a label, or the empty
// string.
func (m Matchers) Match(value func(name string) string) bool {
	for _, one := range m {
		if !one.Matches(value(one.Name)) {
			return false
		}
	}
	return true
}
