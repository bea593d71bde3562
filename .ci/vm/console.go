// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
)

// session is what a machine's console told.
type session struct {
	release  string // of the kernel
	packages []testRun
	problem  string // why the session is not whole
	rest     string // what belongs to no package: the kernel's words
}

// testRun is one test binary.
type testRun struct {
	name   string
	exit   string // its exit code; empty if it never ended
	output string // as -test.v=test2json makes it
}

// mark begins what init says. A test may have left its last line open, so it
// need not stand at the start of a line.
const mark = "fleetprof-vm: "

// readConsole takes a console apart.
func readConsole(text string) session {
	s := session{problem: "the machine ended before the tests did"}
	var running *testRun
	for line := range strings.Lines(text) {
		before, said, _ := strings.Cut(strings.ReplaceAll(line, "\r\n", "\n"), mark)
		if running != nil {
			running.output += before
		} else {
			s.rest += before
		}
		switch word, value, _ := strings.Cut(strings.TrimSpace(said), " "); word {
		case "kernel":
			s.release = value
		case "start":
			s.packages = append(s.packages, testRun{name: value})
			running = &s.packages[len(s.packages)-1]
		case "exit":
			if running != nil {
				running.exit, running = value, nil
			}
		case "error":
			s.problem = "init: " + value
			return s
		case "end":
			s.problem = ""
		}
	}
	return s
}

// result is how one test ended.
type result struct {
	test   string
	action string // pass, fail, skip
	said   []string
}

// results understands the output of a test binary by the means that `go test`
// has for it. A package that did not end well has a failure among its results.
func (r testRun) results() ([]result, error) {
	cmd := exec.Command("go", "tool", "test2json")
	cmd.Stdin = strings.NewReader(r.output)
	events, err := output(cmd)
	if err != nil {
		return nil, err
	}
	var all []result
	said := make(map[string][]string) // by test under way; "" is the package itself
	failed := false
	for decoder := json.NewDecoder(strings.NewReader(events)); ; {
		var e struct{ Action, Test, Output string }
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read output of test2json: %w", err)
		}
		switch e.Action {
		case "run":
			said[e.Test] = nil
		case "output":
			if line := strings.TrimSpace(e.Output); !isStatus(line) {
				said[e.Test] = append(said[e.Test], line)
			}
		case "pass", "fail", "skip":
			if e.Test != "" {
				all = append(all, result{e.Test, e.Action, said[e.Test]})
				delete(said, e.Test)
				failed = failed || e.Action == "fail"
			}
		}
	}
	if r.exit == "" || r.exit != "0" && !failed {
		all = append(all, r.failure(said))
	}
	return all, nil
}

// failure is the result of a test binary that did not end, or ended badly though
// no test failed, with what was said by the tests that had begun.
func (r testRun) failure(said map[string][]string) result {
	how := "ended with exit code " + r.exit
	if r.exit == "" {
		how = "did not end"
	}
	lines := []string{how}
	for _, test := range slices.Sorted(maps.Keys(said)) {
		lines = append(append(lines, test), said[test]...)
	}
	return result{"(all)", "fail", lines}
}

// isStatus tells whether a line of a test's output only says how it stands.
func isStatus(line string) bool {
	return line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ")
}
