// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/uploader"
)

// documented is a metric that a process shows.
type documented struct {
	name, help string
	labels     []string
	of         []string // agent, server
}

// nameAndLabels is how a metric stands in a table.
func (m documented) nameAndLabels() string {
	if len(m.labels) == 0 {
		return m.name
	}
	return m.name + "{" + strings.Join(m.labels, ",") + "}"
}

var descText = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: (".*"), constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

// described lists what a registry has, whether it has values yet or not.
func described(t *testing.T, r *prometheus.Registry) (all []documented) {
	t.Helper()
	descs := make(chan *prometheus.Desc)
	go func() {
		r.Describe(descs)
		close(descs)
	}()
	for d := range descs {
		parts := descText.FindStringSubmatch(d.String())
		if parts == nil {
			t.Fatalf("cannot read %s", d)
		}
		m := documented{name: parts[1]}
		if _, err := fmt.Sscanf(parts[2], "%q", &m.help); err != nil {
			t.Fatalf("%v: %s", err, d)
		}
		for _, label := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(parts[3], -1) {
			m.labels = append(m.labels, label[1])
		}
		if parts[4] != "" {
			m.labels = append(m.labels, strings.Split(parts[4], ",")...)
		}
		all = append(all, m)
	}
	return all
}

// agentMetrics is those of an agent that does all that an agent can do.
func agentMetrics(t *testing.T) []documented {
	t.Helper()
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(file, []byte("frequency: 19\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"agent", "--config=" + file, "--listen=127.0.0.1:0", "--trace-exemplars=1", "--memory-budget=96MiB", "--symbolize=store",
		"--debuginfod=http://" + freeAddress(t), "--state-dir=" + t.TempDir(), "--policy-from=http://" + freeAddress(t), "--kubernetes=" + newClusterAPI(t, nil, "a", "b"),
	}
	var to []uploader.Destination
	for _, store := range []string{"dir:" + t.TempDir(), "http://localhost:7171", "parca://localhost:7070", "pyroscope+http://localhost:4040", "otlp://localhost:4317"} {
		if d, err := destination(store); err == nil { // of the kinds that this agent knows
			to, args = append(to, d), append(args, "--store="+store)
		}
	}
	i, err := readCommandLine(args, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	c, log := i.cli.Agent, i.cli.Log.logger(io.Discard)
	registry := newRegistry()
	ln, err := c.listen(c.Listen, registry, log)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	from, err := c.source(c.Store, nil)
	if err != nil {
		t.Fatal(err)
	}
	files, err := c.openNameFiles(registry, log)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	a, err := newAgent(c.continuous, uploader.Options{Destinations: to}, from, files, registry, &console{log: log, invocation: i})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := c.offer(a.pipeline, c.Store, registry, log); err != nil {
		t.Fatal(err)
	}
	return described(t, registry)
}

// serverMetrics is those of a server.
func serverMetrics(t *testing.T) []documented {
	t.Helper()
	i, err := readCommandLine([]string{"server", "--listen=127.0.0.1:0", "--data=" + t.TempDir()}, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	registry := newRegistry()
	s, err := newStoreServer(i.cli.Server.serving, registry, i.cli.Log.logger(io.Discard), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return described(t, registry)
}

// ownMetrics lists by name what agents and servers show, but for what every Go program does.
func ownMetrics(t *testing.T) map[string]documented {
	t.Helper()
	all := make(map[string]documented)
	for process, metrics := range map[string][]documented{"agent": agentMetrics(t), "server": serverMetrics(t)} {
		for _, m := range metrics {
			if !strings.HasPrefix(m.name, "fleetprof_") {
				continue
			}
			m.of = append(all[m.name].of, process)
			slices.Sort(m.of)
			m.of = slices.Compact(m.of) // of some there is one for each value of a label
			all[m.name] = m
		}
	}
	return all
}

// row is a line of the tables of docs/metrics.md. What to do is written by hand, the rest is
// what the program says of itself.
var row = regexp.MustCompile("(?m)^\\| `(fleetprof_[a-z_]+)[^`]*` \\|.*\\| (.*) \\|$")

func rowOf(m documented, whatToDo string) string {
	return fmt.Sprintf("| `%s` | %s | %s | %s |", m.nameAndLabels(), strings.Join(m.of, ", "), m.help, whatToDo)
}

// The page about metrics and the dashboards keep to the metrics that there are.
func TestMetricsPage(t *testing.T) {
	needRoot(t)
	known := ownMetrics(t)
	t.Run("page", func(t *testing.T) { checkMetricsPage(t, maps.Clone(known)) })
	t.Run("dashboards", func(t *testing.T) { checkDashboards(t, known) })
}

// checkMetricsPage finds every metric on the page, once and as it says of itself, and
// nothing else there. The flag -update writes anew what the program says, and adds rows that
// are missing at the end, without what to do.
func checkMetricsPage(t *testing.T, missing map[string]documented) {
	const page = "../../docs/metrics.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	written := row.ReplaceAllStringFunc(string(text), func(line string) string {
		parts := row.FindStringSubmatch(line)
		m, ok := missing[parts[1]]
		if !ok {
			t.Errorf("no agent or server has %s, or it is on the page twice", parts[1])
			return line
		}
		delete(missing, m.name)
		if parts[2] == "" {
			t.Errorf("what to do with %s is not said", m.name)
		}
		return rowOf(m, parts[2])
	})
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("%s is not on the page", name)
		written += rowOf(missing[name], "") + "\n"
	}
	if *update {
		if err := os.WriteFile(page, []byte(written), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if written != string(text) {
		t.Errorf("%s does not say what the metrics say of themselves; write it with\ngo test ./cmd/fleetprof -run TestMetricsPage -update", page)
	}
}
