// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// ruleForm is a rule as JSON has it.
type ruleForm struct {
	Selector  string `json:"selector"`
	Off       bool   `json:"off,omitempty"`
	Rate      string `json:"rate,omitempty"`
	Frequency int    `json:"frequency,omitempty"`
	Until     string `json:"until,omitempty"`
	Reason    string `json:"reason,omitempty"`
	By        string `json:"by,omitempty"`
}

// MarshalJSON gives the form that ParseJSON reads.
func (p Policy) MarshalJSON() ([]byte, error) {
	rules := p.Rules
	if rules == nil {
		rules = []Rule{} // a list, not null
	}
	return plainJSON(struct {
		Version uint64 `json:"version"`
		Rules   []Rule `json:"rules"`
	}{p.Version, rules})
}

// MarshalJSON gives the form that ParseJSON reads.
func (r Rule) MarshalJSON() ([]byte, error) {
	form := ruleForm{Selector: r.Selector.String(), Off: r.Off, Frequency: r.Frequency, Reason: r.Reason, By: r.By}
	if r.KeepOneIn > 0 {
		form.Rate = fmt.Sprintf("1/%d", r.KeepOneIn)
	}
	if !r.Until.IsZero() {
		form.Until = r.Until.Format(time.RFC3339Nano)
	}
	return plainJSON(form)
}

// plainJSON leaves < and > as they are, for people to read.
func plainJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n"), err
}

// YAML is the policy as ParseYAML reads it.
func (p Policy) YAML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: %d\n", p.Version)
	if len(p.Rules) == 0 {
		b.WriteString("rules: []\n")
		return b.String()
	}
	b.WriteString("rules:\n")
	for _, r := range p.Rules {
		fmt.Fprintf(&b, "  - selector: %s\n", quoted(r.Selector.String()))
		for _, line := range r.words() {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	return b.String()
}

// words are the fields of a rule but the selector, as YAML has them.
func (r Rule) words() (all []string) {
	switch {
	case r.Off:
		all = append(all, "off: true")
	case r.Frequency > 0:
		all = append(all, fmt.Sprintf("frequency: %d", r.Frequency))
	default:
		all = append(all, fmt.Sprintf("rate: 1/%d", r.KeepOneIn))
	}
	if !r.Until.IsZero() {
		all = append(all, "until: "+r.Until.Format(time.RFC3339Nano))
	}
	if r.Reason != "" {
		all = append(all, "reason: "+quoted(r.Reason))
	}
	if r.By != "" {
		all = append(all, "by: "+quoted(r.By))
	}
	return all
}

// quoted is text between single quotes, in which only they are doubled: YAML 1.2,
// section 7.3.2. All text of a policy is printable, so it has no line ends.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// String is the rule on one line.
func (r Rule) String() string { return r.Selector.String() + " " + strings.Join(r.words(), ", ") }

// Changes lists in words what makes one policy from another: rules taken out, with
// a minus before them, then those put in, with a plus; and a line of its own if
// only their order differs.
func Changes(from, to Policy) (lines []string) {
	left := make(map[string]int)
	for _, r := range to.Rules {
		left[r.String()]++
	}
	for _, r := range from.Rules {
		if left[r.String()]--; left[r.String()] < 0 {
			lines = append(lines, "- "+r.String())
		}
	}
	for _, r := range to.Rules {
		if left[r.String()]--; left[r.String()] >= 0 {
			lines = append(lines, "+ "+r.String())
		}
	}
	if len(lines) > 0 {
		return lines
	}
	for i, r := range to.Rules {
		if r.String() != from.Rules[i].String() {
			return []string{"the order of the rules"}
		}
	}
	return nil
}
