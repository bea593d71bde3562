// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/uploader/spool"
)

// mortal is a `fleetprof agent` that is killed.
type mortal struct {
	cmd     *exec.Cmd
	address string // of /metrics
	store   string // its only one
	log     *bytes.Buffer
}

func startMortal(t *testing.T, state, store string, args ...string) *mortal {
	t.Helper()
	m := &mortal{address: freeAddress(t), store: store, log: new(bytes.Buffer)}
	m.cmd = exec.Command(fleetprof, append([]string{"agent", "--window=1s", "--frequency=199", "--policy-from=none",
		"--listen=" + m.address, "--state-dir=" + state, "--store=" + store}, args...)...)
	m.cmd.Stderr = m.log
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.kill)
	return m
}

func (m *mortal) kill() {
	_ = m.cmd.Process.Signal(syscall.SIGKILL) // it may have been killed before
	_ = m.cmd.Wait()
}

// until waits for the agent's metrics to be as wanted.
func (m *mortal) until(t *testing.T, what string, ok func(value func(name string) float64) bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for ; time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", m.address); err != nil || c.Close() != nil {
			continue
		}
		all := metrics(t, m.address)
		if ok(func(name string) float64 {
			return all[fmt.Sprintf("fleetprof_uploader_%s{destination=%q}", name, m.store)]
		}) {
			return
		}
	}
	t.Fatalf("in vain waited for %s\n%s", what, m.log)
}

// spooledSamples adds up what the names of records say.
func spooledSamples(t *testing.T, state string) (samples float64) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(state, "spool", "*"))
	if err != nil || len(all) != 1 {
		t.Fatalf("spools %q, %v", all, err)
	}
	_, records, err := spool.Open(all[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		samples += float64(r.Samples)
	}
	return samples
}

// An agent that is killed twice while its server is away, and once more when the server is
// there: what it had counted as taken in is in the store, and nothing twice.
func TestKilledAgentLosesNothing(t *testing.T) {
	needRoot(t)
	t.Parallel()
	state, address := filepath.Join(t.TempDir(), "state"), freeAddress(t)
	busy := exec.Command("bash", "-c", "while :; do x=$((x+1)); done")
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = busy.Process.Kill(), busy.Wait() }()

	var counted, waiting float64 // samples
	for range 2 {
		m := startMortal(t, state, "http://"+address)
		m.until(t, "a window", func(value func(string) float64) bool {
			if recovered := value("samples_recovered_total"); recovered != waiting {
				t.Errorf("%v samples are recovered of %v", recovered, waiting)
			}
			counted = waiting + value("samples_in_total")
			return value("profiles_in_total") >= 1
		})
		m.kill()
		if waiting = spooledSamples(t, state); waiting < counted {
			t.Fatalf("%v samples were counted and %v are on disk", counted, waiting)
		}
	}
	server := startOn(t, address, "server", "--data="+t.TempDir())
	m := startMortal(t, state, server.url)
	var sent float64
	m.until(t, "everything to be sent", func(value func(string) float64) bool {
		sent = value("samples_sent_total")
		return sent > waiting && value("waiting_samples") == 0
	})
	m.kill()
	// Another window may have been sent between the look and the end.
	if stored := server.samples(t); stored < sent || stored > sent+1000 || spooledSamples(t, state)+stored < sent {
		t.Errorf("%v samples are stored, %v were sent of %v", stored, sent, waiting)
	}
	server.interrupt(t)
}

// samples is the total of what is stored.
func (d *daemon) samples(t *testing.T) (sum float64) {
	t.Helper()
	if p := d.profile(t, ""); p != nil {
		for _, s := range p.Sample {
			sum += float64(s.Value[0])
		}
	}
	return sum
}
