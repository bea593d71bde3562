// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"golang.org/x/sync/errgroup"
)

var hostileSeconds = flag.Int("hostile.seconds", 2, "seconds that TestHostileClients attacks")

// TestHostileClients puts hostile clients beside well-behaved ones on servers that an
// agent watches. The servers must answer the well-behaved ones all the time, what is said
// of samples must be true, and the agent must live, within its memory, and come to rest
// when the attack is over.
//
// At length: -run TestHostileClients -hostile.seconds=30
func TestHostileClients(t *testing.T) {
	needRoot(t)
	h := builtHandlers(t, buildGoHTTP, buildGRPCGo)
	h.agent = newWatcher(t)
	running := make(map[string]*servingHandlers)
	attacked := []*hostileTrial{
		{attacks: http1Attacks(), server: h.start(t, handlerServerNamed("go-http"), running)},
		{attacks: http1Attacks(), server: h.start(t, handlerServerNamed("python-threads"), running)},
		{attacks: http2Attacks(), server: h.start(t, handlerServerNamed("grpc-go"), running)},
	}
	for _, a := range attacked {
		a.stop = loadUntil(t, a.server)
	}
	begin := h.agent.nextWindow(t)
	quiet := h.agent.load(t, windowLength)
	before := metrics(t, h.agent.address)
	attacking := time.Duration(*hostileSeconds) * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), attacking)
	defer cancel()
	var attackers sync.WaitGroup
	for _, a := range attacked {
		attackers.Go(func() { a.made = launch(ctx, a.server.address, a.attacks, 4) })
	}
	attackers.Wait()
	flood(t, attacked[0].server.address, attacking/2)
	time.Sleep(windowLength)
	after := metrics(t, h.agent.address)
	h.agent.restsAgain(t, quiet)
	end := time.Now()
	for _, a := range attacked {
		a.answers = a.stop()
	}
	windows := h.agent.windows(t, end)
	for _, a := range attacked {
		t.Run(a.server.server.name, func(t *testing.T) { a.judge(t, windows, handlerTrial{begin: begin, end: end}) })
	}
	h.agent.survived(t, before, after)
}

// hostileTrial is a server that was attacked.
type hostileTrial struct {
	server  *servingHandlers
	attacks []attack
	made    []int
	stop    func() int64
	answers int64
}

// judge checks that the well-behaved clients were answered, and all that is said of the
// server's samples, of those of the attack too.
func (h *hostileTrial) judge(t *testing.T, windows []*profile.Profile, trial handlerTrial) {
	if h.answers == 0 {
		t.Error("no well-behaved request was answered")
	}
	for i, n := range h.made {
		if n == 0 {
			t.Errorf("attack never made: %s", h.attacks[i].name)
		}
	}
	v := newHandlerVerdict()
	within(windows, trial, func(s *profile.Sample) {
		if h.server.owns(s) {
			v.hold(h.server.server, s)
		}
	})
	t.Logf("%d answers\n%s\n%s", h.answers, handlerColumns, v.row(h.server.server.name, "hostile", handlerRequests{}))
	v.honest(t)
	v.meaningful(t)
}

// connections is how many are opened and not used.
const connections = 10_000

// flood opens connections, leaves them alone, sends one byte on each, and closes them.
func flood(t *testing.T, address string, lasting time.Duration) {
	t.Helper()
	all := make([]net.Conn, connections)
	defer func() {
		for _, conn := range all {
			if conn != nil {
				conn.Close()
			}
		}
	}()
	var dialing errgroup.Group
	dialing.SetLimit(64)
	for i := range all {
		dialing.Go(func() (err error) {
			all[i], err = net.DialTimeout("tcp", address, 10*time.Second)
			return err
		})
	}
	if err := dialing.Wait(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(lasting)
	for _, conn := range all {
		if _, err := conn.Write([]byte("G")); err != nil {
			t.Error(err)
			break
		}
	}
	time.Sleep(lasting)
}

// load is the share of one CPU that the agent takes.
func (w watcher) load(t *testing.T, lasting time.Duration) float64 {
	t.Helper()
	began, before := time.Now(), cpuOf(t, w.pid)
	time.Sleep(lasting)
	return cpuOf(t, w.pid).since(before).total() / time.Since(began).Seconds()
}

// restsAgain waits until the agent takes no more CPU time than before the attack.
func (w watcher) restsAgain(t *testing.T, before float64) {
	t.Helper()
	const slack = 0.1 // of a CPU: windows differ
	for deadline := time.Now().Add(20 * time.Second); ; {
		now := w.load(t, windowLength)
		if now <= 1.5*before+slack {
			t.Logf("the agent took %.0f %% of a CPU before and %.0f %% after", 100*before, 100*now)
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the agent takes %.0f %% of a CPU, took %.0f %% before", 100*now, 100*before)
			return
		}
	}
}

// survived checks that the agent is well, kept to its memory, and counted what it gave up.
func (w watcher) survived(t *testing.T, before, after map[string]float64) {
	t.Helper()
	answer, err := http.Get("http://" + w.address + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("the agent is not well: %s", answer.Status)
	}
	const maps = "fleetprof_bpf_map_bytes"
	if after[maps] != before[maps] {
		t.Errorf("BPF maps take %.0f bytes, took %.0f", after[maps], before[maps])
	}
	peak := highWater(t, w.pid) - mappedMaps(t, w.pid) + after[maps]/(1<<20)
	t.Logf("%.1f MiB at most, of which %.1f are maps", peak, after[maps]/(1<<20))
	if peak > memoryBudget {
		t.Errorf("resident memory and maps were %.1f MiB, want at most %d", peak, memoryBudget)
	}
	for name, n := range after {
		moved := n - before[name]
		if strings.HasPrefix(name, "fleetprof_rpc_") && !strings.Contains(name, "service_name") && !strings.Contains(name, "_bucket") && moved != 0 {
			t.Logf("%s %+g", name, moved)
		}
	}
	for _, name := range []string{
		"fleetprof_rpc_malformed_heads_total",
		`fleetprof_rpc_ended_total{by="close"}`, `fleetprof_rpc_ended_total{by="void"}`,
	} {
		if after[name] <= before[name] {
			t.Errorf("%s did not move", name)
		}
	}
}
