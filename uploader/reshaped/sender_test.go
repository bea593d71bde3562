// SPDX-License-Identifier: Apache-2.0

package reshaped_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/reshape"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/uploader"
	"github.com/fleetprof/fleetprof/uploader/reshaped"
	"github.com/fleetprof/fleetprof/uploader/storetest"
)

// letters is a store of letters, of which a window has the given ones. A piece has as many samples
// as its place, from 1; two letters fit into a request.
type letters struct {
	answer   func(request string) error
	requests []string
}

func (l *letters) sender(window string) *reshaped.Sender[string] {
	return reshaped.NewSender(reshaped.Form[string]{
		Pieces: func(*columns.Profile) (pieces []reshaped.Piece[string], cuts reshape.Cuts, err error) {
			for i, c := range strings.Split(window, "") {
				pieces = append(pieces, reshaped.Piece[string]{Content: c, Samples: int64(i + 1), Bytes: 5})
			}
			return pieces, reshape.Cuts{Labels: 1, Values: 2, Stacks: 3}, nil
		},
		Post: func(_ context.Context, pieces []string) error {
			request := strings.Join(pieces, "")
			l.requests = append(l.requests, request)
			return l.answer(request)
		},
		Bytes: 14,
	})
}

// refuse is a store that never takes some letters, all of a request or none.
func refuse(which string) func(string) error {
	return func(request string) error {
		if strings.ContainsAny(request, which) {
			return uploader.Permanent{Err: errors.New("no " + which), Reason: "why"}
		}
		return nil
	}
}

func TestSender(t *testing.T) {
	busy := errors.New("busy")
	ok := error(nil)
	for _, c := range []struct {
		name     string
		answer   func(string) error
		requests string
		samples  int64 // refused
		partial  bool
		err      error
	}{
		{"all", refuse("-"), "ab cd e", 0, false, ok},
		{"one refused", refuse("c"), "ab cd c d e", 3, true, ok},
		{"a request refused", refuse("ab"), "ab a b cd e", 3, true, ok},
		{"all refused", refuse("abcde"), "ab a b cd c d e", 15, false, ok},
		{"busy", func(r string) error {
			if r == "cd" {
				return busy
			}
			return nil
		}, "ab cd", 0, false, busy},
		{"some refused", func(r string) error {
			if strings.Contains(r, "b") {
				return reshaped.Some{Err: uploader.Permanent{Err: errors.New("no b")}, Failed: []int{strings.Index(r, "b")}}
			}
			return nil
		}, "ab cd e", 2, true, ok},
		{"some busy, one refused", func(r string) error {
			if r == "cd" {
				return reshaped.Some{Err: uploader.Permanent{Err: errors.New("no c, and busy")}, Failed: []int{0, 1}}
			}
			return refuse("c")(r)
		}, "ab cd c d e", 3, true, ok},
		{"all refused alike", func(r string) error {
			if r == "e" {
				return nil
			}
			return reshaped.Some{Err: uploader.Permanent{Err: errors.New("too old")}, Failed: []int{0, 1}, Alike: true}
		}, "ab cd e", 10, true, ok},
		{"some busy alike", func(r string) error {
			return reshaped.Some{Err: busy, Failed: []int{0, 1}, Alike: true}
		}, "ab", 0, false, busy},
		{"samples refused", func(r string) error {
			return uploader.Partial{Err: errors.New("not all"), Samples: int64(len(r))}
		}, "ab cd e", 5, true, ok},
	} {
		l := &letters{answer: c.answer}
		s := l.sender("abcde")
		err := s.Send(t.Context(), storetest.Window(t, profiletest.New(start)))
		if got := strings.Join(l.requests, " "); got != c.requests {
			t.Errorf("%s: requests are %s, want %s", c.name, got, c.requests)
		}
		var partial uploader.Partial
		if errors.As(err, &partial) != c.partial || c.partial && partial.Samples != c.samples {
			t.Errorf("%s: %d samples are refused of a part, want %d: %v", c.name, partial.Samples, c.samples, err)
		}
		if whole := errors.As(err, new(uploader.Permanent)) && !c.partial; whole != (c.samples > 0 && !c.partial) || errors.Is(err, busy) != (c.err != nil) {
			t.Errorf("%s: error is %v", c.name, err)
		}
		if want := (reshape.Cuts{Labels: 1, Values: 2, Stacks: 3}); (s.Cuts() == want) != (c.err == nil) {
			t.Errorf("%s: cuts are %+v", c.name, s.Cuts())
		}
	}
}

// A window is gone on with where it has stopped, also when others were begun since, and what was
// refused before counts. What is remembered is bounded.
func TestSenderGoesOn(t *testing.T) {
	l := &letters{}
	s := l.sender("abcde")
	w := func(n int) sample.Profile {
		return storetest.Window(t, profiletest.New(start, profiletest.Sample{Stack: fmt.Sprint("f", n), Count: 1}))
	}
	send := func(n int, want string, answer func(string) error) error {
		t.Helper()
		l.answer, l.requests = answer, nil
		err := s.Send(t.Context(), w(n))
		if got := strings.Join(l.requests, " "); got != want {
			t.Errorf("requests are %s, want %s", got, want)
		}
		return err
	}
	until := func(last string) func(string) error { // which a store is too busy to take
		return func(r string) error {
			if strings.Contains(r, last) {
				return errors.New("busy")
			}
			return refuse("b")(r)
		}
	}
	_ = send(0, "ab a b cd", until("c"))
	for n := range 31 {
		_ = send(n+1, "ab a b cd e", until("e"))
	}
	_ = send(0, "cd", func(r string) error {
		if r == "cd" {
			return reshaped.Some{Err: errors.New("busy with d"), Failed: []int{1}}
		}
		return nil
	})
	if err := send(0, "de", until("d")); err == nil {
		t.Error("busy is nothing")
	}
	var partial uploader.Partial
	if err := send(0, "de", refuse("-")); !errors.As(err, &partial) || partial.Samples != 2 {
		t.Errorf("what was refused before is %d samples: %v", partial.Samples, err)
	}
	if err := send(0, "ab cd e", refuse("-")); err != nil { // it is another one
		t.Error(err)
	}
	for n := range 40 {
		_ = send(100+n, "ab", until("a"))
	}
	if err := send(20, "ab cd e", refuse("-")); err != nil { // forgotten by now
		t.Error(err)
	}
}

// What was not taken of a request is sent again, and nothing else.
func TestSomeInOrder(t *testing.T) {
	l := &letters{answer: func(string) error { return reshaped.Some{Err: errors.New("busy"), Failed: []int{0}} }}
	s := l.sender("ab")
	for range 3 {
		_ = s.Send(t.Context(), storetest.Window(t, profiletest.New(start)))
	}
	if want := []string{"ab", "a", "a"}; !slices.Equal(l.requests, want) {
		t.Errorf("requests are %v", l.requests)
	}
}
