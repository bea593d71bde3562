// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/policy"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const document = `version: 7
rules:
  - selector: '{k8s_namespace_name="secret"}'
    off: true
    reason: not ours to look at
  - selector: '{service_name="checkout"}'
    frequency: 499
    until: 2026-11-23T12:01:00Z
    by: alice
  - selector: '{service_name=~"check.*",host_name!="a"}'
    rate: 1/10
`

func parse(t *testing.T, text string) policy.Policy {
	t.Helper()
	p, err := policy.ParseYAML([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// labels are the labels of one process.
func labels(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestDecide(t *testing.T) {
	p := parse(t, document)
	before, after := noon, noon.Add(time.Minute)
	usual := policy.Decision{KeepOneIn: 1}
	for _, c := range []struct {
		name   string
		labels []string
		now    time.Time
		want   policy.Decision
	}{
		{"no rule", []string{"service_name", "cart"}, before, usual},
		{"no label at all", nil, before, usual},
		{"off", []string{"k8s_namespace_name", "secret"}, before, policy.Decision{Off: true, KeepOneIn: 1, Rule: 1}},
		{"first wins", []string{"k8s_namespace_name", "secret", "service_name", "checkout"}, before, policy.Decision{Off: true, KeepOneIn: 1, Rule: 1}},
		{"frequency", []string{"service_name", "checkout"}, before, policy.Decision{KeepOneIn: 1, Frequency: 499, Rule: 2}},
		{"the instant before the end", []string{"service_name", "checkout"}, after.Add(-1), policy.Decision{KeepOneIn: 1, Frequency: 499, Rule: 2}},
		{"expired, so the next rule", []string{"service_name", "checkout"}, after, policy.Decision{KeepOneIn: 10, Rule: 3}},
		{"expired, and no other", []string{"service_name", "checkout", "host_name", "a"}, after, usual},
		{"whole values", []string{"service_name", "a check"}, before, usual},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := p.Decide(labels(c.labels...), c.now); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
	if got := p.NextChange(before); !got.Equal(after) {
		t.Errorf("next change is %v, want %v", got, after)
	}
	if got := p.NextChange(after); !got.IsZero() {
		t.Errorf("next change after the last is %v", got)
	}
	if got := p.Live(after); len(got.Rules) != 2 || got.Version != 7 {
		t.Errorf("live rules are %v", got)
	}
}

// Every fault has its place and says what would be right.
func TestFaults(t *testing.T) {
	rule := func(lines string) string { return "rules:\n  - " + strings.ReplaceAll(lines, "\n", "\n    ") }
	for _, c := range []struct{ name, text, want string }{
		{"empty", "# nothing", "line 1, column 1: the document is empty"},
		{"a list", "- a", "line 1, column 1: this is a list: want fields of the names version and rules"},
		{"no rules", "version: 1", "line 1, column 1: rules is missing"},
		{"rules are text", "rules: all", "line 1, column 8: rules: this is text: want a list"},
		{"a rule is text", "rules:\n  - off", "line 2, column 5: rule 1: this is text: want fields"},
		{"no field", rule("selector: '{}'\nofff: true"), `line 3, column 5: rule 1: "offf" is no field here: want selector, off,`},
		{"two actions", rule("selector: '{}'\noff: true\nrate: 1/2"), "line 2, column 5: rule 1: want exactly one of off, rate and frequency"},
		{"no action", rule("selector: '{}'"), "line 2, column 5: rule 1: want exactly one of"},
		{"no selector", rule("off: true"), "line 2, column 5: rule 1: selector is missing"},
		{"bad selector", rule("selector: '{a=}'\noff: true"), "line 2, column 15: rule 1: selector: unexpected"},
		{"position within", rule("selector: '{a=}'\noff: true"), "at position 4 of the selector"},
		{"empty selector", rule("selector: ''\noff: true"), "empty selector"},
		{"metric name", rule("selector: 'up{a=\"b\"}'\noff: true"), "no metric name: leave out up"},
		{"bad expression", rule("selector: '{a=~\"(\"}'\noff: true"), "missing closing )"},
		{"label of samples", rule("selector: '{http_route=\"/\"}'\noff: true"), "line 2, column 15: rule 1: selector: http_route is a label of single samples"},
		{"threads", rule("selector: '{thread_name=\"x\"}'\noff: true"), "thread_name is a label of single samples"},
		{"long selector", rule("selector: '{a=\"" + strings.Repeat("x", 1100) + "\"}'\noff: true"), "selector of 1106 bytes: want at most 1024"},
		{"off false", rule("selector: '{}'\noff: false"), "line 3, column 10: rule 1: off: want true"},
		{"rate", rule("selector: '{}'\nrate: 2/3"), "line 3, column 11: rule 1: rate: want 1/N"},
		{"rate 0", rule("selector: '{}'\nrate: 1/0"), "rate: want 1/N"},
		{"rate 1001", rule("selector: '{}'\nrate: 1/1001"), "with N from 1 to 1000"},
		{"rate as number", rule("selector: '{}'\nrate: 0.1"), "rate: want 1/N"},
		{"frequency 0", rule("selector: '{}'\nfrequency: 0\nuntil: 2026-11-23T12:01:00Z"), "frequency: want a whole number from 1 to 999"},
		{"frequency 1000", rule("selector: '{}'\nfrequency: 1000\nuntil: 2026-11-23T12:01:00Z"), "from 1 to 999"},
		{"frequency as text", rule("selector: '{}'\nfrequency: '99'\nuntil: 2026-11-23T12:01:00Z"), "from 1 to 999"},
		{"frequency for ever", rule("selector: '{}'\nfrequency: 99"), "until is missing: a frequency is asked for for a time"},
		{"until", rule("selector: '{}'\noff: true\nuntil: tomorrow"), "line 4, column 12: rule 1: until: want an instant as of RFC 3339"},
		{"past", rule("selector: '{}'\noff: true\nuntil: 2026-11-23T12:00:00Z"), "line 2, column 5: rule 1: until: 2026-11-23T12:00:00Z is past"},
		{"too long", rule("selector: '{}'\nfrequency: 99\nuntil: 2026-11-30T12:00:01Z"), "is too far ahead: a frequency may be asked for for 168h0m0s at most"},
		{"reason", rule("selector: '{}'\noff: true\nreason: 42"), "line 4, column 13: rule 1: reason: this is a number: want text, in quotes"},
		{"long reason", rule("selector: '{}'\noff: true\nreason: " + strings.Repeat("x", 257)), "reason: 257 bytes: want at most 256"},
		{"escapes", rule("selector: '{}'\noff: true\nreason: \"\\e[31m\""), "the character U+001B cannot be printed"},
		{"two rules wrong", rule("selector: '{}'\nrate: 9") + "\n  - selector: '{'\n    off: true", "rule 2: selector:"},
		{"two documents", "rules: []\n---\nrules: []", "line 3, column 1: a second document"},
		{"alias", "rules: *all", "without anchors, aliases"},
		{"not YAML", "rules: [\n", "line 1, column 8: not YAML: "},
		{"twice", "rules: []\nrules: []", "line 2, column 1: not YAML: mapping key"},
		{"101 rules", "rules:\n" + strings.Repeat("  - selector: '{}'\n    off: true\n", 101), "101 rules: want at most 100"},
		{"not UTF-8", "rules: \xff", "not UTF-8"},
		{"large", strings.Repeat("#", policy.MaxBytes+1), "262145 bytes: want at most 262144"},

		{"JSON", "{\n  \"rules\": [\n    {\"selector\": \"{}\", \"rate\": \"1/0\"}]}", "line 3, column 32: rule 1: rate: want 1/N"},
		{"JSON after umlauts", "{\"rules\": [{\"reason\": \"äöü\", \"x\": 1}]}", "line 1, column 30: rule 1: \"x\" is no field here"},
		{"broken JSON", "{\"rules\": [\n\t}", "line 2, column 2: not JSON: invalid character '}'"},
		{"cut JSON", "{\"rules\": [", "line 1, column 12: not JSON: the document ends in the middle"},
		{"JSON twice", `{"rules":[],"rules":[]}`, "line 1, column 13: rules is there twice"},
		{"JSON and more", `{"rules":[]} {}`, "there is more after the end"},
		{"deep JSON", `{"rules":` + strings.Repeat("[", 100_000), "nested too deep"},
		{"JSON null", `{"rules":null}`, "rules: this is nothing: want a list"},
		{"JSON frequency", `{"rules":[{"selector":"{}","frequency":1e2}]}`, "line 1, column 40: rule 1: frequency: want a whole number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := policy.ParseYAML([]byte(c.text))
			if err == nil {
				err = p.Check(noon)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is\n%v\nwant\n%s", err, c.want)
			}
		})
	}
}

// All faults are told at once.
func TestAllFaults(t *testing.T) {
	_, err := policy.ParseYAML([]byte("rules:\n  - selector: '{'\n    rate: 3\n  - off: 1\n"))
	faults, ok := err.(policy.Faults)
	if !ok || len(faults) != 3 || faults[0].Rule != 1 || faults[1].Line != 3 || faults[2].Rule != 2 {
		t.Errorf("faults are %#v", err)
	}
}

func TestYAMLAndJSONSayTheSame(t *testing.T) {
	p := parse(t, document)
	if got := p.YAML(); !strings.Contains(got, "reason: 'not ours to look at'") {
		t.Errorf("YAML is\n%s", got)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	fromJSON, err := policy.ParseJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := fromJSON.YAML(), parse(t, p.YAML()).YAML(); a != b || a != p.YAML() {
		t.Errorf("by JSON\n%s\nby YAML\n%s", a, b)
	}
	if got, _ := json.Marshal(policy.Policy{}); string(got) != `{"version":0,"rules":[]}` {
		t.Errorf("the empty policy is %s", got)
	}
}

func boost(t *testing.T, text string) policy.Rule {
	t.Helper()
	r, err := policy.ParseBoost([]byte(text), noon)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBoost(t *testing.T) {
	p := parse(t, document+"  - selector: '{}'\n    off: true\n")
	r := boost(t, `{"selector":"{service_name=\"checkout\"}","frequency":997,"for":"90s","reason":"spike","by":"bob"}`)
	if !r.Until.Equal(noon.Add(90 * time.Second)) {
		t.Errorf("the boost ends at %v", r.Until)
	}
	var got []string
	boosted := p.Boosted(r, noon)
	for _, r := range boosted.Rules {
		got = append(got, fmt.Sprint(r.Selector, " ", r.Off, " ", r.Frequency))
	}
	want := []string{
		`{k8s_namespace_name="secret"} true 0`, `{service_name="checkout"} false 997`,
		`{service_name=~"check.*",host_name!="a"} false 0`, `{} true 0`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("boosted rules are %q, want %q", got, want)
	}
	if len(p.Rules) != 4 || p.Rules[1].Frequency != 499 {
		t.Errorf("the policy before was changed: %v", p.Rules)
	}
	if err := boosted.Check(noon); err != nil {
		t.Error(err)
	}
	if got := (policy.Policy{}).Boosted(r, noon); len(got.Rules) != 1 {
		t.Errorf("first boost: %v", got.Rules)
	}
	for _, c := range []struct{ text, want string }{
		{`{}`, "selector is missing"},
		{`{"selector":"{}","frequency":1,"for":"0s"}`, "line 1, column 38: for: want a time from 1s to 168h0m0s"},
		{`{"selector":"{}","frequency":1,"for":"169h"}`, "for: want a time"},
		{`{"selector":"{}","frequency":1,"for":60}`, "for: want a time"},
		{`{"selector":"{}","frequency":1,"for":"1s","off":true}`, `"off" is no field here: want selector, frequency, for, reason and by`},
	} {
		if _, err := policy.ParseBoost([]byte(c.text), noon); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %s", c.text, err, c.want)
		}
	}
}

func TestChanges(t *testing.T) {
	p := parse(t, document)
	boosted := p.Boosted(boost(t, `{"selector":"{service_name=\"checkout\"}","frequency":997,"for":"90s"}`), noon)
	want := []string{
		"- {service_name=\"checkout\"} frequency: 499, until: 2026-11-23T12:01:00Z, by: 'alice'",
		"+ {service_name=\"checkout\"} frequency: 997, until: 2026-11-23T12:01:30Z",
	}
	if got := policy.Changes(p, boosted); !slices.Equal(got, want) {
		t.Errorf("changes are %q", got)
	}
	turned := policy.Policy{Rules: slices.Clone(p.Rules)}
	slices.Reverse(turned.Rules)
	if got := policy.Changes(p, turned); !slices.Equal(got, []string{"the order of the rules"}) {
		t.Errorf("changes are %q", got)
	}
	if got := policy.Changes(p, p); got != nil {
		t.Errorf("changes are %q", got)
	}
}

// FuzzParse holds that whatever is accepted is written and read again as the same,
// in both forms, and that all of it can be asked.
func FuzzParse(f *testing.F) {
	f.Add([]byte(document))
	f.Add([]byte(`{"version":3,"rules":[{"selector":"{a='b',c!~\"d\"}","rate":"1/3","until":"2026-11-23T12:00:00.25+01:00","reason":"it's","by":"ü"}]}`))
	f.Add([]byte("rules: [{selector: \"{a=`'`}\", off: true}]"))
	f.Add([]byte(`{"rules":[{"x":[[[[[[[[[[`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4096 {
			return // the YAML library is slow with what is long and nested
		}
		p, err := policy.ParseYAML(text)
		if err != nil {
			return
		}
		p.Decide(labels("service_name", "checkout"), noon)
		p.NextChange(noon)
		if live := p.Live(noon); live.NextChange(noon) != p.NextChange(noon) {
			t.Error("rules that have expired change what is next")
		}
		again, err := policy.ParseYAML([]byte(p.YAML()))
		if err != nil || again.YAML() != p.YAML() {
			t.Errorf("%v\n%s\nbecame\n%s", err, p.YAML(), again.YAML())
		}
		asJSON, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if again, err = policy.ParseJSON(asJSON); err != nil || again.YAML() != p.YAML() {
			t.Errorf("%v\n%s\nbecame\n%s", err, asJSON, again.YAML())
		}
	})
}

// FuzzParseJSON reads what a hostile server might answer. What it holds is that
// places lie in the text.
func FuzzParseJSON(f *testing.F) {
	f.Add([]byte("{\"rules\": [\n{\"selector\":\"{}\",\"off\":true}\n,{}]}"))
	f.Add([]byte(`{"version":18446744073709551616}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, err := policy.ParseJSON(text)
		faults, ok := err.(policy.Faults)
		if err != nil && !ok {
			t.Fatalf("error is %T", err)
		}
		lines := strings.Split(string(text), "\n")
		for _, fault := range faults {
			if fault.Line > len(lines) || fault.Line > 0 && fault.Column > len(lines[fault.Line-1])+1 {
				t.Errorf("%v is outside of the text", fault)
			}
		}
	})
}
