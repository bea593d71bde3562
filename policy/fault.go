// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"strings"
)

// Fault is one thing that is wrong with a document.
type Fault struct {
	// Line and Column count from 1, columns in characters; 0 is unknown.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Rule is the number of the rule, from 1; 0 is none.
	Rule   int    `json:"rule,omitempty"`
	Reason string `json:"reason"`
}

func (f Fault) Error() string {
	var where strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&where, "line %d, column %d: ", f.Line, f.Column)
	}
	if f.Rule > 0 {
		fmt.Fprintf(&where, "rule %d: ", f.Rule)
	}
	return where.String() + f.Reason
}

// Faults is all that is wrong with a document, in its order.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, one := range f {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// orNil is an error only if there is something to say.
func (f Faults) orNil() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// place is a position in a text, as Fault has it.
type place struct{ line, column int }

func (p place) fault(rule int, format string, args ...any) Fault {
	return Fault{Line: p.line, Column: p.column, Rule: rule, Reason: fmt.Sprintf(format, args...)}
}

func tooMany(rules int) string {
	return fmt.Sprintf("%d rules: want at most %d", rules, MaxRules)
}
