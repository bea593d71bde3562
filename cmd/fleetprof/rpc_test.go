// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

var handlerSeconds = flag.Int("handlers.seconds", 0, "seconds of each load of TestHandlers; more than its default of 1 also asks for all loads")

// briefLoads are those of `make test`, longLoads come on top with -handlers.seconds.
var (
	briefLoads = []handlerLoad{{clients: 1, keepAlive: true}, {clients: 8}, {clients: 32, keepAlive: true}}
	longLoads  = []handlerLoad{{clients: 1}, {clients: 8, keepAlive: true}, {clients: 32}, {clients: 8, pipelined: 4}}
)

// TestHandlers runs servers of many kinds under load, with an agent that knows
// nothing of them, and holds what it claims against what the servers know: see
// testdata/rpc. It prints a table in Markdown.
//
// One server alone, at length: -run TestHandlers/go-http -handlers.seconds=20
func TestHandlers(t *testing.T) {
	needRoot(t)
	h := newHandlerHost(t)
	rows := []string{handlerColumns}
	running := make(map[string]*servingHandlers)
	servers := handlerServers()
	for i := range servers {
		s := &servers[i]
		t.Run(s.name, func(t *testing.T) {
			p := h.start(t, s, running)
			rows = append(rows, h.judge(t, p)...)
		})
		if p := running[s.name]; p != nil && !leadsTo(servers[i+1:], s.name) {
			p.stop()
		}
	}
	t.Logf("\n%s", strings.Join(rows, "\n"))
}

// leadsTo reports whether any of the servers has another one upstream.
func leadsTo(servers []handlerServer, name string) bool {
	return slices.ContainsFunc(servers, func(s handlerServer) bool { return slices.Contains(s.upstream, name) })
}

// handlerHost is what all servers of the test have in common.
type handlerHost struct {
	t *testing.T // of all servers
	// dir has the programs.
	dir string
	certificate
	agent watcher
}

func newHandlerHost(t *testing.T) *handlerHost {
	t.Helper()
	h := builtHandlers(t, handlerBuilds...)
	// One file per route. The last two are compressed when they are asked for.
	if err := os.Mkdir(h.dir+"/docroot", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"a.bin": 4 << 10, "b.bin": 200 << 10, "c.css": 40 << 10, "d.css": 200 << 10} {
		text := []byte(name[:1] + strings.Repeat(" Lorem ipsum dolor sit amet, consectetur adipisici elit.", size/56+1))
		for i := range text[1:] {
			text[i+1] ^= byte(i>>5) & 31 // not the same again and again
		}
		if err := os.WriteFile(h.dir+"/docroot/"+name, text[:size], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h.certificate = newCertificate(t, h.dir)
	h.agent = newWatcher(t)
	return h
}

// builtHandlers is a host without an agent, with the servers that scripts build.
func builtHandlers(t *testing.T, builds ...string) *handlerHost {
	t.Helper()
	h := &handlerHost{t: t, dir: t.TempDir()}
	for _, build := range builds {
		cmd := exec.Command("sh", "-ec", build)
		cmd.Dir, cmd.Env = "testdata/rpc", append(os.Environ(), "DIR="+h.dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", build, err, out)
		}
	}
	return h
}

// handlerTrial is a load that was put on a server.
type handlerTrial struct {
	load       handlerLoad
	begin, end time.Time
	requests   handlerRequests
}

// handlerRequests are as many as the load generator sent, and as the agent saw.
type handlerRequests struct {
	sent int64
	seen float64
}

// judge puts all loads on a server, one after the other, and judges each, and
// all together. It returns rows for the table.
func (h *handlerHost) judge(t *testing.T, p *servingHandlers) (rows []string) {
	t.Helper()
	seconds, loads := 1, briefLoads
	if *handlerSeconds > 1 {
		seconds, loads = *handlerSeconds, slices.Concat(briefLoads, longLoads)
	}
	h.meet(t, p)
	var loaded loadedServer
	for tries := 0; tries < 3 && !loaded.isCut(); tries++ { // an agent may be late with its windows
		loaded = h.load(t, p, loads, time.Duration(seconds)*time.Second)
	}

	total := newHandlerVerdict()
	for _, trial := range loaded.trials {
		v := newHandlerVerdict()
		within(loaded.windows, trial, func(s *profile.Sample) {
			if p.owns(s) {
				v.hold(p.server, s)
			}
		})
		rows = append(rows, v.row(p.server.name, trial.load.String(), trial.requests))
		t.Run(trial.load.String(), func(t *testing.T) {
			t.Log(rows[len(rows)-1])
			v.honest(t)
			if p.server.bar.counted {
				trial.requests.agree(t)
			}
		})
		if trial.load.pipelined == 0 {
			total.add(v)
		}
	}
	total.meaningful(t)
	total.meets(t, p.server.bar)
	h.whole(t, p, loaded)
	return rows
}

// loadedServer is what became of all loads on a server.
type loadedServer struct {
	begin, end time.Time
	trials     []handlerTrial
	windows    []*profile.Profile
	used       float64 // CPU time of the server, in seconds
}

// load puts all loads on a server, one after the other.
func (h *handlerHost) load(t *testing.T, p *servingHandlers, loads []handlerLoad, lasting time.Duration) (l loadedServer) {
	t.Helper()
	l.begin = h.agent.nextWindow(t)
	l.end = l.begin
	before := p.cpu(t)
	for _, load := range loads {
		if load.pipelined == 0 || p.server.pipelines {
			l.trials = append(l.trials, h.put(t, p, load, l.end, lasting))
			l.end = l.trials[len(l.trials)-1].end
		}
	}
	l.used = p.cpu(t) - before
	l.windows = h.agent.windows(t, l.end)
	return l
}

// isCut tells whether windows end where the loads began and ended. An agent that has little CPU time
// itself cuts one that is twice as long, rather than one that is too short.
func (l *loadedServer) isCut() bool {
	ends := func(at time.Time) bool {
		return slices.ContainsFunc(l.windows, func(w *profile.Profile) bool { return endOf(w).Sub(at).Abs() < windowLength/4 })
	}
	return ends(l.begin) && ends(l.end)
}

// meet puts a little load on a server until the agent knows the program.
func (h *handlerHost) meet(t *testing.T, p *servingHandlers) {
	t.Helper()
	warm, before := handlerLoad{clients: 2, keepAlive: true}, h.agent.requests(t, p.service)
	rounds := 1 // with requests that the agent has seen
	if p.server.protocol == tls1 {
		rounds = 2 // see "The first seconds of TLS" in docs/requests.md
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, err := p.client(h.trusted).load(warm, time.Now().Add(500*time.Millisecond)); err != nil {
			t.Fatalf("%v\n%s", err, p.said())
		}
		time.Sleep(settling)
		if seen := h.agent.requests(t, p.service); seen > before {
			before, rounds = seen, rounds-1
		}
		if !p.server.bar.counted || rounds == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the agent sees no requests")
		}
	}
}

// whole checks that the parts of a server's processes add up to the CPU time
// that /proc says they used.
func (h *handlerHost) whole(t *testing.T, p *servingHandlers, l loadedServer) {
	t.Helper()
	v := newHandlerVerdict()
	var seconds float64
	within(l.windows, handlerTrial{begin: l.begin, end: l.end}, func(s *profile.Sample) {
		if p.owns(s) {
			v.hold(p.server, s)
			seconds += seconds64(s)
		}
	})
	v.conserved(t)
	if diff := seconds - l.used; math.Abs(diff) > 0.1*l.used+0.2 {
		t.Errorf("%.2f s of CPU time in the profile, %.2f s in /proc", seconds, l.used)
	}
	t.Logf("%.2f s of CPU time in the profile, %.2f s in /proc", seconds, l.used)
}

// put asks a server, from the beginning of a window to the end of one.
func (h *handlerHost) put(t *testing.T, p *servingHandlers, load handlerLoad, begin time.Time, lasting time.Duration) handlerTrial {
	t.Helper()
	trial := handlerTrial{load: load, begin: begin, end: begin.Add(lasting)}
	// The last requests take some time.
	margin := settling + time.Duration(load.clients)*5*time.Millisecond
	before := h.agent.requests(t, p.service)
	var err error
	if trial.requests.sent, err = p.client(h.trusted).load(load, trial.end.Add(-margin)); err != nil {
		t.Fatalf("%v\n%s", err, p.said())
	}
	time.Sleep(settling * 2 / 3)
	trial.requests.seen = h.agent.requests(t, p.service) - before
	for time.Now().After(trial.end) {
		trial.end = trial.end.Add(windowLength)
	}
	time.Sleep(time.Until(trial.end))
	return trial
}

// agree checks the count of requests.
func (r handlerRequests) agree(t *testing.T) {
	t.Helper()
	if diff := r.seen - float64(r.sent); diff > countBar*float64(r.sent) || -diff > countBar*float64(r.sent) {
		t.Errorf("the agent counted %.0f requests of %d", r.seen, r.sent)
	}
}

// within calls f for each sample of the windows of a trial.
func within(windows []*profile.Profile, trial handlerTrial, f func(*profile.Sample)) {
	for _, w := range windows {
		middle := time.Unix(0, w.TimeNanos+w.DurationNanos/2)
		if middle.After(trial.begin) && middle.Before(trial.end) {
			for _, s := range w.Sample {
				f(s)
			}
		}
	}
}

const (
	windowLength = time.Second // the agent's
	// settling is how long it takes until the agent has seen what has happened: it
	// looks every 50 ms.
	settling = 150 * time.Millisecond
)

// watcher is an agent that was started before all servers.
type watcher struct {
	observer
	address string
	pid     int
	stop    func() // idempotent
}

func newWatcher(t *testing.T, more ...string) watcher {
	t.Helper()
	return watcherOf(t, []string{fleetprof}, more...)
}

// watcherOf starts the agent by a command that ends with its program.
func watcherOf(t *testing.T, command []string, more ...string) watcher {
	t.Helper()
	w := watcher{observer: observer{t.TempDir()}, address: freeAddress(t)}
	cmd := exec.Command(command[0], slices.Concat(command[1:], []string{
		"agent", "--store=dir:" + w.directory, "--frequency=499", "--window=" + windowLength.String(), "--listen=" + w.address,
	}, more)...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.pid = cmd.Process.Pid
	w.stop = sync.OnceFunc(func() {
		cmd.Process.Signal(os.Interrupt)
		stuck := time.AfterFunc(time.Minute, func() { cmd.Process.Signal(syscall.SIGQUIT) }) // shows where
		defer stuck.Stop()
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("%v: %v\n%s", cmd.Args, err, &said)
		}
	})
	t.Cleanup(w.stop)
	w.since(t, time.Now()) // it is at work
	return w
}

// nextWindow waits for the agent's next window and returns when it began.
func (w watcher) nextWindow(t *testing.T) time.Time {
	t.Helper()
	begin := endOf(w.read(t, -1)[0])
	begin = begin.Add((time.Since(begin) + windowLength).Truncate(windowLength))
	time.Sleep(time.Until(begin))
	return begin
}

// windows waits until all windows up to a time are there.
func (w watcher) windows(t *testing.T, until time.Time) (all []*profile.Profile) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		last := w.read(t, -1)
		if endOf(last[0]).After(until.Add(-windowLength / 2)) {
			return w.read(t, 0)
		}
		if time.Now().After(deadline) {
			t.Fatal("the agent writes no windows")
		}
	}
}

// read gives the windows from one on, all from 0, the last for -1.
func (w watcher) read(t *testing.T, from int) (all []*profile.Profile) {
	t.Helper()
	paths, err := filepath.Glob(w.directory + "/*.pb.gz") // in the order of time
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths[(from+len(paths))%len(paths):] {
		all = append(all, readProfile(t, path))
	}
	return all
}

func endOf(p *profile.Profile) time.Time { return time.Unix(0, p.TimeNanos+p.DurationNanos) }

// requests is how many the agent has counted of a service.
func (w watcher) requests(t *testing.T, service string) float64 {
	t.Helper()
	return w.sum(t, "fleetprof_rpc_requests_total{", fmt.Sprintf("service_name=%q", service))
}
