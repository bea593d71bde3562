// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/wire"
)

// TestSessions has room for three sessions.
func TestSessions(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := newMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	x, now := newSessions(m, 300), time.Now()
	use := func(name byte, after time.Duration) {
		t.Helper()
		now = now.Add(after)
		s, ok := x.open(wire.ID{name}, true, now)
		if !ok {
			t.Fatalf("session %c is not begun", name)
		}
		x.settle(s, 100, now)
	}
	wantKnown := func(want string) {
		t.Helper()
		var got strings.Builder
		for at := x.order.Back(); at != nil; at = at.Prev() {
			got.WriteByte(at.Value.(*session).id[0])
		}
		if got.String() != want || len(x.known) != len(want) || x.bytes != int64(100*len(want)) {
			t.Errorf("known are %s with %d bytes, want %s", got.String(), x.bytes, want)
		}
	}
	if _, ok := x.open(wire.ID{'z'}, false, now); ok {
		t.Error("an unknown session is known")
	}
	use('a', 0)
	use('b', time.Second)
	use('c', time.Second)
	use('a', time.Second)
	wantKnown("bca")
	use('d', time.Second) // all others are in use
	wantKnown("bca")
	use('e', idleAfter) // b and c are not any more, and one of them has to go
	wantKnown("cae")
	use('f', goneAfter)
	wantKnown("ef")
	gone, _ := x.open(wire.ID{'e'}, false, now)
	x.mu.Lock()
	x.forget(x.known[wire.ID{'e'}], "evicted")
	x.mu.Unlock()
	x.settle(gone, 500, now) // it had to go while it was in use
	wantKnown("f")
	expect := `# HELP fleetprof_ingest_sessions_ended_total Sessions forgotten: idle, evicted (idle for less, but room was needed), refused (no room beside those in use).
# TYPE fleetprof_ingest_sessions_ended_total counter
fleetprof_ingest_sessions_ended_total{reason="evicted"} 2
fleetprof_ingest_sessions_ended_total{reason="idle"} 2
fleetprof_ingest_sessions_ended_total{reason="refused"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(expect), "fleetprof_ingest_sessions_ended_total"); err != nil {
		t.Error(err)
	}
}
