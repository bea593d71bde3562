// SPDX-License-Identifier: Apache-2.0

package grafana

import (
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/fleetprof/fleetprof/internal/matching"
	"github.com/fleetprof/fleetprof/server/query"
)

// span reads a range; both ends 0 are the last hour.
func span(start, end int64) (query.Range, error) {
	if start == 0 && end == 0 {
		now := time.Now()
		return query.Range{From: now.Add(-lately), To: now}, nil
	}
	const latest = 1 << 43 // milliseconds; the year 2248, which nanoseconds still reach
	if start < 0 || start >= end || end > latest {
		return query.Range{}, connect.NewError(connect.CodeInvalidArgument,
			fmt.Errorf("read range %d to %d: want milliseconds since the Unix epoch, the start before the end", start, end))
	}
	return query.Range{From: time.UnixMilli(start), To: time.UnixMilli(end + 1)}, nil
}

// selection is what is asked for: samples by their labels, of some types.
type selection struct {
	query.Question
	ofType matching.Matchers // by labels that Pyroscope makes of the profile type
}

// parseSelection reads selectors, which must all hold.
func parseSelection(start, end int64, selectors ...string) (s selection, err error) {
	s.Protocol = "grafana"
	if s.Range, err = span(start, end); err != nil {
		return s, err
	}
	length := 0
	for _, text := range selectors {
		length += len(text)
	}
	if length > query.MaxSelector {
		return s, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("read selector of %d bytes: want at most %d", length, query.MaxSelector))
	}
	var parts []string
	for _, text := range selectors {
		if strings.TrimSpace(text) == "" {
			continue
		}
		matchers, _, err := matching.Parse(text)
		if err != nil {
			return s, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("read selector %.400q: %w", text, err))
		}
		for _, m := range matchers {
			if isOfType(m.Name) {
				s.ofType = append(s.ofType, m)
			} else {
				parts = append(parts, m.String())
			}
		}
	}
	if s.Selector, err = query.ParseSelector("{" + strings.Join(parts, ",") + "}"); err != nil {
		return s, connect.NewError(connect.CodeInvalidArgument, err)
	}
	return s, nil
}

// takes reports whether a type is selected.
func (s selection) takes(t profileType) bool {
	return s.ofType.Match(func(name string) string {
		v, _ := t.label(name)
		return v
	})
}

// sumOf makes it a question about sums of one type. It is nothing, some=false, if that is not selected.
func (s selection) sumOf(id string) (q query.Question, some bool, err error) {
	t, err := parseType(id)
	if err != nil {
		return q, false, err
	}
	q = s.Question
	q.Types, q.Samples = []string{t.stored()}, t.counts()
	return q, s.takes(t), nil
}
