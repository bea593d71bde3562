// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// reader makes a policy of nodes and collects what is wrong.
type reader struct {
	faults Faults
	rule   int // the number of the one being read
}

func (r *reader) fault(at place, format string, args ...any) {
	r.faults = append(r.faults, at.fault(r.rule, format, args...))
}

// A setter takes the value of a field and says what is wrong with it.
type setter func(value node) error

// fields hands each field of a mapping to its setter, and says which were there.
func (r *reader) fields(n node, set map[string]setter, names string) (there map[string]bool) {
	there = make(map[string]bool)
	m, ok := n.value.(mapping)
	if !ok {
		r.fault(n.at, "this is %s: want fields of the names %s", n.kind(), names)
		return there
	}
	for _, f := range m {
		put, known := set[f.name]
		switch {
		case !known:
			r.fault(f.at, "%q is no field here: want %s", shortened(f.name), names)
		case there[f.name]:
			r.fault(f.at, "%s is there twice", f.name)
		default:
			if err := put(f.value); err != nil {
				r.fault(f.value.at, "%s: %v", f.name, err)
			}
		}
		there[f.name] = true
	}
	return there
}

func readPolicy(root node) (Policy, error) {
	var p Policy
	var r reader
	if root.value == nil {
		return p, Faults{root.at.fault(0, "the document is empty: for a policy without rules write `rules: []`")}
	}
	var rules node
	there := r.fields(root, map[string]setter{
		"version": func(n node) (err error) {
			p.Version, err = readVersion(n)
			p.versioned = true
			return err
		},
		"rules": func(n node) error {
			rules = n
			return nil
		},
	}, "version and rules")
	items, ok := rules.value.(list)
	switch {
	case !there["rules"] && len(r.faults) == 0:
		r.fault(root.at, "rules is missing: for a policy without rules write `rules: []`")
	case there["rules"] && !ok:
		r.fault(rules.at, "rules: this is %s: want a list", rules.kind())
	case len(items) > MaxRules:
		r.fault(rules.at, "%s", tooMany(len(items)))
		items = items[:MaxRules]
	}
	for i, item := range items {
		r.rule = i + 1
		p.Rules = append(p.Rules, r.readRule(item))
	}
	return p, r.faults.orNil()
}

const (
	ruleFields  = "selector, off, rate, frequency, until, reason and by"
	boostFields = "selector, frequency, for, reason and by"
)

func (r *reader) readRule(n node) Rule {
	rule := Rule{at: n.at}
	before := len(r.faults)
	set := commonFields(&rule)
	set["off"] = func(n node) (err error) {
		rule.Off, err = readOff(n)
		return err
	}
	set["rate"] = func(n node) (err error) {
		rule.KeepOneIn, err = readRate(n)
		return err
	}
	set["until"] = func(n node) (err error) {
		rule.Until, err = readInstant(n)
		return err
	}
	there := r.fields(n, set, ruleFields)
	if len(r.faults) > before {
		return rule
	}
	actions := 0
	for _, name := range []string{"off", "rate", "frequency"} {
		if there[name] {
			actions++
		}
	}
	switch {
	case !there["selector"]:
		r.fault(n.at, "selector is missing: %s", selectorExample)
	case actions != 1:
		r.fault(n.at, "want exactly one of off, rate and frequency")
	case there["frequency"] && !there["until"]:
		r.fault(n.at, "until is missing: a frequency is asked for for a time, at most %v; use rate for what is to last", MaxBoost)
	}
	return rule
}

// ParseBoost reads what asks for a boost, in JSON: the fields selector, frequency,
// for, reason and by. The rule ends so long after now. The error is Faults.
func ParseBoost(text []byte, now time.Time) (Rule, error) {
	root, err := parseJSON(text)
	if err != nil {
		return Rule{}, err
	}
	var r reader
	rule := Rule{}
	set := commonFields(&rule)
	set["for"] = func(n node) error {
		length, err := readLength(n)
		rule.Until = now.Add(length).UTC().Truncate(time.Millisecond)
		return err
	}
	there := r.fields(root, set, boostFields)
	for _, name := range []string{"selector", "frequency", "for"} {
		if !there[name] {
			r.fault(root.at, "%s is missing: want %s", name, boostFields)
		}
	}
	return rule, r.faults.orNil()
}

// commonFields are the fields of rules and boosts alike.
func commonFields(rule *Rule) map[string]setter {
	text := func(to *string, most int) setter {
		return func(n node) (err error) {
			*to, err = readText(n, most)
			return err
		}
	}
	return map[string]setter{
		"selector": func(n node) error {
			text, err := readText(n, math.MaxInt)
			if err == nil {
				rule.Selector, err = ParseSelector(text)
			}
			return err
		},
		"frequency": func(n node) (err error) {
			rule.Frequency, err = readFrequency(n)
			return err
		},
		"reason": text(&rule.Reason, maxReason),
		"by":     text(&rule.By, maxBy),
	}
}

func readText(n node, most int) (string, error) {
	text, ok := n.value.(string)
	if !ok {
		return "", fmt.Errorf("this is %s: want text, in quotes if need be", n.kind())
	}
	text = strings.TrimSpace(text)
	if len(text) > most {
		return "", fmt.Errorf("%d bytes: want at most %d", len(text), most)
	}
	return text, checkPrintable(text)
}

// checkPrintable refuses what could do something to the terminal that shows it.
func checkPrintable(text string) error {
	for _, c := range text {
		if !unicode.IsPrint(c) {
			return fmt.Errorf("the character %U cannot be printed: leave it out", c)
		}
	}
	return nil
}

func readVersion(n node) (uint64, error) {
	digits, _ := n.value.(number)
	v, err := strconv.ParseUint(string(digits), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("want a whole number")
	}
	return v, nil
}

func readOff(n node) (bool, error) {
	if off, ok := n.value.(bool); !ok || !off {
		return false, fmt.Errorf("want true; a rule that collects all as usual is `rate: 1/1`")
	}
	return true, nil
}

// readRate reads 1/N.
func readRate(n node) (uint32, error) {
	text, _ := n.value.(string)
	of, ok := strings.CutPrefix(text, "1/")
	v, err := strconv.ParseUint(of, 10, 32)
	if !ok || err != nil || v < 1 || v > MaxKeepOneIn {
		return 0, fmt.Errorf("want 1/N with N from 1 to %d, such as 1/10 for one sample in ten", MaxKeepOneIn)
	}
	return uint32(v), nil
}

func readFrequency(n node) (int, error) {
	digits, _ := n.value.(number)
	v, err := strconv.Atoi(string(digits))
	if err != nil || v < 1 || v > MaxFrequency {
		return 0, fmt.Errorf("want a whole number from 1 to %d, samples per second and CPU", MaxFrequency)
	}
	return v, nil
}

// readInstant reads a time as RFC 3339 has it, section 5.6.
func readInstant(n node) (time.Time, error) {
	text, _ := n.value.(string)
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Unix() <= 0 {
		return time.Time{}, fmt.Errorf("want an instant as of RFC 3339, such as 2026-11-22T15:04:05Z")
	}
	return t.UTC(), nil
}

func readLength(n node) (time.Duration, error) {
	text, _ := n.value.(string)
	d, err := time.ParseDuration(text)
	if err != nil || d < MinBoost || d > MaxBoost {
		return 0, fmt.Errorf("want a time from %v to %v, such as 60s", MinBoost, MaxBoost)
	}
	return d, nil
}

// shortened is foreign text as a message can bear it; it is printed quoted.
func shortened(text string) string {
	if len(text) > 40 {
		return strings.ToValidUTF8(text[:40], "") + "…"
	}
	return text
}
