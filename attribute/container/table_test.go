// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/sample"
)

// clock is a time that tests move on.
type clock struct{ time.Time }

func (c *clock) pass(d time.Duration) { c.Time = c.Add(d) }

func newTestTable(size int) (*Table, *clock) {
	c := &clock{time.Unix(1e9, 0)}
	t := NewTable(size, prometheus.NewRegistry())
	t.now = func() time.Time { return c.Time }
	return t, c
}

// called describes a container by one label.
func called(namespace, id, name string, created time.Time) Description {
	return Description{
		Namespace: namespace, ID: id, Created: created,
		Labels: sample.NewLabelSet(map[string]string{sample.LabelContainerName: name}),
	}
}

func (t *Table) expect(tb testing.TB, id, name string) {
	tb.Helper()
	m, ok := t.Lookup(id)
	if got := m.Labels.Get(sample.LabelContainerName); got != name || ok != (name != "") {
		tb.Errorf("container %s is %q, %v, want %q", id, got, ok, name)
	}
}

func TestTableKeepsEnded(t *testing.T) {
	table, now := newTestTable(8)
	table.Put(called("a", "1", "web", now.Time))
	table.expect(t, "1", "web")
	table.Delete("b", "1") // another namespace's
	now.pass(time.Minute)
	table.Delete("a", "1")
	table.Delete("a", "1")
	table.Forget(now.Time)
	table.expect(t, "1", "web")
	table.Forget(now.Add(1))
	table.expect(t, "1", "")
	if len(table.byID) != 0 || table.ended.Len() != 0 {
		t.Errorf("an old container is still in memory: %v", table.byID)
	}
}

// Which of two containers with one id a sample is of cannot be told.
func TestTableAmbiguous(t *testing.T) {
	table, now := newTestTable(8)
	table.Put(called("a", "web", "first", now.Time))
	table.Put(called("b", "web", "first", now.Time))
	table.expect(t, "web", "first") // it makes no difference
	table.Delete("b", "web")
	now.pass(time.Second)

	created := now.Time
	table.Put(called("a", "web", "second", created)) // the end of the first was not told
	table.expect(t, "web", "")
	table.Forget(now.Add(1))
	table.expect(t, "web", "second")
	table.Delete("a", "web")
	table.Put(called("a", "web", "second", created)) // told of again
	now.pass(time.Hour)
	table.Forget(now.Time)
	table.expect(t, "web", "second")
	if got := testutil.ToFloat64(table.metrics.ambiguous); got != 1 {
		t.Errorf("%v ambiguous looks, want 1", got)
	}
}

func TestTableMissed(t *testing.T) {
	table, now := newTestTable(8)
	created := now.Time
	table.Put(called("a", "web", "first", created))
	now.pass(time.Millisecond)
	table.Missed("a", "web", now.Time) // the same, known from a list
	table.Delete("a", "web")
	table.expect(t, "web", "first")
	now.pass(time.Second)
	table.Missed("a", "web", now.Time)
	table.expect(t, "web", "")
	table.Missed("a", "other", now.Time)
	if m, _ := table.Lookup("other"); m != (Metadata{}) {
		t.Errorf("a container nobody saw is %v", m)
	}
}

func TestTableSweep(t *testing.T) {
	table, now := newTestTable(8)
	table.Put(called("a", "1", "stays", now.Time))
	table.Put(called("a", "2", "goes", now.Time))
	table.BeginSweep()
	table.Put(called("a", "1", "stays", now.Time))
	table.EndSweep()
	if table.living != 1 {
		t.Errorf("%d containers live, want 1", table.living)
	}
	table.expect(t, "2", "goes") // for its last samples
	now.pass(time.Hour)
	table.Forget(now.Time)
	table.expect(t, "1", "stays")
	table.expect(t, "2", "")
}

// The labels of a pod are those of its containers, whichever is told of first.
func TestTablePods(t *testing.T) {
	table, now := newTestTable(8)
	app := func(d Description) Description { d.PodUID = "uid"; return d }
	sandbox := app(called("k8s.io", "pause", "pause", now.Time))
	sandbox.Pod = &Pod{Labels: sample.NewLabelSet(map[string]string{"k8s_pod_label_tier": "front"}), App: "shop"}
	table.Put(app(called("k8s.io", "1", "early", now.Time)))
	table.Put(sandbox)
	table.Put(app(called("k8s.io", "2", "late", now.Time)))
	table.Delete("k8s.io", "pause")
	for id, name := range map[string]string{"1": "early", "2": "late"} {
		table.expect(t, id, name)
		if m, _ := table.Lookup(id); m.App != "shop" || m.Labels.Get("k8s_pod_label_tier") != "front" {
			t.Errorf("container %s has %+v", id, m)
		}
	}
	table.Delete("k8s.io", "1")
	table.Delete("k8s.io", "2")
	now.pass(time.Hour)
	table.Forget(now.Time)
	if len(table.pods) != 0 {
		t.Errorf("a pod is left: %v", table.pods)
	}
}

func TestTableFull(t *testing.T) {
	table, now := newTestTable(2)
	table.Put(called("a", "1", "first", now.Time))
	table.Put(called("a", "2", "second", now.Time))
	table.Put(called("a", "3", "third", now.Time))
	table.expect(t, "3", "")
	table.Delete("a", "2")
	table.Put(called("a", "3", "third", now.Time))
	table.expect(t, "1", "first")
	table.expect(t, "2", "")
	table.expect(t, "3", "third")
	if r, e := testutil.ToFloat64(table.metrics.refused), testutil.ToFloat64(table.metrics.evicted); r != 1 || e != 1 {
		t.Errorf("%v refused, %v evicted, want 1 and 1", r, e)
	}
}

// Whatever comes in whatever order, the table holds what it may, and its counts agree.
func TestTableInvariants(t *testing.T) {
	table, now := newTestTable(20)
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		now.pass(time.Duration(random.IntN(30)) * time.Second)
		namespace, id := fmt.Sprint(random.IntN(2)), fmt.Sprint(random.IntN(30))
		switch random.IntN(5) {
		case 0, 1:
			d := called(namespace, id, fmt.Sprint(random.IntN(3)), now.Time)
			d.PodUID = []string{"", "p", "q"}[random.IntN(3)]
			table.Put(d)
		case 2:
			table.Delete(namespace, id)
		case 3:
			table.Missed(namespace, id, now.Time)
		case 4:
			table.Lookup(id)
			table.Forget(now.Add(-5 * time.Minute))
		}
		living, users := 0, 0
		for _, all := range table.byID {
			for _, e := range all {
				if e.ended == nil {
					living++
				}
				if e.pod != nil {
					users++
				}
			}
		}
		for _, p := range table.pods {
			users -= p.users
		}
		if living != table.living || users != 0 || living+table.ended.Len() > 20 {
			t.Fatalf("%d live, the table says %d; %d ended; %d users of pods too many", living, table.living, table.ended.Len(), users)
		}
	}
}
