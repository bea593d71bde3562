// SPDX-License-Identifier: Apache-2.0

package fleetprof_test

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sourceFiles lists the files of the tree that end in one of the suffixes, but
// not what tests are fed with.
func sourceFiles(t *testing.T, suffixes ...string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git") {
			return fs.SkipDir
		}
		matches := func(suffix string) bool { return strings.HasSuffix(path, suffix) }
		if !d.IsDir() && slices.ContainsFunc(suffixes, matches) {
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// head returns the first lines of a file.
func head(t *testing.T, path string, lines int) (text string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); lines > 0 && s.Scan(); lines-- {
		text += s.Text() + "\n"
	}
	return text
}

func generated(text string) bool { return strings.HasPrefix(text, "// Code generated ") }

// Every source file says under which licence it stands: Go in its first line,
// others where their comments begin.
func TestLicenceLines(t *testing.T) {
	for _, path := range sourceFiles(t, ".go", ".c", ".h", ".js", ".css", ".html", "Makefile") {
		const mark = "SPDX-License-Identifier: "
		isGo, top := strings.HasSuffix(path, ".go"), head(t, path, 3)
		switch {
		case generated(top):
		case isGo && !strings.HasPrefix(top, "// "+mark+"Apache-2.0\n"):
			t.Errorf("%s: the first line is not // %sApache-2.0", path, mark)
		case !strings.Contains(top, mark):
			t.Errorf("%s: no %sin the first three lines", path, mark)
		}
	}
}

// measure is how many lines something has.
type measure struct {
	what  string
	lines int
}

// The code as a whole keeps to these lengths; what is far longer than most gets
// a second look, which `go test -v` lists.
func TestMeasures(t *testing.T) {
	files, functions := measures(t)
	for _, m := range []struct {
		name           string
		all            []measure
		ninetieth, too int
	}{
		{"file", files, 400, 600},
		{"function", functions, 45, 80},
	} {
		slices.SortFunc(m.all, func(a, b measure) int { return a.lines - b.lines })
		at := m.all[len(m.all)*9/10]
		t.Logf("%d %ss: median %d lines, 90th percentile %d", len(m.all), m.name, m.all[len(m.all)/2].lines, at.lines)
		if at.lines > m.ninetieth {
			t.Errorf("the 90th percentile of a %s's lines is %d, want at most %d", m.name, at.lines, m.ninetieth)
		}
		for _, long := range m.all {
			if long.lines > m.too {
				t.Logf("look again: %s has %d lines", long.what, long.lines)
			}
		}
	}
}

// measures counts the lines of files and functions, tests and generated code
// left out.
func measures(t *testing.T) (files, functions []measure) {
	t.Helper()
	set := token.NewFileSet()
	for _, path := range sourceFiles(t, ".go") {
		if strings.HasSuffix(path, "_test.go") || generated(head(t, path, 1)) {
			continue
		}
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		lines := func(n ast.Node) int { return set.Position(n.End()).Line - set.Position(n.Pos()).Line + 1 }
		files = append(files, measure{path, set.File(file.FileStart).LineCount()})
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				functions = append(functions, measure{path + ": " + f.Name.Name, lines(f)})
			}
		}
	}
	return files, functions
}
