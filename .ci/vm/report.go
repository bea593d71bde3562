// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
)

// verdict is what became of one kernel.
type verdict struct {
	kernel   kernel
	release  string
	packages []packageVerdict
	failures []string // that are no test's: not to be had, did not boot, …
}

// packageVerdict is what became of one package on one kernel.
type packageVerdict struct {
	name    string
	results []result
}

// judge makes a verdict of a session; err is why there is none, or no more.
func judge(k kernel, s session, err error) verdict {
	v := verdict{kernel: k, release: s.release}
	for _, run := range s.packages {
		results, err := run.results()
		if err != nil {
			v.failures = append(v.failures, err.Error())
		}
		v.packages = append(v.packages, packageVerdict{run.name, results})
	}
	switch {
	case err != nil:
		v.failures = append(v.failures, err.Error(), s.rest)
	case s.problem != "":
		v.failures = append(v.failures, s.problem, s.rest)
	}
	return v
}

func (p packageVerdict) count(action string) (n int) {
	for _, r := range p.results {
		// A test within a test does not count.
		if r.action == action && !strings.Contains(r.test, "/") {
			n++
		}
	}
	return n
}

// cell is a package's place in the table.
func (v verdict) cell(name string) string {
	i := slices.IndexFunc(v.packages, func(p packageVerdict) bool { return p.name == path.Clean(name) })
	if i < 0 {
		return "not run"
	}
	p := v.packages[i]
	text := fmt.Sprintf("%d pass", p.count("pass"))
	if n := p.count("skip"); n > 0 {
		text += fmt.Sprintf(", %d skip", n)
	}
	if n := p.count("fail"); n > 0 {
		text += fmt.Sprintf(", %d FAIL", n)
	}
	return text
}

func (v verdict) ok(packages int) bool {
	for _, p := range v.packages {
		if p.count("fail") > 0 {
			return false
		}
	}
	return len(v.failures) == 0 && len(v.packages) == packages
}

// print tells of every test of a kernel: the name if it passed in silence, also
// what it said if not.
func (v verdict) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s: Linux %s\n", v.kernel, v.release)
	for _, p := range v.packages {
		var silent []string
		for _, r := range p.results {
			switch {
			case r.action != "pass" || len(r.said) > 0:
				fmt.Fprintf(w, "%s %s %s\n", r.action, p.name, r.test)
				for _, line := range r.said {
					fmt.Fprintf(w, "\t%s\n", line)
				}
			case !strings.Contains(r.test, "/"):
				silent = append(silent, r.test)
			}
		}
		fmt.Fprintf(w, "pass %s %s\n", p.name, strings.Join(silent, " "))
	}
	for _, text := range v.failures {
		fmt.Fprintf(w, "fail %s\n", strings.TrimSpace(text))
	}
}

// printTable sums up: a row for each kernel, a column for each package. It
// reports whether all is well.
func printTable(w io.Writer, verdicts []verdict, packages []string) (ok bool) {
	ok = true
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(append([]string{"kernel", "release"}, packages...), "\t"))
	for _, v := range verdicts {
		row := []string{v.kernel.String(), v.release}
		for _, name := range packages {
			row = append(row, v.cell(name))
		}
		if !v.ok(len(packages)) {
			ok = false
			row = append(row, "FAIL")
		}
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	table.Flush()
	return ok
}
