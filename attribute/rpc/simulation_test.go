// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/prometheus/client_golang/prometheus"
)

// host plays servers of known models against an engine, and knows what every
// sample served. Time is in microseconds, ticks come every 500.
type host struct {
	t      *testing.T
	random *rand.Rand
	engine *Engine
	now    uint64
	events events
	serial int
	// tally is what was said of samples, by what they did.
	tally tally
}

type tally struct {
	inside                                   int // samples that served a request
	right, exactWrong, inferredWrong         int
	exact, inferred, ambiguous, unattributed int
}

type event struct {
	at     uint64
	serial int
	do     func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].serial < e[j].serial
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newHost(t *testing.T) *host {
	e, err := New(Options{
		Identify: known("s"), Watch: func(uint64, bool) {}, Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return &host{t: t, random: rand.New(rand.NewPCG(5, 6)), engine: e, now: 1e9}
}

func (h *host) after(d int, do func()) {
	h.serial++
	heap.Push(&h.events, event{h.now + uint64(d), h.serial, do})
}

func (h *host) run(d int) {
	for end := h.now + uint64(d); len(h.events) > 0 && h.events[0].at < end; {
		e := heap.Pop(&h.events).(event)
		h.now = e.at
		e.do()
	}
	h.engine.Flush()
}

// between is a random duration.
func (h *host) between(from, to int) int { return from + h.random.IntN(to-from) }

func (h *host) path() string { return fmt.Sprintf("/%c", 'a'+h.random.IntN(4)) }

// actor is one who executes.
type actor struct {
	h    *host
	tid  uint32
	x    sample.Executor
	loop bool
}

func (a actor) does(kind sample.ActivityKind, socket int, data string) {
	a.h.engine.Activity(&sample.Activity{
		Time: a.h.now * 1000, PID: 1, TID: a.tid, Executor: a.x, Nonblocking: a.loop,
		Kind: kind, Socket: uint64(socket), Data: []byte(data), Bytes: int64(len(data)),
	})
}

func (a actor) reads(socket int, path string) {
	a.does(sample.Read, socket, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
}

func (a actor) answers(socket int) {
	a.does(sample.Write, socket, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}

// works burns CPU for a path, "" for background work, and goes on with then.
func (a actor) works(d int, path string, then func()) {
	const period = 500
	for at := period - int(a.h.now%period); at < d; at += period {
		a.h.after(at, func() { a.tick(path) })
	}
	a.h.after(d, then)
}

func (a actor) tick(path string) {
	t := &a.h.tally
	if path != "" {
		t.inside++
	}
	s := &sample.Sample{Time: a.h.now * 1000, Weight: oneTick, Process: sample.Process{PID: 1}, TID: a.tid, Executor: a.x}
	a.h.engine.Sample(s, func(l sample.Handler) {
		right := l.URLTemplate == path && path != ""
		switch l.Attribution {
		case sample.Exact:
			t.exact++
			if !right {
				t.exactWrong++
			}
		case sample.Inferred:
			t.inferred++
			if !right {
				t.inferredWrong++
			}
		case sample.Ambiguous:
			t.ambiguous++
		case sample.Unattributed:
			t.unattributed++
		}
		if right {
			t.right++
		}
	})
}

// pool is a server with a thread for each connection, or a goroutine.
func pool(h *host, goroutines bool) {
	for i := range 8 {
		a := actor{h: h, tid: uint32(i), x: sample.Executor{Kind: sample.Thread}}
		if goroutines {
			a.x, a.loop = sample.Executor{Kind: sample.Goroutine, Goroutine: uint64(i + 1)}, true
		}
		serial := uint64(0)
		var next func()
		next = func() {
			path := h.path()
			a.reads(i, path)
			if goroutines {
				// Each request has a child; every tenth starts one that goes on.
				serial++
				child := a
				child.tid, child.x = 50, sample.Executor{Kind: sample.Goroutine, Goroutine: 100*serial + uint64(i), Parent: uint64(i + 1)}
				child.works(900, path, func() {})
				if serial%10 == 0 {
					child.x.Goroutine += 1 << 32
					h.after(3000, func() { child.works(20000, "", func() {}) })
				}
			}
			a.works(h.between(1000, 3000), path, func() {
				a.answers(i)
				a.works(h.between(100, 300), "", func() { h.after(h.between(10, 500), next) })
			})
		}
		h.after(i, next)
	}
}

// reactor is a server with one thread that reads and eight that work.
func reactor(h *host) {
	reads := actor{h: h, tid: 99, x: sample.Executor{Kind: sample.Thread}, loop: true}
	var queue []func(a actor, done func())
	var idle []actor
	var dispatch func()
	dispatch = func() {
		for len(queue) > 0 && len(idle) > 0 {
			job, a := queue[0], idle[0]
			queue, idle = queue[1:], idle[1:]
			job(a, func() { idle = append(idle, a); dispatch() })
		}
	}
	for i := range 8 {
		idle = append(idle, actor{h: h, tid: uint32(i), x: sample.Executor{Kind: sample.Thread}})
	}
	for i := range 16 {
		var next func()
		next = func() {
			path := h.path()
			reads.reads(i, path)
			queue = append(queue, func(a actor, done func()) {
				a.works(h.between(1000, 3000), path, func() {
					a.loop = true
					a.answers(i)
					h.after(h.between(10, 1000), next)
					done()
				})
			})
			dispatch()
			reads.does(sample.Wait, 0, "")
		}
		h.after(100*i, next)
	}
}

// loop is an event loop: what is due runs one after the other, and when nothing
// is left the turn ends.
type loop struct {
	actor
	due  []func(done func())
	busy bool
}

func (l *loop) enqueue(job func(done func())) {
	l.due = append(l.due, job)
	if !l.busy {
		l.busy = true
		l.next()
	}
}

func (l *loop) next() {
	if len(l.due) == 0 {
		l.busy = false
		l.does(sample.Wait, 0, "")
		return
	}
	job := l.due[0]
	l.due = l.due[1:]
	job(func() {
		// A turn may have several events, or one.
		if l.h.random.IntN(2) == 0 {
			l.does(sample.Wait, 0, "")
		}
		l.h.after(1, l.next)
	})
}

// node is a server with an event loop. Of its handlers a share is asynchronous:
// they go on when a timer fires. There is background work by timers, too.
func node(h *host, asynchronous int) {
	l := &loop{actor: actor{h: h, tid: 1, x: sample.Executor{Kind: sample.Thread}, loop: true}}
	for i := range 8 {
		var next func()
		next = func() {
			path := h.path()
			answer := func(done func()) {
				l.answers(i)
				h.after(h.between(100, 2000), next)
				done()
			}
			l.enqueue(func(done func()) {
				l.reads(i, path)
				l.works(h.between(300, 1500), path, func() {
					if h.random.IntN(100) >= asynchronous {
						answer(done)
						return
					}
					h.after(h.between(1, 2000), func() {
						l.enqueue(func(done func()) { l.works(h.between(300, 1500), path, func() { answer(done) }) })
					})
					done()
				})
			})
		}
		h.after(100*i, next)
	}
	var background func()
	background = func() {
		l.enqueue(func(done func()) { l.works(1000, "", done) })
		h.after(10000, background)
	}
	h.after(5000, background)
}

// proxy is an event loop that asks an upstream, over kept connections or new ones.
func proxy(h *host, kept bool) {
	l := &loop{actor: actor{h: h, tid: 1, x: sample.Executor{Kind: sample.Thread}, loop: true}}
	for i := range 32 {
		var next func()
		next = func() {
			path := h.path()
			back := func() {
				l.enqueue(func(done func()) {
					l.does(sample.Read, 1000+i, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					l.works(h.between(100, 400), path, func() {
						l.answers(i)
						h.after(h.between(100, 2000), next)
						done()
					})
				})
			}
			ask := func() {
				l.does(sample.Write, 1000+i, "GET "+path+" HTTP/1.0\r\nHost: up\r\n\r\n")
				h.after(h.between(500, 5000), back)
			}
			l.enqueue(func(done func()) {
				l.reads(i, path)
				l.works(h.between(100, 400), path, func() {
					if kept {
						ask()
					} else {
						h.after(h.between(10, 50), func() { l.enqueue(func(done func()) { ask(); done() }) })
					}
					done()
				})
			})
		}
		h.after(100*i, next)
	}
}

// What is claimed of servers of known models is right.
func TestModels(t *testing.T) {
	for _, tt := range []struct {
		name     string
		play     func(h *host)
		coverage float64 // of the samples that served a request
	}{
		{"threads", func(h *host) { pool(h, false) }, .99},
		{"goroutines", func(h *host) { pool(h, true) }, .99},
		{"reactor", reactor, .95},
		{"node, synchronous", func(h *host) { node(h, 0) }, .99},
		{"node, 1 % asynchronous", func(h *host) { node(h, 1) }, 0},
		{"node, half asynchronous", func(h *host) { node(h, 50) }, 0},
		{"node, asynchronous", func(h *host) { node(h, 100) }, 0},
		{"proxy, kept upstream connections", func(h *host) { proxy(h, true) }, .95},
		{"proxy, new upstream connections", func(h *host) { proxy(h, false) }, .3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			tt.play(h)
			h.run(int(4 * time.Second / time.Microsecond))
			c := h.tally
			covered := float64(c.right) / float64(c.inside)
			t.Logf("inside %d, right %.1f %%; exact %d (%d wrong), inferred %d (%d wrong), ambiguous %d, unattributed %d",
				c.inside, 100*covered, c.exact, c.exactWrong, c.inferred, c.inferredWrong, c.ambiguous, c.unattributed)
			if c.exactWrong > 0 || c.inferredWrong*100 > c.inferred || covered < tt.coverage {
				t.Errorf("want coverage %v, nothing exact wrong, 1 %% of the inferred", tt.coverage)
			}
			checkTables(t, h.engine)
		})
	}
}
