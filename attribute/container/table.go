// SPDX-License-Identifier: Apache-2.0

package container

import (
	"container/list"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/fleetprof/fleetprof/sample"
)

// Description is what a runtime tells of one container.
type Description struct {
	// Namespace and ID are its key at the runtime. Created tells containers apart
	// that have had the same key.
	Namespace, ID string
	Created       time.Time
	// Labels are its own.
	Labels sample.LabelSet
	// PodUID is the pod it belongs to, "" if none.
	PodUID string
	// Pod is what it tells of that: set for the sandbox of a pod only.
	Pod *Pod
}

// Pod is what all containers of a pod have in common.
type Pod struct {
	Labels sample.LabelSet
	// App is the name of the application, by the usual labels of pods.
	App string
}

// Metadata is what is known of a container in the end.
type Metadata struct {
	Labels sample.LabelSet
	App    string
}

// Table keeps what runtimes told of containers, of those that have ended until Forget,
// or until there is no room: the one that ended first is forgotten first. It is safe for
// concurrent use, and nothing in it waits for a runtime.
type Table struct {
	now     func() time.Time
	size    int
	metrics tableMetrics

	mu     sync.Mutex
	byID   map[string][]*described // one, or the few of the same id
	pods   map[string]*knownPod
	ended  list.List // of *described, the first to end first
	living int
	sweep  uint64
}

// described is a container in the table.
type described struct {
	Description
	pod *knownPod // nil without
	// ended is its place in the list of those, nil while it lives.
	ended *list.Element
	// end is when it was seen to have ended.
	end time.Time
	// sweep is the last sweep that came after it was told of.
	sweep uint64
}

// knownPod is a pod and the number of containers in the table that refer to it.
type knownPod struct {
	uid   string
	known Pod
	users int
}

type tableMetrics struct {
	evicted, refused, ambiguous prometheus.Counter
}

func newTableMetrics(t *Table, r prometheus.Registerer) tableMetrics {
	gauge := func(state string, f func() int) {
		promauto.With(r).NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "fleetprof_container_metadata_entries",
			Help:        "Containers whose names are known, by whether they run or have ended.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 {
			t.mu.Lock()
			defer t.mu.Unlock()
			return float64(f())
		})
	}
	gauge("living", func() int { return t.living })
	gauge("ended", t.ended.Len)
	dropped := promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_container_metadata_dropped_total",
		Help: "Containers whose names were forgotten before their samples were done with (evicted), or not taken because too many live (refused).",
	}, []string{"reason"})
	return tableMetrics{
		evicted: dropped.WithLabelValues("evicted"),
		refused: dropped.WithLabelValues("refused"),
		ambiguous: promauto.With(r).NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_container_metadata_ambiguous_total",
			Help: "Looks for a container whose id has been that of different ones, so that it was given no names.",
		}),
	}
}

// NewTable makes an empty table for so many containers.
func NewTable(size int, r prometheus.Registerer) *Table {
	t := &Table{now: time.Now, size: size, byID: make(map[string][]*described), pods: make(map[string]*knownPod)}
	t.metrics = newTableMetrics(t, r)
	return t
}

// Put takes what a runtime tells of a container that exists. Its id must not be empty.
func (t *Table) Put(d Description) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, old := range t.byID[d.ID] {
		switch {
		case old.Namespace != d.Namespace:
		case old.Created.Equal(d.Created):
			t.change(old, d)
			return
		default:
			t.finish(old) // its end was not told
		}
	}
	t.add(d)
}

// Missed takes that a container was made at a time, and was gone before it was told
// of: samples of its id are not certain to be those of another.
func (t *Table) Missed(namespace, id string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.byID[id] {
		if e.Namespace == namespace && e.ended == nil && !e.Created.After(at) {
			return // it was told of before it went
		}
	}
	if e := t.add(Description{Namespace: namespace, ID: id, Created: at}); e != nil {
		t.finish(e)
	}
}

// Delete takes that a container exists no more.
func (t *Table) Delete(namespace, id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.byID[id] {
		if e.Namespace == namespace {
			t.finish(e)
		}
	}
}

// BeginSweep and EndSweep enclose the telling of all containers that exist. Those
// that are not told of in between exist no more.
func (t *Table) BeginSweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep++
}

// EndSweep is the end of what BeginSweep begins.
func (t *Table) EndSweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, all := range t.byID {
		for _, e := range all {
			if e.sweep != t.sweep {
				t.finish(e)
			}
		}
	}
}

// Lookup gives what is known of a container; ok is false if nothing is. An id may be
// that of containers in different namespaces of a runtime, or of one that was made
// anew; if they differ, nothing is known.
func (t *Table) Lookup(id string) (m Metadata, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.byID[id] {
		other := e.metadata()
		if ok && m != other {
			t.metrics.ambiguous.Inc()
			return Metadata{}, false
		}
		m, ok = other, true
	}
	return m, ok
}

func (e *described) metadata() Metadata {
	if e.pod == nil {
		return Metadata{Labels: e.Labels}
	}
	return Metadata{Labels: e.Labels.With(e.pod.known.Labels), App: e.pod.known.App}
}

// change replaces what is known of a container.
func (t *Table) change(e *described, d Description) {
	t.leave(e)
	e.Description, e.sweep = d, t.sweep
	t.enter(e)
	if e.ended != nil {
		t.ended.Remove(e.ended)
		e.ended = nil
		t.living++
	}
}

// finish takes that a container exists no more.
func (t *Table) finish(e *described) {
	if e.ended == nil {
		e.ended, e.end = t.ended.PushBack(e), t.now()
		t.living--
	}
}

// add takes a new container; nil if there is no room for it.
func (t *Table) add(d Description) *described {
	if !t.makeRoom() {
		t.metrics.refused.Inc()
		return nil
	}
	e := &described{Description: d, sweep: t.sweep}
	t.byID[d.ID] = append(t.byID[d.ID], e)
	t.living++
	t.enter(e)
	return e
}

// makeRoom forgets the container that ended first if the table is full. It is false
// if all live.
func (t *Table) makeRoom() bool {
	if t.living+t.ended.Len() < t.size {
		return true
	}
	first := t.ended.Front()
	if first == nil {
		return false
	}
	t.metrics.evicted.Inc()
	t.forget(t.ended.Remove(first).(*described))
	return true
}

// Forget forgets the containers that ended before a time. Those of which samples are
// still to be labelled must not be forgotten; the others are in the way of those with
// the same id.
func (t *Table) Forget(before time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for first := t.ended.Front(); first != nil && first.Value.(*described).end.Before(before); first = t.ended.Front() {
		t.forget(t.ended.Remove(first).(*described))
	}
}

func (t *Table) forget(e *described) {
	t.leave(e)
	rest := t.byID[e.ID][:0]
	for _, other := range t.byID[e.ID] {
		if other != e {
			rest = append(rest, other)
		}
	}
	t.byID[e.ID] = rest
	if len(rest) == 0 {
		delete(t.byID, e.ID)
	}
}

// enter makes a container one of its pod's.
func (t *Table) enter(e *described) {
	if e.PodUID == "" {
		return
	}
	e.pod = t.pods[e.PodUID]
	if e.pod == nil {
		e.pod = &knownPod{uid: e.PodUID}
		t.pods[e.PodUID] = e.pod
	}
	e.pod.users++
	if e.Pod != nil {
		e.pod.known = *e.Pod
	}
}

// leave undoes enter.
func (t *Table) leave(e *described) {
	if e.pod == nil {
		return
	}
	e.pod.users--
	if e.pod.users == 0 {
		delete(t.pods, e.pod.uid)
	}
	e.pod = nil
}
