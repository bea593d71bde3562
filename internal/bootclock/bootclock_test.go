// SPDX-License-Identifier: Apache-2.0

package bootclock

import (
	"testing"
	"time"
)

func TestSince(t *testing.T) {
	noon := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	at := func(boot string, uptime, wall time.Duration) Instant {
		return Instant{Boot: boot, Uptime: uptime, Wall: noon.Add(wall)}
	}
	for _, tt := range []struct {
		name           string
		earlier, later Instant
		passed         time.Duration
		exact          bool
	}{
		{"same boot", at("a", time.Minute, 0), at("a", time.Hour, time.Second), 59 * time.Minute, true},
		{"same boot, wall clock set back", at("a", time.Minute, 0), at("a", time.Hour, -time.Hour), 59 * time.Minute, true},
		{"another boot", at("a", time.Hour, 0), at("b", 2*time.Hour, time.Second), time.Second, false},
		{"another boot, wall clock set back", at("a", time.Hour, 0), at("b", 2*time.Hour, -time.Second), 0, false},
		{"boottime gone back", at("a", time.Hour, 0), at("a", time.Minute, time.Second), time.Second, false},
		{"boottime that never was", at("a", -time.Hour, 0), at("a", time.Minute, time.Second), time.Second, false},
		{"unknown boots", at("", 0, 0), at("", 0, time.Second), time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if passed, exact := tt.later.Since(tt.earlier); passed != tt.passed || exact != tt.exact {
				t.Errorf("got %v, %v; want %v, %v", passed, exact, tt.passed, tt.exact)
			}
		})
	}
}

func TestNow(t *testing.T) {
	before := Now()
	time.Sleep(time.Millisecond)
	after := Now()
	if before.Boot == "" || before.Wall.IsZero() {
		t.Errorf("now is %+v", before)
	}
	if passed, exact := after.Since(before); !exact || passed < time.Millisecond {
		t.Errorf("%v passed, exact %v", passed, exact)
	}
}
