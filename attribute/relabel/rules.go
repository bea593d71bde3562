// SPDX-License-Identifier: Apache-2.0

package relabel

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	prom "github.com/prometheus/prometheus/model/relabel"

	"github.com/fleetprof/fleetprof/sample"
)

// Rule is one entry of relabel_configs as it is written; a field that is nil is not.
type Rule struct {
	SourceLabels                                       []string
	Separator, Regex, TargetLabel, Replacement, Action *string
	Modulus                                            *uint64
}

// Rules are applied in their order. They are never changed; the zero value has none.
type Rules struct{ configs []*prom.Config }

// The names of a Rule's fields in a file.
const (
	FieldSourceLabels = "source_labels"
	FieldSeparator    = "separator"
	FieldRegex        = "regex"
	FieldModulus      = "modulus"
	FieldTargetLabel  = "target_label"
	FieldReplacement  = "replacement"
	FieldAction       = "action"
)

// FieldError says what is wrong with a rule.
type FieldError struct {
	// Rule is its index.
	Rule int
	// Field is where to look; it may be one that is missing. Empty if it is the rule
	// as a whole.
	Field string
	Err   error
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("rule %d: %s: %v", e.Rule+1, e.Field, e.Err)
}

func (e *FieldError) Unwrap() error { return e.Err }

// Compile checks rules as Prometheus does, and that they are about what differs
// between processes. Its error is a *[FieldError].
func Compile(rules []Rule) (Rules, error) {
	var compiled Rules
	for i, rule := range rules {
		c, err := rule.compile()
		if err != nil {
			err.Rule = i
			return Rules{}, err
		}
		compiled.configs = append(compiled.configs, c)
	}
	return compiled, nil
}

// compile gives the rule to Prometheus. Fields that are not written have its defaults:
// they are compared by identity, for instance to tell a regex that was written.
func (r Rule) compile() (*prom.Config, *FieldError) {
	c := prom.DefaultRelabelConfig
	for _, name := range r.SourceLabels {
		if !model.LegacyValidation.IsValidLabelName(name) {
			return nil, &FieldError{Field: FieldSourceLabels, Err: fmt.Errorf("%q is not the name of a label", name)}
		}
		if sample.OfSample(name) {
			return nil, &FieldError{Field: FieldSourceLabels, Err: perSample(name)}
		}
		c.SourceLabels = append(c.SourceLabels, model.LabelName(name))
	}
	for to, text := range map[*string]*string{&c.Separator: r.Separator, &c.TargetLabel: r.TargetLabel, &c.Replacement: r.Replacement} {
		if text != nil {
			*to = *text
		}
	}
	if r.Modulus != nil {
		c.Modulus = *r.Modulus
	}
	if r.Action != nil {
		action := strings.ToLower(*r.Action)
		if !slices.Contains(actions(), action) {
			return nil, &FieldError{Field: FieldAction, Err: fmt.Errorf("unknown action %q: it is one of %s", *r.Action, strings.Join(actions(), ", "))}
		}
		c.Action = prom.Action(action)
	}
	if r.Regex != nil {
		var err error
		if c.Regex, err = prom.NewRegexp(*r.Regex); err != nil {
			return nil, &FieldError{Field: FieldRegex, Err: err}
		}
	}
	if err := c.Validate(model.LegacyValidation); err != nil {
		return nil, &FieldError{Field: blamed(err), Err: err}
	}
	return &c, r.checkTargets(c.Action)
}

// actions lists what a rule can do, in the order of Prometheus' documentation.
func actions() []string {
	return []string{
		string(prom.Replace), string(prom.Lowercase), string(prom.Uppercase), string(prom.Keep), string(prom.Drop), string(prom.KeepEqual),
		string(prom.DropEqual), string(prom.HashMod), string(prom.LabelMap), string(prom.LabelDrop), string(prom.LabelKeep),
	}
}

// blamed is the field that Prometheus complains of: it names it, unless it is about
// several that do not go together.
func blamed(err error) string {
	for _, field := range [...]string{FieldModulus, FieldReplacement, FieldTargetLabel} {
		if text := err.Error(); strings.Contains(text, field) && !strings.Contains(text, "requires only") {
			return field
		}
	}
	return ""
}

// checkTargets refuses what a rule cannot do since it is asked once for a process.
func (r Rule) checkTargets(action prom.Action) *FieldError {
	refuse := func(field string, name *string) *FieldError {
		if name == nil || !sample.OfSample(*name) {
			return nil
		}
		return &FieldError{Field: field, Err: perSample(*name)}
	}
	err := refuse(FieldTargetLabel, r.TargetLabel)
	switch action {
	case prom.LabelMap:
		err = cmp.Or(err, refuse(FieldReplacement, r.Replacement), refuse(FieldRegex, r.Regex))
	case prom.LabelDrop, prom.LabelKeep:
		err = cmp.Or(err, refuse(FieldRegex, r.Regex))
	}
	return err
}

// perSample is why rules are not about some labels.
func perSample(name string) error {
	return fmt.Errorf("%s may differ between samples of one process, and rules are asked once for a process: it can be selected by in queries only", name)
}
