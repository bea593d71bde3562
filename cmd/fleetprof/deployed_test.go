// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	goyaml "github.com/goccy/go-yaml"
)

// credentials makes with the script of deploy/ what a server at 127.0.0.1 and its agents need,
// and returns what the script says.
func credentials(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("../../deploy/credentials.sh", dir, "127.0.0.1", "localhost").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// deployed is a command line in deploy/, with the variables beside it.
type deployed struct {
	from, command   string
	args, variables []string
}

// inPods reads the containers of a manifest.
func inPods(t *testing.T, path string) (all []deployed) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for decoder := goyaml.NewDecoder(bytes.NewReader(text)); ; {
		var m struct {
			Spec struct {
				Template struct {
					Spec struct {
						Containers []struct {
							Args []string
							Env  []struct{ Name string }
						}
					}
				}
			}
		}
		err := decoder.Decode(&m)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range m.Spec.Template.Spec.Containers {
			d := deployed{from: path, command: c.Args[0], args: c.Args}
			for _, v := range c.Env {
				d.variables = append(d.variables, v.Name)
			}
			all = append(all, d)
		}
	}
}

// composed reads our services of the compose file.
func composed(t *testing.T, path string) (all []deployed) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Services map[string]struct{ Image, Command any }
	}
	if err := goyaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Services {
		if !strings.Contains(s.Image.(string), "fleetprof") {
			continue
		}
		d := deployed{from: path}
		for _, arg := range s.Command.([]any) {
			d.args = append(d.args, arg.(string))
		}
		d.command = d.args[0]
		all = append(all, d)
	}
	return all
}

// asUnits reads what systemd starts. The configuration files go to dir.
func asUnits(t *testing.T, folder, dir string) (all []deployed) {
	t.Helper()
	for _, name := range []string{"agent", "server"} {
		config, err := os.ReadFile(filepath.Join(folder, name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		config = bytes.ReplaceAll(config, []byte("/etc/fleetprof"), []byte(dir))
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), config, 0o600); err != nil {
			t.Fatal(err)
		}
		unit, err := os.ReadFile(filepath.Join(folder, "fleetprof-"+name+".service"))
		if err != nil {
			t.Fatal(err)
		}
		line := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/fleetprof (.*)$`).FindSubmatch(unit)
		if line == nil {
			t.Fatalf("%s starts nothing", name)
		}
		all = append(all, deployed{from: folder, command: name, args: strings.Fields(string(line[1]))})
	}
	return all
}

// The command lines of deploy/ are such that fleetprof takes them, with the files that
// credentials.sh makes.
func TestDeployedCommands(t *testing.T) {
	dir := t.TempDir()
	credentials(t, dir)
	all := slices.Concat(inPods(t, "../../deploy/kubernetes/agent.yaml"), inPods(t, "../../deploy/kubernetes/server.yaml"),
		composed(t, "../../deploy/compose.yaml"), asUnits(t, "../../deploy/systemd", dir))
	if len(all) != 6 {
		t.Errorf("%d command lines: %v", len(all), all)
	}
	for _, d := range all {
		for i, arg := range d.args {
			d.args[i] = strings.ReplaceAll(arg, "/etc/fleetprof", dir)
		}
		i, err := readCommandLine(d.args, io.Discard, io.Discard, func(int) {})
		if err != nil {
			t.Errorf("%s: fleetprof %s: %v", d.from, strings.Join(d.args, " "), err)
			continue
		}
		if i.context.Selected().Name != d.command {
			t.Errorf("%s: fleetprof %s", d.from, i.context.Selected().Name)
		}
		for _, v := range d.variables {
			if !slices.ContainsFunc(i.context.Selected().Flags, func(f *kong.Flag) bool { return slices.Contains(f.Envs, v) }) {
				t.Errorf("%s: no flag of %s has the variable %s", d.from, d.command, v)
			}
		}
	}
}
