// SPDX-License-Identifier: Apache-2.0

// Package reshaped is what the destinations have in common that send a window in another form than
// it has: in pieces, which package reshape makes and several requests carry.
//
// Pieces that a store has taken are not sent again as long as the agent runs: it remembers what of a
// window was answered. When a request is refused for good, its pieces are sent in smaller
// ones, until the refused is alone.
package reshaped

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/fleetprof/fleetprof/reshape"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/uploader"
)

// Piece is the least that can be sent of a window.
type Piece[T any] struct {
	Content T
	// Samples is how many of sample.Profile.Samples are in it.
	Samples int64
	// Bytes is its size as it counts for Form.Bytes.
	Bytes int
}

// Form is how one kind of store wants windows.
type Form[T any] struct {
	// Pieces gives the same each time it is called with the same window.
	Pieces func(*columns.Profile) ([]Piece[T], reshape.Cuts, error)
	// Post sends pieces in one request. Its errors mean what those of uploader.Destination.Send
	// mean, of the pieces in the request; one that wraps Some is of the pieces it lists.
	Post func(ctx context.Context, pieces []T) error
	// Bytes bounds a request that has more than one piece.
	Bytes int
}

// Some marks an error of Post after which only some pieces were not taken.
type Some struct {
	Err    error
	Failed []int // their indexes, in order
	// Alike says that it is the same for all of them what Err says, so that they need not be tried
	// by themselves.
	Alike bool
}

func (s Some) Error() string { return s.Err.Error() }
func (s Some) Unwrap() error { return s.Err }

// Sender sends windows. It is safe for concurrent use with different windows.
type Sender[T any] struct {
	form Form[T]

	mu    sync.Mutex
	cuts  reshape.Cuts
	begun []*progress // the oldest first
}

// maxBegun bounds the windows of which is remembered what was sent. There are as many as are sent at
// a time, and those that are dropped before they are sent.
const maxBegun = 32

// progress is what became of the pieces of a window so far.
type progress struct {
	id      [sha256.Size]byte
	done    []bool
	refused int   // pieces
	lost    int64 // samples refused
	first   error // why
}

// NewSender makes one that sends nothing yet.
func NewSender[T any](form Form[T]) *Sender[T] { return &Sender[T]{form: form} }

// Cuts is what was left off the windows delivered so far.
func (s *Sender[T]) Cuts() reshape.Cuts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cuts
}

// errExemplars is why exemplars are not delivered.
var errExemplars = errors.New("such a store takes no exemplars")

// Send delivers a window, see uploader.Destination.
func (s *Sender[T]) Send(ctx context.Context, p sample.Profile) error {
	window, err := reshape.Decode(p.PProf)
	if err != nil {
		return uploader.Permanent{Err: fmt.Errorf("read own profile: %w", err), Reason: "unreadable"}
	}
	pieces, cuts, err := s.form.Pieces(window)
	if err != nil {
		return uploader.Permanent{Err: fmt.Errorf("reshape profile: %w", err), Reason: "unreadable"}
	}
	now := s.begin(p.PProf, len(pieces))
	if err := s.post(ctx, pieces, now); err != nil {
		return err
	}
	s.end(now, cuts)
	switch {
	case now.refused > 0 && now.refused == len(pieces):
		return permanent(now.first)
	case now.first != nil:
		err = uploader.Partial{Err: now.first, Samples: now.lost}
	}
	if p.Exemplars != nil {
		err = errors.Join(err, uploader.Incomplete{Err: errExemplars})
	}
	return err
}

// permanent makes sure that an error is not taken for one of which a part was delivered.
func permanent(err error) error {
	var p uploader.Permanent
	if errors.As(err, &p) {
		return p
	}
	return uploader.Permanent{Err: err}
}

// begin gives what is known of a window.
func (s *Sender[T]) begin(gz []byte, pieces int) *progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := sha256.Sum256(gz)
	for _, p := range s.begun {
		if p.id == id {
			return p
		}
	}
	p := &progress{id: id, done: make([]bool, pieces)}
	s.begun = append(s.begun[max(0, len(s.begun)+1-maxBegun):], p)
	return p
}

// end forgets a window that is delivered.
func (s *Sender[T]) end(done *progress, cuts reshape.Cuts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cuts.Labels += cuts.Labels
	s.cuts.Values += cuts.Values
	s.cuts.Stacks += cuts.Stacks
	for i, p := range s.begun {
		if p == done {
			s.begun = append(s.begun[:i], s.begun[i+1:]...)
			return
		}
	}
}

// post sends what of a window has no answer yet.
func (s *Sender[T]) post(ctx context.Context, pieces []Piece[T], p *progress) error {
	waiting := s.requests(pieces, p)
	for len(waiting) > 0 {
		request := waiting[0]
		waiting = waiting[1:]
		content := make([]T, len(request))
		for n, i := range request {
			content[n] = pieces[i].Content
		}
		err := s.form.Post(ctx, content)
		failed := p.settle(request, err)
		switch {
		case len(failed) == 0:
		case !errors.As(err, new(uploader.Permanent)):
			return err
		case len(failed) == 1, alike(err):
			for _, i := range failed {
				p.refuse(i, pieces[i].Samples, err)
			}
		default:
			half := len(failed) / 2
			waiting = append([][]int{failed[:half], failed[half:]}, waiting...)
		}
	}
	return nil
}

func alike(err error) bool {
	var some Some
	return errors.As(err, &some) && some.Alike
}

// requests puts the pieces together that go into one request.
func (s *Sender[T]) requests(pieces []Piece[T], p *progress) (all [][]int) {
	var request []int
	bytes := 0
	for i, piece := range pieces {
		if p.done[i] {
			continue
		}
		if len(request) > 0 && bytes+piece.Bytes > s.form.Bytes {
			all, request, bytes = append(all, request), nil, 0
		}
		request, bytes = append(request, i), bytes+piece.Bytes
	}
	if len(request) > 0 {
		all = append(all, request)
	}
	return all
}

// settle notes which pieces of a request were taken, and gives the others.
func (p *progress) settle(request []int, err error) (failed []int) {
	var some Some
	var partial uploader.Partial
	switch {
	case err == nil:
	case errors.As(err, &partial):
		p.lost += partial.Samples
		p.explain(err)
	case errors.As(err, &some):
		for _, n := range some.Failed {
			failed = append(failed, request[n])
		}
	default:
		failed = request
	}
	not := make(map[int]bool, len(failed))
	for _, i := range failed {
		not[i] = true
	}
	for _, i := range request {
		p.done[i] = !not[i]
	}
	return failed
}

// refuse notes that a piece will never be taken.
func (p *progress) refuse(i int, samples int64, err error) {
	p.done[i] = true
	p.refused++
	p.lost += samples
	p.explain(err)
}

func (p *progress) explain(err error) {
	if p.first == nil {
		p.first = err
	}
}
