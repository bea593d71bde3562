// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/fleetprof/fleetprof/sample"
)

// Selector tells which processes and containers a rule is for, in the syntax of
// Prometheus: {name="value"} with the operators =, !=, =~ and !~, separated by
// commas; all must hold. Regular expressions (RE2) match the whole value. A
// label that is absent is the empty string. The zero Selector, {}, takes all.
// https://prometheus.io/docs/prometheus/latest/querying/basics/#instant-vector-selectors
type Selector struct {
	text     string
	matchers []*labels.Matcher
}

// metricName is the label Prometheus takes a name before the braces for.
const metricName = "__name__"

const selectorExample = `write it like {service_name="checkout"}, or {} for all`

// perSample are the labels that only a sample has. What is collected is decided
// before there is one.
var perSample = []string{
	sample.LabelThread, sample.LabelAttribution, sample.LabelSource, sample.LabelHTTPMethod,
	sample.LabelHTTPRoute, sample.LabelURLTemplate, sample.LabelRPCMethod, sample.LabelRPCSystem,
}

// ParseSelector reads a selector. The error is one sentence, with the position
// of the mistake in the selector and the way out.
func ParseSelector(text string) (Selector, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxSelector {
		return Selector{}, fmt.Errorf("selector of %d bytes: want at most %d", len(text), maxSelector)
	}
	if text == "" {
		return Selector{}, fmt.Errorf("empty selector: %s", selectorExample)
	}
	if err := checkPrintable(text); err != nil {
		return Selector{}, err
	}
	matchers, err := parser.NewParser(parser.Options{}).ParseMetricSelector(text)
	if err != nil {
		return Selector{}, mistake(err)
	}
	for _, m := range matchers {
		switch {
		case m.Name == metricName:
			return Selector{}, fmt.Errorf("processes have no metric name: leave out %s; %s", m.Value, selectorExample)
		case slices.Contains(perSample, m.Name):
			return Selector{}, fmt.Errorf("%s is a label of single samples, and what is collected is decided for whole processes and containers: select by labels such as service_name, container_name or process_executable_name", m.Name)
		}
	}
	return Selector{text, matchers}, nil
}

// mistake says what the parser did not like and where, counted in bytes from 1.
func mistake(err error) error {
	var all parser.ParseErrors
	if !errors.As(err, &all) || len(all) == 0 {
		return fmt.Errorf("%w: %s", err, selectorExample)
	}
	return fmt.Errorf("%w at position %d of the selector: %s", all[0].Err, all[0].PositionRange.Start+1, selectorExample)
}

// Matches reports whether labels are selected; value gives the value of a label,
// or the empty string.
func (s Selector) Matches(value func(name string) string) bool {
	for _, m := range s.matchers {
		if !m.Matches(value(m.Name)) {
			return false
		}
	}
	return true
}

// String is the selector as it was written.
func (s Selector) String() string {
	if s.text == "" {
		return "{}"
	}
	return s.text
}
