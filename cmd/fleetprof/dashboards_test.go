// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
)

// checkDashboards has Prometheus' own parser read what the dashboards and the alerts of
// docs/metrics.md ask for, and holds metrics and labels in it against those that there are.
func checkDashboards(t *testing.T, known map[string]documented) {
	paths, err := filepath.Glob("../../deploy/grafana/dashboards/*.json")
	if err != nil || len(paths) != 2 {
		t.Fatalf("dashboards %q, %v", paths, err)
	}
	for _, path := range append(paths, "../../docs/metrics.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all := alerts(text)
		if strings.HasSuffix(path, ".json") {
			all = expressions(t, text)
		}
		if len(all) < 5 {
			t.Errorf("%s asks for little: %q", path, all)
		}
		for _, e := range all {
			for _, fault := range checkExpression(known, e) {
				t.Errorf("%s: %s: %s", filepath.Base(path), e, fault)
			}
		}
	}
}

// expressions are the PromQL of a dashboard, with its variables as Grafana would fill them in.
func expressions(t *testing.T, dashboard []byte) (all []string) {
	t.Helper()
	var d struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(dashboard, &d); err != nil {
		t.Fatal(err)
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			if target.Expr != "" {
				all = append(all, strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(target.Expr))
			}
		}
	}
	return all
}

// alerts are the expressions in the first table of the page.
func alerts(page []byte) (all []string) {
	for _, found := range regexp.MustCompile("(?m)^\\| `(.+)` \\| [^|]+ \\|$").FindAllSubmatch(page, -1) {
		all = append(all, string(found[1]))
	}
	return all
}

// checkExpression lists what an expression asks for that there is not.
func checkExpression(known map[string]documented, text string) (faults []string) {
	e, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		return []string{err.Error()}
	}
	parser.Inspect(e, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			labels, ok := labelsOf(known, n.Name)
			if !ok {
				faults = append(faults, "no agent or server has "+n.Name)
			}
			for _, m := range n.LabelMatchers {
				if ok && !slices.Contains(labels, m.Name) {
					faults = append(faults, n.Name+" has no label "+m.Name)
				}
			}
		case *parser.AggregateExpr:
			for _, name := range selected(n.Expr) {
				labels, ok := labelsOf(known, name)
				for _, by := range n.Grouping {
					if ok && !slices.Contains(labels, by) {
						faults = append(faults, name+" has no label "+by)
					}
				}
			}
		}
		return nil
	})
	return faults
}

// selected are the metrics below a part of an expression.
func selected(e parser.Expr) (names []string) {
	parser.Inspect(e, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			names = append(names, s.Name)
		}
		return nil
	})
	return names
}

// labelsOf gives the labels of a metric, or of the part of a histogram or summary, with those
// that Prometheus adds.
func labelsOf(known map[string]documented, name string) (labels []string, ok bool) {
	labels = []string{"__name__", "instance", "job"}
	if strings.HasPrefix(name, "process_") {
		return labels, true
	}
	for _, part := range []string{"", "_bucket", "_sum", "_count"} {
		if m, is := known[strings.TrimSuffix(name, part)]; is && strings.HasSuffix(name, part) {
			if part == "_bucket" {
				labels = append(labels, "le")
			}
			return append(labels, m.labels...), true
		}
	}
	return nil, false
}

// What is wrong with an expression is found.
func TestExpressionsWithMistakes(t *testing.T) {
	known := map[string]documented{
		"fleetprof_a_total":   {name: "fleetprof_a_total", labels: []string{"reason"}},
		"fleetprof_b_seconds": {name: "fleetprof_b_seconds", labels: []string{"endpoint"}},
	}
	for text, want := range map[string]string{
		`sum by (reason, job) (rate(fleetprof_a_total{instance=~".*"}[5m]))`:                          "",
		`histogram_quantile(0.9, sum by (le, endpoint) (rate(fleetprof_b_seconds_bucket[5m])))`:       "",
		`sum by (reason) (rate(fleetprof_a[5m]))`:                                                     "no agent or server has fleetprof_a",
		`sum by (endpoint) (rate(fleetprof_a_total[5m]))`:                                             "fleetprof_a_total has no label endpoint",
		`fleetprof_a_total{result="x"}`:                                                               "fleetprof_a_total has no label result",
		`sum by (le) (fleetprof_b_seconds_sum)`:                                                       "fleetprof_b_seconds_sum has no label le",
		`rate(fleetprof_a_total)`:                                                                     "expected type range vector",
		`sum by (reason (fleetprof_a_total)`:                                                          "unexpected",
		`fleetprof_a_total - on (instance) group_left sum by (instance, x) (fleetprof_b_seconds_sum)`: "has no label x",
	} {
		faults := checkExpression(known, text)
		if (len(faults) == 0) != (want == "") || !strings.Contains(strings.Join(faults, "\n"), want) {
			t.Errorf("%s: %q, want %q", text, faults, want)
		}
	}
}
