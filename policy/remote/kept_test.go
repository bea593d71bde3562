// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fleetprof/fleetprof/policy"
	"github.com/fleetprof/fleetprof/policy/remote"
)

// memory is a store whose disk is a map. It is looked at while the agent waits.
type memory struct {
	files map[string]string
	full  bool
}

func (m *memory) Read(name string, most int) ([]byte, error) {
	text, ok := m.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if len(text) > most {
		return nil, errors.New("too large")
	}
	return []byte(text), nil
}

func (m *memory) Write(name string, text []byte) error {
	if m.full {
		return errors.New("no space left")
	}
	m.files[name] = string(text)
	return nil
}

// field gives a field of the kept policy, and puts another value in its place.
func (m *memory) field(t *testing.T, name string, value any) (was string) {
	t.Helper()
	fields := make(map[string]json.RawMessage)
	if err := json.Unmarshal([]byte(m.files["policy.json"]), &fields); err != nil {
		t.Fatal(err)
	}
	was = string(fields[name])
	if was == "" {
		t.Fatalf("no %s in %s", name, m.files["policy.json"])
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	fields[name] = text
	if text, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	m.files["policy.json"] = string(text)
	return was
}

const boostOverTenth = `rules:
  - {selector: '{service_name="checkout"}', frequency: 499, until: 1990-01-01T01:00:00Z}
  - {selector: '{}', rate: 1/10, until: 1990-01-02T00:00:00Z}`

var theirNoon = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)

// lastRun is what an agent leaves behind that took a policy of the source "script", at a
// server's time ten years before that of this host.
func lastRun(t *testing.T, document string) *memory {
	t.Helper()
	m := &memory{files: make(map[string]string)}
	run(t, m, func(a *agent, answers scripted) {
		answers.give(remote.Answer{Policy: parse(t, document), Tag: "1", Time: theirNoon})
		if n := a.metric("store_errors_total", "write"); n != 0 {
			t.Errorf("%v errors: %s", n, a.log)
		}
	})
	return m
}

// run runs an agent at the beginning of the year 2000 until do is done.
func run(t *testing.T, m *memory, do func(a *agent, answers scripted)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		answers := make(scripted)
		do(followWith(t, answers, m), answers)
	})
}

// give returns once the agent has taken an answer.
func (s scripted) give(a remote.Answer) {
	s <- a
	synctest.Wait()
}

// What is in force after a restart without the server, by what can be known of the time
// that has passed.
func TestRestart(t *testing.T) {
	ourNoon := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, m *memory)
		want   policy.Decision
	}{
		{"at once", func(*testing.T, *memory) {}, policy.Decision{KeepOneIn: 1, Frequency: 499, Rule: 1}},
		{"after the boost, same boot", func(t *testing.T, m *memory) { shiftUptime(t, m, time.Hour) }, policy.Decision{KeepOneIn: 10, Rule: 2}},
		{"same boot, the wall clock set back", func(t *testing.T, m *memory) {
			shiftUptime(t, m, time.Hour)
			m.field(t, "wall_time", ourNoon.Add(50*time.Hour))
		}, policy.Decision{KeepOneIn: 10, Rule: 2}},
		{"same boot, the wall clock set ahead", func(t *testing.T, m *memory) { m.field(t, "wall_time", ourNoon.Add(-50*time.Hour)) },
			policy.Decision{KeepOneIn: 1, Frequency: 499, Rule: 1}},
		{"after everything, same boot", func(t *testing.T, m *memory) { shiftUptime(t, m, 25*time.Hour) }, usual},
		{"rebooted", func(t *testing.T, m *memory) { m.field(t, "boot_id", "another") }, policy.Decision{KeepOneIn: 10, Rule: 1}},
		{"rebooted, the wall clock set back", func(t *testing.T, m *memory) {
			m.field(t, "boot_id", "another")
			m.field(t, "wall_time", ourNoon.Add(50*time.Hour))
		}, policy.Decision{KeepOneIn: 10, Rule: 1}},
		{"rebooted after everything", func(t *testing.T, m *memory) {
			m.field(t, "boot_id", "another")
			m.field(t, "wall_time", ourNoon.Add(-50*time.Hour))
		}, usual},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := lastRun(t, boostOverTenth)
			tt.change(t, m)
			run(t, m, func(a *agent, _ scripted) {
				if got := a.checkout(); got != tt.want {
					t.Errorf("decision is %+v, want %+v: %s", got, tt.want, a.log)
				}
				if s := a.status(); !s.Restored || s.Received == nil || !s.Received.Equal(ourNoon) {
					t.Errorf("status is %+v", s)
				}
			})
		})
	}
}

// shiftUptime makes the kept policy older, by the clock that nobody sets.
func shiftUptime(t *testing.T, m *memory, by time.Duration) {
	t.Helper()
	var was time.Duration
	if err := json.Unmarshal([]byte(m.field(t, "boottime_ns", 0)), &was); err != nil {
		t.Fatal(err)
	}
	if was >= by {
		m.field(t, "boottime_ns", was-by)
		return
	}
	// The host is not up for so long. To be later by the server's clock is the same.
	m.field(t, "boottime_ns", was)
	var theirs time.Time
	if err := json.Unmarshal([]byte(m.field(t, "server_time", 0)), &theirs); err != nil {
		t.Fatal(err)
	}
	m.field(t, "server_time", theirs.Add(by))
}

// The first answer of the source replaces what was kept, and is kept.
func TestRestartThenAnswer(t *testing.T) {
	m := lastRun(t, boostOverTenth)
	m.field(t, "boot_id", "another")
	run(t, m, func(a *agent, answers scripted) {
		answers.give(remote.Answer{Policy: parse(t, boostOverTenth), Tag: "2", Time: theirNoon})
		if s := a.status(); s.Restored || a.checkout() != boosted {
			t.Errorf("status is %+v", s)
		}
	})
	if !strings.Contains(m.files["policy.json"], `"frequency":499`) {
		t.Errorf("kept is %s", m.files["policy.json"])
	}
}

// A server that says that it is later than thought ends a boost, and a restart does not
// bring it back, nor the time that had passed by the server's clock.
func TestRestartAfterCorrectedClock(t *testing.T) {
	m := &memory{files: make(map[string]string)}
	run(t, m, func(a *agent, answers scripted) {
		answers.give(remote.Answer{Policy: parse(t, boostOverTenth), Tag: "1", Time: theirNoon})
		answers.give(remote.Answer{Unchanged: true, Time: theirNoon.Add(59 * time.Minute)})
		if got := a.checkout(); got != boosted {
			t.Errorf("decision is %+v", got)
		}
	})
	shiftUptime(t, m, 2*time.Minute)
	run(t, m, func(a *agent, _ scripted) {
		if got := a.checkout(); got != (policy.Decision{KeepOneIn: 10, Rule: 2}) {
			t.Errorf("decision is %+v", got)
		}
	})
}

// What is no policy of this source is ignored, and counted if no agent writes such a thing.
func TestKeptIsForeign(t *testing.T) {
	for _, tt := range []struct {
		name, reason string
		change       func(t *testing.T, m *memory)
	}{
		{"of another source", "", func(t *testing.T, m *memory) { m.field(t, "source", "http://elsewhere") }},
		{"none", "", func(_ *testing.T, m *memory) { clear(m.files) }},
		{"garbage", "corrupt", func(_ *testing.T, m *memory) { m.files["policy.json"] = "\x00\xff" }},
		{"empty", "corrupt", func(_ *testing.T, m *memory) { m.files["policy.json"] = "" }},
		{"half", "corrupt", func(_ *testing.T, m *memory) { m.files["policy.json"] = m.files["policy.json"][:100] }},
		{"deep", "corrupt", func(_ *testing.T, m *memory) { m.files["policy.json"] = strings.Repeat(`{"policy":[`, 20_000) }},
		{"huge", "read", func(_ *testing.T, m *memory) { m.files["policy.json"] = strings.Repeat(" ", 8<<20) }},
		{"another format", "corrupt", func(t *testing.T, m *memory) { m.field(t, "format", 2) }},
		{"no time", "corrupt", func(t *testing.T, m *memory) { m.field(t, "server_time", time.Time{}) }},
		{"no policy", "corrupt", func(t *testing.T, m *memory) { m.field(t, "policy", nil) }},
		{"a bad rule", "corrupt", func(t *testing.T, m *memory) {
			m.field(t, "policy", json.RawMessage(`{"rules":[{"selector":"{}"}]}`))
		}},
		{"a boost for ever", "corrupt", func(t *testing.T, m *memory) {
			m.field(t, "policy", json.RawMessage(`{"rules":[{"selector":"{}","frequency":499,"until":"2990-01-01T00:00:00Z"}]}`))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := lastRun(t, boostOverTenth)
			tt.change(t, m)
			run(t, m, func(a *agent, _ scripted) {
				if got := a.checkout(); got != usual {
					t.Errorf("decision is %+v", got)
				}
				for _, reason := range []string{"corrupt", "read"} {
					if got := a.metric("store_errors_total", reason); (got == 1) != (reason == tt.reason) {
						t.Errorf("%v counted as %s: %s", got, reason, a.log)
					}
				}
			})
		})
	}
}

// A full disk changes nothing but that it is said once, and counted.
func TestStoreRefuses(t *testing.T) {
	m := &memory{files: make(map[string]string), full: true}
	run(t, m, func(a *agent, answers scripted) {
		for i := range 3 {
			answers.give(remote.Answer{Policy: parse(t, tenthOfAll), Tag: fmt.Sprint(i)})
		}
		if got := a.metric("store_errors_total", "write"); got != 3 || a.checkout() != tenth {
			t.Errorf("%v errors, decision is %+v", got, a.checkout())
		}
		m.full = false
		answers.give(remote.Answer{Unchanged: true})
		if log := a.log.String(); strings.Count(log, "is not kept") != 1 || len(m.files) != 1 {
			t.Errorf("%d files, log is\n%s", len(m.files), log)
		}
	})
}
