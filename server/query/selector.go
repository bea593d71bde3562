// SPDX-License-Identifier: Apache-2.0

package query

import (
	"errors"
	"fmt"
	"strings"

	"github.com/fleetprof/fleetprof/internal/matching"
)

// MaxSelector bounds the text of a selector, in bytes.
const MaxSelector = 16 << 10

const selectorExample = `write it like {service_name="checkout", thread_name=~"worker.*"}`

// Selector tells which samples are asked for, in the syntax of Prometheus:
// {name="value"} with the operators =, !=, =~ and !~, separated by commas; all
// must hold. Regular expressions match the whole value. A label that a sample
// does not have is the empty string. The zero Selector takes everything.
// https://prometheus.io/docs/prometheus/latest/querying/basics/#instant-vector-selectors
type Selector struct {
	matchers matching.Matchers
}

// ParseSelector reads a selector; the empty text and {} take everything. The
// error is one sentence with the position of the mistake and an example.
func ParseSelector(text string) (Selector, error) {
	if strings.TrimSpace(text) == "" {
		return Selector{}, nil
	}
	if len(text) > MaxSelector {
		return Selector{}, &paramError{"query", text, fmt.Sprintf("it has %d bytes: want at most %d", len(text), MaxSelector)}
	}
	matchers, position, err := matching.Parse(text)
	var cost *matching.CostError
	switch {
	case errors.As(err, &cost):
		return Selector{}, &paramError{"query", text, err.Error()}
	case err != nil && position > 0:
		return Selector{}, &paramError{"query", text, fmt.Sprintf("%v at position %d: %s", err, position, selectorExample)}
	case err != nil:
		return Selector{}, &paramError{"query", text, err.Error() + ": " + selectorExample}
	}
	for _, m := range matchers {
		if m.Name == matching.MetricName {
			return Selector{}, &paramError{"query", text, "profiles have no metric name: leave out " + m.Value + "; " + selectorExample}
		}
	}
	return Selector{matchers}, nil
}

// Matches reports whether labels are selected; value gives the value of a
// label, or the empty string.
func (s Selector) Matches(value func(name string) string) bool {
	return s.matchers.Match(value)
}

// String gives the selector in its normal form.
func (s Selector) String() string {
	parts := make([]string, len(s.matchers))
	for i, m := range s.matchers {
		parts[i] = m.String()
	}
	return "{" + strings.Join(parts, ",") + "}"
}
