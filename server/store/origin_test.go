// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
	"github.com/fleetprof/fleetprof/wire"
)

// sender is both ends of a session.
type sender struct {
	*wire.Encoder
	session wire.Session
}

// push gives a profile as the server gets it. One that is lost gives its numbers away.
func (s *sender) push(t *testing.T, p *profile.Profile, lost bool) (*columns.Profile, wire.ID) {
	t.Helper()
	gz := profiletest.Gzip(t, p)
	c, err := columns.Read(gz)
	if err != nil {
		t.Fatal(err)
	}
	id := store.IDOf(gz)
	body, err := s.Encode(c, id)
	if err != nil {
		t.Fatal(err)
	}
	unpacker, err := wire.NewUnpacker()
	if err != nil {
		t.Fatal(err)
	}
	push, err := unpacker.Unpack(body)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = s.session.Decode(push); err != nil {
		t.Fatal(err)
	}
	if lost {
		s.Rollback()
		s.session.Rollback()
	} else {
		s.Commit()
		s.session.Commit()
	}
	return c, id
}

// Numbers of senders stand for what each of them has said, whatever others call the same
// and whatever became of pushes in between.
func TestNumbersOfSenders(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	begin := time.Now().Add(-time.Hour)
	senders := make([]sender, 3)
	for i := range senders {
		e, err := wire.NewEncoder()
		if err != nil {
			t.Fatal(err)
		}
		senders[i].Encoder = e
	}
	var all []*profile.Profile
	for window := range 8 {
		start := begin.Add(time.Duration(window) * profiletest.Duration)
		for i := range senders {
			// Seeds come again, so that stacks do.
			p := profiletest.Random(uint64(7*i+window%3), "host", start.Add(time.Duration(i)), 60)
			if window == 4 {
				senders[i].push(t, profiletest.Random(uint64(100+i), "host", start, 30), true)
			}
			c, id := senders[i].push(t, p, false)
			if err := s.Append(t.Context(), c, id); err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
		if window == 5 {
			s.mustSeal() // the next head knows no numbers
		}
	}
	s.want(truth(all...))
}
