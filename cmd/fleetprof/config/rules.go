// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"strconv"

	"github.com/goccy/go-yaml/ast"

	"github.com/fleetprof/fleetprof/attribute/relabel"
)

// rules reads the value of relabel_configs.
func (f *File) rules(entry *ast.MappingValueNode) (relabel.Rules, error) {
	list, ok := entry.Value.(*ast.SequenceNode)
	if !ok {
		return relabel.Rules{}, f.of(entry, "must be a list of rules, not %s", kind(entry.Value))
	}
	rules := make([]relabel.Rule, len(list.Values))
	for i, n := range list.Values {
		if err := f.rule(n, &rules[i]); err != nil {
			return relabel.Rules{}, err
		}
	}
	compiled, err := relabel.Compile(rules)
	var bad *relabel.FieldError
	if errors.As(err, &bad) {
		return compiled, f.atField(list.Values[bad.Rule], bad)
	}
	return compiled, err
}

// rule reads one rule.
func (f *File) rule(n ast.Node, to *relabel.Rule) error {
	body, ok := n.(*ast.MappingNode)
	if !ok {
		return f.at(n, "a rule must be a mapping such as `action: drop`, not %s", kind(n))
	}
	texts := map[string]**string{
		relabel.FieldSeparator: &to.Separator, relabel.FieldRegex: &to.Regex, relabel.FieldTargetLabel: &to.TargetLabel,
		relabel.FieldReplacement: &to.Replacement, relabel.FieldAction: &to.Action,
	}
	for _, entry := range body.Values {
		var err error
		name := keyOf(entry)
		switch field := texts[name]; {
		case field != nil:
			*field, err = f.ruleText(entry)
		case name == relabel.FieldSourceLabels:
			to.SourceLabels, err = f.list(entry)
		case name == relabel.FieldModulus:
			to.Modulus, err = f.modulus(entry)
		default:
			err = f.at(entry.Key, "unknown field %.60q of a rule%s", name, suggestion(name, fields()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fields lists the names of the fields of a rule.
func fields() []string {
	return []string{
		relabel.FieldSourceLabels, relabel.FieldSeparator, relabel.FieldRegex, relabel.FieldModulus,
		relabel.FieldTargetLabel, relabel.FieldReplacement, relabel.FieldAction,
	}
}

// ruleText reads a text. Nothing is none: YAML libraries take it for the empty text, or
// for the default.
func (f *File) ruleText(entry *ast.MappingValueNode) (*string, error) {
	s, ok := text(entry.Value)
	if !ok {
		return nil, f.of(entry, `must be a text such as "", not %s`, kind(entry.Value))
	}
	return &s, nil
}

func (f *File) modulus(entry *ast.MappingValueNode) (*uint64, error) {
	s, _ := text(entry.Value)
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return nil, f.of(entry, "must be a whole number such as 8, not %s", kind(entry.Value))
	}
	return &n, nil
}

// list reads a list of texts.
func (f *File) list(entry *ast.MappingValueNode) ([]string, error) {
	list, ok := entry.Value.(*ast.SequenceNode)
	if !ok {
		return nil, f.of(entry, "must be a list such as [a, b], not %s", kind(entry.Value))
	}
	all := make([]string, len(list.Values))
	for i, n := range list.Values {
		if all[i], ok = text(n); !ok {
			return nil, f.at(n, "%s must be a list of texts, not of %s", keyOf(entry), kind(n))
		}
	}
	return all, nil
}

// atField says where the field of a rule is that is wrong; the rule itself if it does
// not have it.
func (f *File) atField(rule ast.Node, bad *relabel.FieldError) error {
	body := rule.(*ast.MappingNode)
	for _, entry := range body.Values {
		if keyOf(entry) == bad.Field {
			return f.at(entry.Value, "%s", bad.Err)
		}
	}
	return f.at(rule, "%s", bad.Err)
}
