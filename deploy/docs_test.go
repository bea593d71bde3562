// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// literals are the texts in our code, those that are put together by + as one.
func literals(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "_bpfel.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if text, ok := joined(n); ok {
				all.WriteString(text + "\n")
				return false
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// joined is the text of a literal or of a sum that has some; what is no literal counts as nothing.
func joined(n ast.Node) (text string, ok bool) {
	switch n := n.(type) {
	case *ast.BasicLit:
		if n.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(n.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		left, one := joined(n.X)
		right, other := joined(n.Y)
		return left + right, n.Op == token.ADD && (one || other)
	}
	return "", false
}

// notOurs are texts on the page that Go, the kernel or HTTP say, or that are patterns.
func notOurs() []string {
	return []string{"401", "403", "507", "connection refused", "unknown authority", "object+0xoffset"}
}

// What the page about troubles quotes as said is said, word for word.
func TestTroubleshootingQuotes(t *testing.T) {
	said := literals(t)
	quoted := regexp.MustCompile("`([^`]+)`")
	quotes := 0
	for line := range strings.Lines(read(t, "../docs/troubleshooting.md")) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		symptom := strings.Split(line, " | ")[0]
		for _, q := range quoted.FindAllStringSubmatch(symptom, -1) {
			text := q[1]
			if strings.HasPrefix(text, "--") || strings.HasPrefix(text, "fleetprof_") || slices.Contains(notOurs(), text) {
				continue
			}
			quotes++
			for part := range strings.SplitSeq(text, "…") {
				if !strings.Contains(said, strings.TrimSpace(part)) {
					t.Errorf("nothing says %q", part)
				}
			}
		}
	}
	if quotes < 30 {
		t.Errorf("%d quotes", quotes)
	}
}

// Links between pages lead to files that there are.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, page := range append(pages, "../README.md") {
		for _, l := range link.FindAllStringSubmatch(read(t, page), -1) {
			if !exists(filepath.Join(filepath.Dir(page), l[1])) {
				t.Errorf("%s leads to %s, which is not there", page, l[1])
			}
		}
		if n := len(regexp.MustCompile(`(?m)^# `).FindAllString(withoutExamples(read(t, page)), -1)); n != 1 {
			t.Errorf("%s has %d headings of the first level", page, n)
		}
	}
}

// withoutExamples takes out what is fenced.
func withoutExamples(text string) string {
	return regexp.MustCompile("(?s)```.*?```").ReplaceAllString(text, "")
}

// The secrets that are to be made before the manifests have the files that these ask for, and
// the certificate is of the name by which agents call the server.
func TestSecrets(t *testing.T) {
	page := read(t, "../docs/operating.md")
	asked, made := regexp.MustCompile(`/etc/fleetprof/([a-z.-]+)`), regexp.MustCompile(`--from-file=(\S+)`)
	for _, name := range []string{"agent", "server"} {
		manifest := read(t, "kubernetes/"+name+".yaml")
		secret := "fleetprof-" + name
		_, rest, ok := strings.Cut(page, "create secret generic "+secret+" ")
		if !ok || !strings.Contains(manifest, "secretName: "+secret+",") {
			t.Errorf("the secret %s is not made, or not mounted", secret)
		}
		line, _, _ := strings.Cut(rest, "\n")
		var want, got []string
		for _, file := range asked.FindAllStringSubmatch(manifest, -1) {
			want = append(want, file[1])
		}
		for _, file := range made.FindAllStringSubmatch(line, -1) {
			got = append(got, file[1])
		}
		slices.Sort(want)
		slices.Sort(got)
		if len(want) < 3 || !slices.Equal(slices.Compact(want), got) {
			t.Errorf("the secret %s has %q, want %q", secret, got, want)
		}
	}
	host := regexp.MustCompile(`--store=https://([^:]+):`).FindStringSubmatch(read(t, "kubernetes/agent.yaml"))
	if host == nil || !strings.Contains(page, "deploy/credentials.sh credentials "+host[1]+"\n") {
		t.Errorf("the certificate is not of %q", host)
	}
}
