// SPDX-License-Identifier: Apache-2.0

package matching

import (
	"fmt"
	"regexp/syntax"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/strutil"
)

const (
	// maxMatchers bounds the matchers of one selector: each is asked about each label set.
	maxMatchers = 128
	// maxSteps bounds what the regular expressions of one selector are when their counts,
	// x{1000}, are written out, in characters and operators: so many steps a matcher may
	// take for each byte of a value.
	maxSteps = 20_000
)

// CostError says that matching would take too long.
type CostError struct{ reason string }

func (e *CostError) Error() string { return e.reason }

// check reads no more of a selector than its words, before anything is compiled. Mistakes are
// left to the parser, which says where they are.
func check(text string) error {
	lexer := parser.Lex(text)
	matchers, steps, expects := 0, 0, false
	for {
		var item parser.Item
		lexer.NextItem(&item)
		switch item.Typ {
		case parser.EOF, parser.ERROR:
			return nil
		case parser.EQL, parser.NEQ, parser.EQL_REGEX, parser.NEQ_REGEX:
			matchers++
		case parser.STRING:
			if expects {
				steps += stepsOf(item.Val, maxSteps-steps)
			}
		}
		expects = item.Typ == parser.EQL_REGEX || item.Typ == parser.NEQ_REGEX
		if matchers > maxMatchers {
			return &CostError{fmt.Sprintf("there are more than %d matchers", maxMatchers)}
		}
		if steps > maxSteps {
			return &CostError{fmt.Sprintf("regular expressions have more than %d steps once repetitions such as x{1000} are written out: repeat less", maxSteps)}
		}
	}
}

// stepsOf counts the steps of a quoted expression, at most one more than most.
func stepsOf(quoted string, most int) int {
	text, err := strutil.Unquote(quoted)
	if err != nil {
		return 0
	}
	parsed, err := syntax.Parse(text, syntax.Perl|syntax.DotNL)
	if err != nil {
		return 0
	}
	return count(parsed, most)
}

// count goes no deeper than expressions nest, which syntax.Parse bounds.
func count(r *syntax.Regexp, most int) int {
	own := 1
	switch r.Op {
	case syntax.OpLiteral:
		own = len(r.Rune)
	case syntax.OpCharClass:
		own += len(r.Rune) / 64 // searched by halves
	}
	for _, sub := range r.Sub {
		if own > most {
			break
		}
		own += count(sub, most)
	}
	if r.Op == syntax.OpRepeat {
		own *= max(r.Min+1, r.Max, 1)
	}
	return min(own, most+1)
}
