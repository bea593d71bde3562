// SPDX-License-Identifier: Apache-2.0

// Package debuginfo sends what names the code of sampled programs to stores that name it themselves: each
// build ID once for a whole fleet. A store says whether it wants it, so that of thousands of hosts that run
// the same library one sends it: the store knows who has begun, and the others come again later.
//
// It runs beside the profiles and never holds one up: it has a rate of its own, one file is sent to a store at a
// time, and nobody waits for it. What is done is remembered in memory; after a restart stores are asked again, which
// costs one small request for each file.
package debuginfo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/sample"
)

// Standing is what a store says of a build ID.
type Standing int

const (
	// Wanted: the store has nothing of it, or a part that nobody is sending any more.
	Wanted Standing = iota
	// Present: the store has it.
	Present
	// Unwanted: the store will not take it.
	Unwanted
	// Busy: another host is sending it.
	Busy
)

// Destination is a store. It is used by one goroutine.
type Destination interface {
	// Ask asks how it stands about a build ID.
	Ask(ctx context.Context, buildID string) (Standing, error)
	// Send sends what is Wanted; Present means that the store has all of it. An error that wraps
	// uploader.Permanent means that it will never take this file, one that wraps uploader.Retry says
	// when to come again, and after any other it is tried again.
	Send(ctx context.Context, buildID string, c *Content) (Standing, error)
	// String is the address without secrets.
	String() string
}

// Source has the files of objects.
type Source interface {
	// Hold keeps the file of an object open that was sampled just now. It keeps nobody waiting.
	Hold(o *sample.Object, buildID string) (Held, error)
}

// Held is the file of an object.
type Held interface {
	// Names is what names its code, an ELF file. It is valid until Close, and safe for
	// concurrent use. The error wraps ErrNothing or ErrTooLarge where that is the reason.
	Names() (content io.ReaderAt, size int64, err error)
	Close() error
}

var (
	// ErrNothing reports a file in which nothing names code.
	ErrNothing = errors.New("nothing in it names code")
	// ErrTooLarge reports a file of which more names code than is sent.
	ErrTooLarge = errors.New("too large to be sent")
)

const (
	// minID and maxID bound the length of a build ID in hex digits: shorter ones are no hashes. That of
	// the Go linker has 166.
	minID, maxID = 16, 192
	// maxKnown bounds the build IDs that are remembered, maxWaiting those that wait for a store,
	// and maxHeld the files that are kept open for them. Others are opened when it is their turn, if
	// their programs are sampled then.
	maxKnown   = 16384
	maxWaiting = 2048
	maxHeld    = 64
	// knownFor is how long is taken for true what a store has said: it may let go of what it had.
	knownFor = 5 * time.Hour
	// spread is the time within which a store is first asked for a build ID, at random: hosts that
	// were started together meet the same files together.
	spread = 30 * time.Second
)

// Options for New.
type Options struct {
	Destinations []Destination
	Source       Source
	// Rate is how many bytes a second are sent, to all destinations together.
	Rate       int64
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Uploader is safe for concurrent use.
type Uploader struct {
	source  Source
	senders []*sender
	pace    *pace
	metrics *metrics
	spread  time.Duration

	mu     sync.Mutex
	known  map[string]known
	held   int
	closed bool
}

// known is what is known of a build ID.
type known struct {
	at      time.Time // when it was met, or else settled
	settled bool      // no store waits for it
}

// New starts nothing.
func New(o Options) (*Uploader, error) {
	u := &Uploader{source: o.Source, pace: newPace(o.Rate), metrics: newMetrics(), spread: spread, known: make(map[string]known)}
	for _, d := range o.Destinations {
		u.senders = append(u.senders, newSender(d, u, o.Logger))
	}
	if err := u.metrics.register(o.Registerer, u); err != nil {
		return nil, fmt.Errorf("register metrics of debug information: %w", err)
	}
	return u, nil
}

// valid reports whether a build ID is lower-case hex of a usual length: it becomes a part of a path.
func valid(id string) bool {
	return len(id) >= minID && len(id) <= maxID && len(id)%2 == 0 && strings.Trim(id, "0123456789abcdef") == ""
}

// Meet says that code of an object was sampled, whose build ID is in lower-case hex. It returns at once.
func (u *Uploader) Meet(o *sample.Object, buildID string) {
	if !valid(buildID) || !u.remember(buildID) {
		return
	}
	i := &item{object: o, buildID: buildID, owner: u, pending: len(u.senders)}
	if u.mayHold() {
		held, err := u.source.Hold(o, buildID)
		if i.held, i.kept = held, err == nil; err != nil {
			u.release()
		}
	}
	due := time.Now()
	if u.spread > 0 {
		due = due.Add(rand.N(u.spread))
	}
	taken := false
	for _, s := range u.senders {
		taken = s.add(i, due) || taken
	}
	if !taken { // it may be met again
		u.forget(buildID)
	}
}

// remember notes a build ID, and reports whether it is new. The oldest is forgotten if there are too many.
func (u *Uploader) remember(buildID string) (fresh bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if k, met := u.known[buildID]; u.closed || met && (!k.settled || time.Since(k.at) < knownFor) {
		return false
	}
	if len(u.known) >= maxKnown {
		oldest, at := "", time.Time{}
		for id, k := range u.known {
			if oldest == "" || k.at.Before(at) {
				oldest, at = id, k.at
			}
		}
		delete(u.known, oldest)
	}
	u.known[buildID] = known{at: time.Now()}
	return true
}

// settle says that all stores are done with a build ID.
func (u *Uploader) settle(buildID string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, met := u.known[buildID]; met {
		u.known[buildID] = known{time.Now(), true}
	}
}

func (u *Uploader) forget(buildID string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.known, buildID)
}

// mayHold reports whether one more file may be kept open, and counts it.
func (u *Uploader) mayHold() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.held >= maxHeld {
		return false
	}
	u.held++
	return true
}

// release says that a file is no longer kept open.
func (u *Uploader) release() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.held--
}

// Run sends until ctx ends, and then lets go of all files.
func (u *Uploader) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, s := range u.senders {
		running.Go(func() { s.run(ctx) })
	}
	running.Wait()
	u.mu.Lock()
	u.closed = true
	u.mu.Unlock()
	for _, s := range u.senders {
		s.abandon()
	}
	return nil
}
