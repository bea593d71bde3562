// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"strings"

	"github.com/fleetprof/fleetprof/internal/matching"
	"github.com/fleetprof/fleetprof/sample"
)

// Selector tells which processes and containers a rule is for, in the syntax of
// Prometheus: {name="value"} with the operators =, !=, =~ and !~, separated by
// commas; all must hold. Regular expressions (RE2) match the whole value. A
// label that is absent is the empty string. The zero Selector, {}, takes all.
// https://prometheus.io/docs/prometheus/latest/querying/basics/#instant-vector-selectors
type Selector struct {
	text     string
	matchers matching.Matchers
}

const selectorExample = `write it like {service_name="checkout"}, or {} for all`

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
	matchers, position, err := matching.Parse(text)
	switch {
	case err != nil && position > 0:
		return Selector{}, fmt.Errorf("%w at position %d of the selector: %s", err, position, selectorExample)
	case err != nil:
		return Selector{}, fmt.Errorf("%w: %s", err, selectorExample)
	}
	for _, m := range matchers {
		switch {
		case m.Name == matching.MetricName:
			return Selector{}, fmt.Errorf("processes have no metric name: leave out %s; %s", m.Value, selectorExample)
		case sample.OfSample(m.Name):
			return Selector{}, fmt.Errorf("%s is a label of single samples, and what is collected is decided for whole processes and containers: select by labels such as service_name, container_name or process_executable_name", m.Name)
		}
	}
	return Selector{text, matchers}, nil
}

// Matches reports whether labels are selected; value gives the value of a label,
// or the empty string.
func (s Selector) Matches(value func(name string) string) bool {
	return s.matchers.Match(value)
}

// String is the selector as it was written.
func (s Selector) String() string {
	if s.text == "" {
		return "{}"
	}
	return s.text
}
