// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"container/list"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/fleetprof/fleetprof/sample"
)

// Owners keeps what is known of pods, of those that have ended until there is no room: the
// one that ended first is forgotten first. It is safe for concurrent use, and nothing in it
// waits for an API server.
type Owners struct {
	size             int
	evicted, refused prometheus.Counter
	late             chan struct{}
	wanted           chan struct{}

	mu    sync.Mutex
	pods  map[string]*pod // by what the kubelet calls them
	ended list.List       // of *pod, the first to end first
	sweep uint64
	// missed are the pods that were looked for and not known well.
	missed map[string]struct{}
	isLate bool
}

// pod is one pod of this node.
type pod struct {
	uid    string
	labels sample.LabelSet
	// up is its ReplicaSet or Job, zero if it has none.
	up reference
	// known says that labels has the owner of up, too, if that has one.
	known bool
	// ended is its place in the list of those, nil while it exists.
	ended *list.Element
	// sweep is the last sweep that came before it was told of.
	sweep uint64
}

// NewOwners makes an empty table for so many pods.
func NewOwners(size int, r prometheus.Registerer) *Owners {
	o := &Owners{
		size: size, pods: make(map[string]*pod), missed: make(map[string]struct{}),
		late: make(chan struct{}, 1), wanted: make(chan struct{}, 1),
	}
	gauge := func(state string, f func() int) {
		promauto.With(r).NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "fleetprof_kubernetes_pods",
			Help:        "Pods of this node that the API server told of, by whether they exist or have ended.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 {
			o.mu.Lock()
			defer o.mu.Unlock()
			return float64(f())
		})
	}
	gauge("living", func() int { return len(o.pods) - o.ended.Len() })
	gauge("ended", o.ended.Len)
	dropped := promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_kubernetes_pods_dropped_total",
		Help: "Pods that ended and were forgotten for others (evicted), or not taken because too many live (refused).",
	}, []string{"reason"})
	o.evicted, o.refused = dropped.WithLabelValues("evicted"), dropped.WithLabelValues("refused")
	return o
}

// Lookup gives the labels of a pod by what the kubelet calls it; known is false if more of
// them may be learned.
func (o *Owners) Lookup(uid string) (labels sample.LabelSet, known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.pods[uid]
	if p != nil && p.known {
		return p.labels, true
	}
	if len(o.missed) >= o.size {
		clear(o.missed) // who is still there is asked for again with the next window
	}
	o.missed[uid] = struct{}{}
	if p == nil {
		return sample.LabelSet{}, false
	}
	return p.labels, false
}

// Late tells, some time after it has happened, that pods became known of which it was asked
// before. What was decided without is to be decided anew.
func (o *Owners) Late() <-chan struct{} { return o.late }

// put takes what the API server tells of a pod that exists.
func (o *Owners) put(told pod) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.pods[told.uid]
	if p == nil {
		if !o.makeRoom() {
			o.refused.Inc()
			return
		}
		p = &pod{uid: told.uid}
		o.pods[told.uid] = p
	}
	if p.ended != nil {
		o.ended.Remove(p.ended)
		p.ended = nil
	}
	p.sweep = o.sweep
	if p.known && p.up == told.up && p.up != (reference{}) {
		return // its labels are those told, and more
	}
	p.labels, p.up, p.known = told.labels, told.up, told.up == reference{}
	o.borrow(p)
	o.noteLate(p)
	if !p.known {
		signal(o.wanted)
	}
}

// borrow gives a pod what is known of another one with the same owner.
func (o *Owners) borrow(p *pod) {
	if p.known {
		return
	}
	for _, other := range o.pods {
		if other.known && other.up == p.up {
			p.labels, p.known = p.labels.With(other.labels), true
			return
		}
	}
}

// delete takes that a pod exists no more.
func (o *Owners) delete(uid string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.pods[uid]; p != nil {
		o.finish(p)
	}
}

func (o *Owners) finish(p *pod) {
	if p.ended == nil {
		p.ended = o.ended.PushBack(p)
	}
}

// beginSweep and endSweep enclose the telling of all pods that exist. Those that are not
// told of in between exist no more.
func (o *Owners) beginSweep() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sweep++
}

func (o *Owners) endSweep() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.pods {
		if p.sweep != o.sweep {
			o.finish(p)
		}
	}
}

// makeRoom forgets the pod that ended first if the table is full. It is false if all exist.
func (o *Owners) makeRoom() bool {
	if len(o.pods) < o.size {
		return true
	}
	first := o.ended.Front()
	if first == nil {
		return false
	}
	o.evicted.Inc()
	delete(o.pods, o.ended.Remove(first).(*pod).uid)
	return true
}

// unsettled are the ReplicaSets and Jobs whose owners are not known.
func (o *Owners) unsettled() map[reference]struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make(map[reference]struct{})
	for _, p := range o.pods {
		if !p.known {
			all[p.up] = struct{}{}
		}
	}
	return all
}

// settle takes the labels of the owner of a ReplicaSet or Job, none if it has none.
func (o *Owners) settle(r reference, labels sample.LabelSet) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.pods {
		if !p.known && p.up == r {
			p.labels, p.known = p.labels.With(labels), true
			o.noteLate(p)
		}
	}
}

// noteLate remembers that a pod is known now that was not when it was asked for.
func (o *Owners) noteLate(p *pod) {
	if _, missed := o.missed[p.uid]; missed && p.known {
		delete(o.missed, p.uid)
		o.isLate = true
	}
}

// announce tells of what came late, all of it at once.
func (o *Owners) announce() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.isLate {
		o.isLate = false
		signal(o.late)
	}
}

// signal tells whoever waits, or is about to.
func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default: // it is told already
	}
}
