// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/bootclock"
	"github.com/fleetprof/fleetprof/policy"
)

// FuzzDecode holds that whatever lies in the state directory is refused or in force as it
// is: a boost never for longer than a boost may last, and none after a reboot.
func FuzzDecode(f *testing.F) {
	now := bootclock.Instant{Boot: "a", Uptime: time.Hour, Wall: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)}
	p, err := policy.ParseYAML([]byte(`rules: [{selector: '{a="<b>"}', frequency: 499, until: 2026-11-28T13:00:00Z}, {selector: '{}', rate: 1/2}]`))
	if err != nil {
		f.Fatal(err)
	}
	text, err := encode("script", &state{policy: p, received: now.Wall, clock: newClock(now.Wall)}, now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format":1,"source":"script","server_time":"2026-11-28T12:00:00Z","boottime_ns":-9223372036854775808,"boot_id":"a","policy":{"rules":[]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, exact, err := decode(text, "script", now)
		if err != nil {
			if !errors.Is(err, errCorrupt) && !errors.Is(err, errOtherSource) {
				t.Errorf("error is %v", err)
			}
			return
		}
		if all := s.policy.Unboosted().Rules; !exact && len(all) != len(s.policy.Rules) {
			t.Errorf("boosts after a reboot: %v", s.policy.Rules)
		}
		if err := s.policy.CheckBoosts(s.clock.now()); err != nil {
			t.Error(err)
		}
	})
}
