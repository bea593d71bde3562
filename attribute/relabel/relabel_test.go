// SPDX-License-Identifier: Apache-2.0

package relabel

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/sample"
)

// newRelabeler makes one on a host named "here" in which all cgroups are named.
func newRelabeler(t *testing.T, cacheSize int, rules ...Rule) *Relabeler {
	t.Helper()
	r := New(Options{
		Host:       "here",
		Cgroup:     func(id uint64, _ uint32) string { return fmt.Sprintf("/cgroup/%d", id) },
		Registerer: prometheus.NewRegistry(), CacheSize: cacheSize,
	})
	r.Use(compile(t, rules...))
	return r
}

func compile(t *testing.T, rules ...Rule) Rules {
	t.Helper()
	compiled, err := Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func text(s string) *string { return &s }

// replace is a rule with an action of replace.
func replace(source, regex, target, replacement string) Rule {
	return Rule{SourceLabels: []string{source}, Regex: &regex, TargetLabel: &target, Replacement: &replacement}
}

// checkout is the process of these tests.
func checkout() Process {
	return Process{
		Process: sample.Process{PID: 7, Execution: 1000, Path: "/srv/bin/checkout"}, CgroupID: 42,
		Labels: sample.Labels{Executable: "checkout", PID: "7", Container: "c0ffee"},
	}
}

// all gives labels by name.
func all(l sample.Labels) map[string]string {
	found := make(map[string]string)
	l.Each(func(name, value string) { found[name] = value })
	return found
}

func TestWithoutRulesNothingChanges(t *testing.T) {
	p := checkout()
	if got := newRelabeler(t, 1).Decide(p); !got.Keep || got.Labels != p.Labels {
		t.Errorf("got %+v", got)
	}
}

// Everything that rules can see, and what is left of it.
func TestLabelsForRules(t *testing.T) {
	seen := map[string]string{
		"host_name": "here", "process_executable_name": "checkout", "process_pid": "7", "container_id": "c0ffee",
		"__meta_host_name": "here", "__meta_process_executable_name": "checkout", "__meta_process_pid": "7", "__meta_container_id": "c0ffee",
		"__meta_process_executable_path": "/srv/bin/checkout", "__meta_process_cgroup": "/cgroup/42",
	}
	r := newRelabeler(t, 1, Rule{Action: text("labelmap"), Regex: text("(.*)"), Replacement: text("saw_$1")})
	want := map[string]string{"process_executable_name": "checkout", "process_pid": "7", "container_id": "c0ffee"}
	for name, value := range seen {
		want["saw_"+name] = value
	}
	if got := all(r.Decide(checkout()).Labels); !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// The host's name is not among the labels of a sample as long as it is the agent's.
func TestHostName(t *testing.T) {
	for _, tt := range []struct {
		name string
		rule Rule
		want string
		none bool
	}{
		{"as it is", replace("host_name", "elsewhere", "host_name", "x"), "", false},
		{"set to the same", replace("host_name", ".*", "host_name", "here"), "", false},
		{"another one", replace("host_name", "(.)(.*)", "host_name", "$1-$2"), "h-ere", false},
		{"removed", Rule{Action: text("labeldrop"), Regex: text("host_name")}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			labels := newRelabeler(t, 1, tt.rule).Decide(checkout()).Labels
			if got := labels.More.Get(sample.LabelHost); got != tt.want || labels.NoHost != tt.none {
				t.Errorf("got %q, %v; want %q, %v", got, labels.NoHost, tt.want, tt.none)
			}
		})
	}
}

// Rules are asked once for a process, and again when anything is different that they
// can see, or they are other rules.
func TestAskedOncePerProcess(t *testing.T) {
	r := newRelabeler(t, 100, replace("__meta_process_executable_path", "(.*)", "path", "$1"))
	asked := func() int { return int(testutil.ToFloat64(r.metrics.keep)) }
	steps := []struct {
		name   string
		change func(p *Process)
	}{
		{"first", func(*Process) {}},
		{"another process of the number", func(p *Process) { p.Execution++ }},
		{"another program", func(p *Process) { p.Path = "/bin/sh" }},
		{"another cgroup", func(p *Process) { p.CgroupID = 43 }},
		{"other metadata", func(p *Process) { p.Labels.More = sample.NewLabelSet(map[string]string{"container_name": "x"}) }},
	}
	p := checkout()
	for i, step := range steps {
		step.change(&p)
		for range 3 {
			if got := all(r.Decide(p).Labels)["path"]; got != p.Path {
				t.Errorf("%s: path %q", step.name, got)
			}
		}
		if asked() != i+1 {
			t.Errorf("%s: asked %d times", step.name, asked())
		}
	}
	r.Use(compile(t, replace("__meta_process_cgroup", "(.*)", "path", "$1")))
	if got := all(r.Decide(p).Labels)["path"]; got != "/cgroup/43" {
		t.Errorf("other rules give %q", got)
	}
}

// The processes seen last are remembered, and no more than so many.
func TestRememberedAreBounded(t *testing.T) {
	r := newRelabeler(t, 2, Rule{SourceLabels: []string{"process_pid"}, Regex: text("1"), Action: text("drop")})
	decide := func(pid string) { r.Decide(Process{Labels: sample.Labels{PID: pid}}) }
	for _, pid := range []string{"1", "2", "1", "3", "1", "2", "2"} {
		decide(pid)
	}
	if drops, keeps := testutil.ToFloat64(r.metrics.drop), testutil.ToFloat64(r.metrics.keep); drops != 1 || keeps != 3 {
		t.Errorf("asked %v times about 1, %v about 2 and 3; want 1 and 3", drops, keeps)
	}
	if len(r.known) != 2 || r.recency.Len() != 2 {
		t.Errorf("%d and %d remembered", len(r.known), r.recency.Len())
	}
}

// What a process can put into its labels is bounded, and nothing is cut: what does not
// fit is not there, and counted.
func TestLabelsAreBounded(t *testing.T) {
	long := checkout()
	long.Path = "/" + strings.Repeat("x", maxValueBytes)
	r := newRelabeler(t, 1, replace(metaPath, "(.*)", "path", "$1"))
	if got, has := all(r.Decide(long).Labels)["path"]; has {
		t.Errorf("a path of %d bytes", len(got))
	}
	long.Path = long.Path[:maxValueBytes]
	if got := all(r.Decide(long).Labels)["path"]; got != long.Path {
		t.Errorf("%d bytes of a path of %d", len(got), len(long.Path))
	}
	if got := testutil.ToFloat64(r.metrics.tooLong); got != 1 {
		t.Errorf("%v counted", got)
	}

	var rules []Rule
	for i := range 100 {
		rules = append(rules, replace(metaPath, "(.*)", fmt.Sprintf("path%d", i), "$1"))
	}
	for _, length := range []int{maxValueBytes, 1} {
		r.Use(compile(t, rules...))
		long.Path = long.Path[:length]
		labels := r.Decide(long).Labels
		if n := len(all(labels)); n > maxLabels+3 || labels.More.Bytes() > 2*maxBytes {
			t.Errorf("%d labels, %d bytes", n, labels.More.Bytes())
		}
	}
}

// What rules make at run time may be what no rule may name, or no name at all.
func TestNamesThatAreMade(t *testing.T) {
	for _, name := range []string{"thread_name", "http_route", "request_attribution", "1st", "a-b", "__kept_back"} {
		p := checkout()
		p.Path = name
		r := newRelabeler(t, 1, replace(metaPath, "(.*)", "$1", "x"), replace(metaPath, "(.*)", "name", "$1"))
		got := all(r.Decide(p).Labels)
		if _, has := got[name]; has || got["name"] != name {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// Samples are labelled while rules change: each decision is by the old rules or by the
// new ones, and none by the old ones once the new ones are in use.
func TestConcurrentUse(t *testing.T) {
	version := func(i int) Rules { return compile(t, replace("host_name", ".*", "version", fmt.Sprint(i))) }
	r := newRelabeler(t, 8)
	r.Use(version(0))
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for pid := uint32(0); ; pid++ {
				select {
				case <-stop:
					return
				default:
				}
				if got := r.Decide(Process{Process: sample.Process{PID: pid % 16}}); !got.Keep || got.Labels.Get("version") == "" {
					t.Errorf("got %+v", got)
					return
				}
			}
		})
	}
	for i := range 200 {
		r.Use(version(i))
		if got := r.Decide(Process{Process: sample.Process{PID: 1}}).Labels.Get("version"); got != fmt.Sprint(i) {
			t.Errorf("version %q after %d", got, i)
		}
	}
	close(stop)
	readers.Wait()
}
