// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml/ast"
)

// FlagError says what is wrong with the value of a flag. Wherever the value was given,
// [File.Locate] finds out whether that was in the file.
type FlagError struct {
	Flag string // without the dashes
	Err  error
}

// Error names the flag as on the command line.
func (e *FlagError) Error() string { return "--" + e.Flag + " " + e.Err.Error() }

func (e *FlagError) Unwrap() error { return e.Err }

// flags lists the flags of a name in all commands. Those that are about this very
// command line are not for a file.
func flags(app *kong.Application) map[string][]*kong.Flag {
	all := make(map[string][]*kong.Flag)
	// The visitor fails only if its function does.
	_ = kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		flag, ok := node.(*kong.Flag)
		if ok && flag.Name != "help" && flag.Name != "version" && flag.Name != "config" {
			all[flag.Name] = append(all[flag.Name], flag)
		}
		return next(nil)
	})
	return all
}

// Keys lists the keys that a file may have, given the flags of the program.
func Keys(app *kong.Application) []string {
	keys := []string{keyRelabel}
	for name := range flags(app) {
		keys = append(keys, name)
	}
	slices.Sort(keys)
	return keys
}

// Check refuses keys that are no flag of any command, and values that are not of
// their flags' types.
func (f *File) Check(app *kong.Application) error {
	known := flags(app)
	for _, entry := range f.entries {
		name := keyOf(entry)
		if len(known[name]) == 0 {
			return f.at(entry.Key, "unknown key %.60q%s", name, suggestion(name, Keys(app)))
		}
		for _, flag := range known[name] {
			if err := f.check(entry, flag); err != nil {
				return err
			}
		}
	}
	return nil
}

// check tries whether a flag takes a value.
func (f *File) check(entry *ast.MappingValueNode, flag *kong.Flag) error {
	value, err := f.value(entry, flag)
	if err != nil {
		return err
	}
	target := reflect.New(flag.Target.Type()).Elem()
	err = flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: kong.Scan().PushTyped(value, kong.FlagValueToken)}, target)
	if err != nil || flag.Enum != "" && !flag.EnumMap()[fmt.Sprint(target)] {
		return f.of(entry, "must be %s, not %s", wanted(flag), kind(entry.Value))
	}
	return nil
}

// value gives the value of an entry as the flag's decoder takes it: a text, or a list
// of texts.
func (f *File) value(entry *ast.MappingValueNode, flag *kong.Flag) (any, error) {
	single, plain := text(entry.Value)
	switch {
	case flag.IsSlice() && !plain:
		list, err := f.list(entry)
		values := make([]any, len(list))
		for i := range list {
			values[i] = list[i]
		}
		return values, err
	case flag.IsSlice():
		return []any{single}, nil
	case !plain:
		return nil, f.of(entry, "must be %s, not %s", wanted(flag), kind(entry.Value))
	}
	return single, nil
}

// of says what is wrong with the value of a key.
func (f *File) of(entry *ast.MappingValueNode, format string, args ...any) error {
	at := entry.Value
	if _, nothing := at.(*ast.NullNode); nothing {
		at = entry.Key // a value that is not there has no place
	}
	return f.at(at, "%s %s", keyOf(entry), fmt.Sprintf(format, args...))
}

// wanted says what values a flag takes.
func wanted(flag *kong.Flag) string {
	switch {
	case flag.Enum != "":
		return "one of " + strings.Join(flag.EnumSlice(), ", ")
	case flag.IsSlice():
		return "a list such as [a, b]"
	case flag.IsBool():
		return "true or false"
	case flag.Target.Type() == reflect.TypeFor[string]():
		return "a text"
	case flag.Default != "":
		return "a value such as " + flag.Default
	}
	return "a whole number"
}

// Validate does nothing: a file was checked before its values were used.
func (f *File) Validate(*kong.Application) error { return nil }

// Resolve gives a flag its value from the file; nil where the file is silent
// or an environment variable speaks: that goes before the file, and the
// command line before both.
func (f *File) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	entry := f.entry(flag.Name)
	if entry == nil || fromEnvironment(flag) {
		return nil, nil
	}
	return f.value(entry, flag)
}

func fromEnvironment(flag *kong.Flag) bool {
	return slices.ContainsFunc(flag.Envs, func(name string) bool {
		_, set := os.LookupEnv(name)
		return set
	})
}

// entry is the line about a flag; nil if there is none.
func (f *File) entry(name string) *ast.MappingValueNode {
	i := slices.IndexFunc(f.entries, func(e *ast.MappingValueNode) bool { return keyOf(e) == name })
	if i < 0 {
		return nil
	}
	return f.entries[i]
}

// Locate puts the place in the file before a [FlagError] about a value that came from
// there. Any other error is returned as it is.
func (f *File) Locate(context *kong.Context, err error) error {
	var bad *FlagError
	if f == nil || context == nil || !errors.As(err, &bad) {
		return err
	}
	for _, path := range context.Path {
		if path.Flag != nil && path.Flag.Name == bad.Flag && path.Resolved {
			return f.of(f.entry(bad.Flag), "%s", bad.Err)
		}
	}
	return err
}

// suggestion is a question about the name that was perhaps meant.
func suggestion(name string, names []string) string {
	const longest = 64 // the distance costs the product of both lengths
	if len(name) > longest {
		return ""
	}
	best := slices.MinFunc(names, func(a, b string) int { return cmp.Compare(distance(name, a), distance(name, b)) })
	if distance(name, best) > 1+len(name)/4 {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", best)
}

// distance is the number of characters to insert, delete or replace that make a of b
// (Levenshtein 1965).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
