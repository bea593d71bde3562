// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/fleetprof/fleetprof/cmd/fleetprof/config"
)

// keysOf makes the table of docs/configuration.md: every key that is a flag, its default,
// the commands that have it, and the flag's help.
func keysOf(app *kong.Application) string {
	rows := make(map[string][]string) // the commands by key, default and help
	for _, node := range append([]*kong.Node{app.Node}, app.Children...) {
		for _, f := range node.Flags {
			if slices.Contains(config.Keys(app), f.Name) {
				row := fmt.Sprintf("| `%s` | %s | %%s | %s |\n", f.Name, quoted(f.Default), strings.ReplaceAll(f.Help, "%", "%%"))
				rows[row] = append(rows[row], node.Name)
			}
		}
	}
	table := "| key | default | of | meaning |\n|---|---|---|---|\n"
	for _, row := range slices.Sorted(maps.Keys(rows)) {
		of := strings.Join(rows[row], ", ")
		if of == app.Name {
			of = "all"
		}
		table += fmt.Sprintf(row, of)
	}
	return table
}

func quoted(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

// Every key is on the page about the configuration, with what --help says of it. The
// flag -update writes the table anew.
func TestConfigurationPage(t *testing.T) {
	const page, begin, end = "../../docs/configuration.md", "<!-- keys -->\n", "<!-- end of keys -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	table, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no table of keys", page)
	}
	i, err := readCommandLine([]string{"doctor"}, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	want := keysOf(i.context.Model)
	if *update {
		if err := os.WriteFile(page, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != want {
		t.Errorf("the table of keys in %s is not that of the flags; write it with\ngo test ./cmd/fleetprof -run TestConfigurationPage -update", page)
	}
	if !strings.Contains(after, "`relabel_configs`") {
		t.Error("relabel_configs is not explained")
	}
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1)
	for _, example := range examples {
		f, err := config.Parse(page, example[1])
		if err == nil {
			err = f.Check(i.context.Model)
		}
		if err != nil {
			t.Errorf("%v in\n%s", err, example[1])
		}
	}
	if len(examples) < 2 {
		t.Errorf("%d examples", len(examples))
	}
}
