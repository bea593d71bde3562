// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/alecthomas/units"
)

// testCLI has a flag of each type that the program has.
type testCLI struct {
	Config    string           `default:""`
	Frequency int              `default:"19"`
	PID       uint32           `name:"pid"`
	Window    time.Duration    `default:"10s"`
	Memory    units.Base2Bytes `name:"memory-budget" default:"128MiB"`
	Requests  bool             `default:"true" negatable:""`
	Store     []string
	Hostname  string
	Format    string `enum:"text,json" default:"text"`
}

func newParser(t testing.TB, cli *testCLI) *kong.Kong {
	t.Helper()
	parser, err := kong.New(cli, kong.Name("test"), kong.DefaultEnvars("CONFIG_TEST"), kong.Writers(io.Discard, io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	return parser
}

// rule is a file with one rule.
func rule(fields string) string { return "relabel_configs:\n- " + fields + "\n" }

// badFiles are files with what is said about them.
var badFiles = []struct{ name, text, want string }{
	// YAML
	{"a list", "- a\n- b\n", "1:1: not a mapping: write lines such as `frequency: 19`"},
	{"a text", "frequency:19\n", "1:1: not a mapping: write lines such as `frequency: 19`"},
	{"two colons", "window: 10s: 5s\n", "1:9: mapping value is not allowed in this context"},
	{"indentation", "window: 10s\n frequency: 19\n", "1:9: mapping value is not allowed in this context"},
	{"tab", "store:\n\t- a\n", "2:1: found character '\t' that cannot start any token"},
	{"bracket not closed", "store: [a, b\n", "1:8: sequence end token ']' not found"},
	{"quote not closed", "hostname: 'a\n", "1:11: could not find end character of single-quoted text"},
	{"escape", `hostname: "\q"`, "1:13: found unknown escape character 'q'"},
	{"key twice", "frequency: 1\nwindow: 1s\nfrequency: 2\n", `3:1: mapping key "frequency" already defined at [1:1]`},
	{"two documents", "frequency: 1\n---\nwindow: 1s\n", "3:1: a second document: there must be only one"},
	{"not UTF-8", "frequency: 1\nhostname: \xfcber\n", "2:11: not UTF-8"},
	{"nested", "store: " + strings.Repeat("[", 100), "1:24: values are nested too deep"},
	{"merge key", "<<: {a: b}\n", "1:1: a key must be a plain name"},
	{"number as key", "12: a\n", "1:1: a key must be a plain name"},

	// keys
	{"unknown key", "colour: red\n", `1:1: unknown key "colour"`},
	{"misspelt key", "# a comment\nfrequenzy: 19\n", `2:1: unknown key "frequenzy": did you mean "frequency"?`},
	{"underscore", "memory_budget: 64MiB\n", `1:1: unknown key "memory_budget": did you mean "memory-budget"?`},
	{"negated", "no-requests: true\n", `1:1: unknown key "no-requests": did you mean "requests"?`},
	{"the file itself", "config: x.yaml\n", `1:1: unknown key "config"`},

	// values
	{"text for a number", "frequency: fast\n", `1:12: frequency must be a value such as 19, not "fast"`},
	{"fraction for a number", "frequency: 19.5\n", `1:12: frequency must be a value such as 19, not "19.5"`},
	{"negative for a count", "pid: -1\n", `1:6: pid must be a whole number, not "-1"`},
	{"number for a duration", "window: 10\n", `1:9: window must be a value such as 10s, not "10"`},
	{"unit of a size", "memory-budget: 128 pounds\n", `1:16: memory-budget must be a value such as 128MiB, not "128 pounds"`},
	{"text for a switch", "requests: maybe\n", `1:11: requests must be true or false, not "maybe"`},
	{"list for one value", "window: [10s]\n", "1:9: window must be a value such as 10s, not a list"},
	{"mapping for a list", "store:\n  url: a\n", "2:3: store must be a list such as [a, b], not a mapping"},
	{"list in a list", "store: [a, [b]]\n", "1:12: store must be a list of texts, not of a list"},
	{"nothing", "window: 1s\nfrequency:\n", "2:1: frequency must be a value such as 19, not nothing"},
	{"mapping for a text", "hostname: {a: b}\n", "1:11: hostname must be a text, not a mapping"},
	{"not one of", "format: xml\n", `1:9: format must be one of text, json, not "xml"`},
	{"alias", "hostname: &a x\nformat: *a\n", "1:11: hostname must be a text, not an anchor or alias, which are not supported"},
	{"tag", "frequency: !!int 19\n", "1:12: frequency must be a value such as 19, not a tag, which is not supported"},

	// rules
	{"rules: one", "relabel_configs:\n  action: drop\n", "2:3: relabel_configs must be a list of rules, not a mapping"},
	{"rules: nothing", "frequency: 1\nrelabel_configs:\n", "2:1: relabel_configs must be a list of rules, not nothing"},
	{"rule: a text", rule("drop"), "2:3: a rule must be a mapping such as `action: drop`, not \"drop\""},
	{"rule: unknown field", rule("source_label: [a]"), `2:3: unknown field "source_label" of a rule: did you mean "source_labels"?`},
	{"rule: field twice", rule("action: drop\n  action: keep"), `3:3: mapping key "action" already defined at [2:3]`},
	{"rule: unknown action", rule("regex: a\n  action: dorp"), `3:11: unknown action "dorp": it is one of replace, lowercase, uppercase, keep, drop, keepequal, dropequal, hashmod, labelmap, labeldrop, labelkeep`},
	{"rule: sources", rule("source_labels: a"), `2:18: source_labels must be a list such as [a, b], not "a"`},
	{"rule: name of a source", rule("source_labels: [a, b-c]\n  target_label: d"), `2:18: "b-c" is not the name of a label`},
	{"rule: regex", rule("regex: '(a'\n  target_label: d"), "2:10: error parsing regexp: missing closing ): `^(?s:(a)$`"},
	{"rule: regex of nothing", rule("regex:\n  action: drop"), `2:3: regex must be a text such as "", not nothing`},
	{"rule: regex as a list", rule("regex: [a]\n  action: drop"), `2:10: regex must be a text such as "", not a list`},
	{"rule: modulus", rule("modulus: many"), `2:12: modulus must be a whole number such as 8, not "many"`},
	{"rule: modulus of 0", rule("action: hashmod\n  target_label: a\n  modulus: 0"), "4:12: relabel configuration for hashmod requires non-zero modulus"},
	{"rule: no modulus", rule("action: hashmod\n  target_label: a"), "2:3: relabel configuration for hashmod requires non-zero modulus"},
	{"rule: no target", rule("{action: drop}\n- source_labels: [a]"), "3:3: relabel configuration for replace action requires 'target_label' value"},
	{"rule: name of the target", rule("target_label: a-b"), `2:17: "a-b" is invalid 'target_label' for replace action`},
	{"rule: replacement of lowercase", rule("{action: lowercase, target_label: a, replacement: b}"), "2:53: 'replacement' can not be set for lowercase action"},
	{"rule: replacement of labelmap", rule("action: labelmap\n  replacement: a-b"), `3:16: "a-b" is invalid 'replacement' for labelmap action`},
	{"rule: too much for labeldrop", rule("action: labeldrop\n  regex: a\n  target_label: b"), "2:3: labeldrop action requires only 'regex', and no other fields"},
	{"rule: too much for dropequal", rule("{action: dropequal, target_label: b, regex: c}"), "2:3: dropequal action requires only 'source_labels' and `target_label`, and no other fields"},
	{"rule: target of single samples", rule("target_label: thread_name"), "2:17: " + ofSample("thread_name")},
	{"rule: source of single samples", rule("source_labels: [http_route]\n  target_label: a"), "2:18: " + ofSample("http_route")},
	{"rule: drop of single samples", rule("action: labeldrop\n  regex: request_attribution"), "3:10: " + ofSample("request_attribution")},
	{"rule: map to single samples", rule("action: labelmap\n  replacement: rpc_method"), "3:16: " + ofSample("rpc_method")},
}

func ofSample(name string) string {
	return name + " may differ between samples of one process, and rules are asked once for a process: it can be selected by in queries only"
}

// What is wrong is said with its place, and with what would be right.
func TestBadFiles(t *testing.T) {
	parser := newParser(t, new(testCLI))
	for _, tt := range badFiles {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse("f.yaml", []byte(tt.text))
			if err == nil {
				err = f.Check(parser.Model)
			}
			var bad *Error
			if !errors.As(err, &bad) {
				t.Fatalf("no error with a place: %v", err)
			}
			if got, want := err.Error(), "f.yaml:"+tt.want; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// load parses a command line with a file.
func load(t *testing.T, text string, args ...string) (cli testCLI) {
	t.Helper()
	f, err := Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	parser := newParser(t, &cli)
	if err := f.Check(parser.Model); err != nil {
		t.Fatal(err)
	}
	if err := kong.Bind(f).Apply(parser); err != nil {
		t.Fatal(err)
	}
	if err := kong.Resolvers(f).Apply(parser); err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil {
		t.Fatal(err)
	}
	return cli
}

// Every type of flag can be given, in each way that YAML has to write it.
func TestValues(t *testing.T) {
	got := load(t, "\ufeff# all of it\r\nfrequency: 0x10\r\npid: 7\r\nwindow: 1m30s # comment\r\nmemory-budget: \"64MiB\"\r\nrequests: false\r\n"+
		"store:\r\n- http://a?b=c,d\r\n- 'dir:/x'\r\nhostname: 007\r\nformat: json\r\n")
	want := testCLI{
		Frequency: 16, PID: 7, Window: 90 * time.Second, Memory: 64 << 20, Store: []string{"http://a?b=c,d", "dir:/x"}, Hostname: "007", Format: "json",
	}
	if got.Frequency != want.Frequency || got.PID != want.PID || got.Window != want.Window || got.Memory != want.Memory || got.Requests ||
		strings.Join(got.Store, " ") != strings.Join(want.Store, " ") || got.Hostname != want.Hostname || got.Format != want.Format {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := load(t, "store: dir:/x\n"); len(got.Store) != 1 || got.Store[0] != "dir:/x" {
		t.Errorf("one store: %q", got.Store)
	}
	for _, empty := range []string{"", "# nothing\n", "---\n", "\n\n"} {
		if got := load(t, empty); got.Frequency != 19 {
			t.Errorf("%q: %+v", empty, got)
		}
	}
}

// The command line goes before the environment, that before the file, that before the
// default: each step of it, with each one above absent.
func TestPrecedence(t *testing.T) {
	const file = "frequency: 3\nstore: [file]\nrequests: false\n"
	t.Setenv("CONFIG_TEST_FREQUENCY", "2")
	t.Setenv("CONFIG_TEST_STORE", "env,ironment")
	t.Setenv("CONFIG_TEST_REQUESTS", "true")
	if got := load(t, file, "--frequency=1", "--store=flag", "--no-requests"); got.Frequency != 1 || strings.Join(got.Store, " ") != "flag" || got.Requests {
		t.Errorf("flags: %+v", got)
	}
	if got := load(t, file); got.Frequency != 2 || strings.Join(got.Store, " ") != "env ironment" || !got.Requests {
		t.Errorf("environment: %+v", got)
	}
	for _, name := range []string{"FREQUENCY", "STORE", "REQUESTS"} {
		os.Unsetenv("CONFIG_TEST_" + name)
	}
	if got := load(t, file); got.Frequency != 3 || strings.Join(got.Store, " ") != "file" || got.Requests {
		t.Errorf("file: %+v", got)
	}
	if got := load(t, ""); got.Frequency != 19 || got.Store != nil || !got.Requests {
		t.Errorf("defaults: %+v", got)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	large := t.TempDir() + "/large.yaml"
	if err := os.WriteFile(large, []byte("# "+strings.Repeat("x", maxBytes)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		large: "is larger than 1 MiB", "/dev/null": "is no regular file", t.TempDir(): "is no regular file", "/nowhere/f.yaml": "no such file",
	} {
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want one of path and %q", path, err, want)
		}
	}
}

// No text makes the reader fail in any other way than by an error that has a place
// within the text; and what it takes, it takes a second time.
func FuzzParse(f *testing.F) {
	for _, tt := range badFiles {
		f.Add([]byte(tt.text))
	}
	for _, tt := range relabelCases {
		f.Add([]byte("relabel_configs:\n" + indented(tt.rules)))
	}
	f.Add([]byte("frequency: 19\nstore: [a, \"b\"]\nhostname: |\n  x\n"))
	parser := newParser(f, new(testCLI))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Parse("f.yaml", text)
		if err == nil {
			err = file.Check(parser.Model)
		}
		if err == nil {
			return
		}
		var bad *Error
		if !errors.As(err, &bad) {
			t.Fatalf("no place in %v", err)
		}
		if lines := strings.Count(string(text), "\n") + strings.Count(string(text), "\r") + 2; bad.Line < 1 || bad.Line > lines || bad.Column < 1 {
			t.Errorf("%v is outside of %d lines", err, lines)
		}
	})
}
