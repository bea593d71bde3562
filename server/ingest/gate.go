// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/fleetprof/fleetprof/server/columns"
)

const (
	// maxBodies bounds the bodies held in memory at a time, in bytes. All agents of a
	// thousand hosts may send at once: these are about as many as one core unpacks while
	// the last of them may wait.
	maxBodies = 64 << 20
	// maxUnpacking bounds the bodies unpacked at a time, and so the memory of ingestion: most
	// take a few MB, the largest a few hundred.
	maxUnpacking = 4
	// gateWait bounds how long a request waits for both together. Agents give an attempt
	// 20 s; one that they give up after it was read is read in vain.
	gateWait = 12 * time.Second
	// chunk is what a body is read by.
	chunk = 64 << 10
	// maxTrusted is up to which length a body is believed to be as long as it says, in
	// bytes: those of agents are. Its memory is then taken at once. Many that take theirs
	// step by step can hold all of it, and then all wait for more.
	maxTrusted = 1 << 20
)

// gate bounds the memory of all requests together.
type gate struct{ bodies, unpacking *semaphore.Weighted }

func newGate() *gate {
	return &gate{bodies: semaphore.NewWeighted(maxBodies), unpacking: semaphore.NewWeighted(maxUnpacking)}
}

// admit begins a request: until when it may wait is in the context.
func (g *gate) admit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, gateWait)
}

// read gives the body of a request, which may be kept until leave is called. waiting is from
// admit. Memory for a large one is taken as bytes arrive: what a header claims is not yet there,
// and a slow client holds only what it has sent.
func (g *gate) read(waiting context.Context, w http.ResponseWriter, r *http.Request, most int) (body []byte, leave func(), err error) {
	held := int64(0)
	leave = func() { g.bodies.Release(held) }
	if r.ContentLength > int64(most) {
		return nil, leave, &columns.TooLargeError{What: "bytes in the request", Limit: most}
	}
	hold := func(need int64) error {
		if need <= held {
			return nil
		}
		if err := g.bodies.Acquire(waiting, need-held); err != nil {
			return errBusy
		}
		held = need
		return nil
	}
	from := http.MaxBytesReader(w, r.Body, int64(most))
	if n := r.ContentLength; n >= 0 && n <= maxTrusted {
		if err := hold(n); err != nil {
			return nil, leave, err
		}
		body = make([]byte, n)
		if _, err := io.ReadFull(from, body); err != nil {
			return nil, leave, fmt.Errorf("%w: %w", errCutOff, err)
		}
		return body, leave, nil
	}
	var all bytes.Buffer
	for {
		// A buffer that grows is there twice for a moment.
		if err := hold(2 * int64(all.Len()+chunk)); err != nil {
			return nil, leave, err
		}
		switch _, err := io.CopyN(&all, from, chunk); {
		case errors.Is(err, io.EOF):
			return all.Bytes(), leave, nil
		case err != nil:
			return nil, leave, fmt.Errorf("%w: %w", errCutOff, err)
		}
	}
}

// turn waits until something may be unpacked, until done.
func (g *gate) turn(waiting context.Context) (done func(), err error) {
	if err := g.unpacking.Acquire(waiting, 1); err != nil {
		return nil, errBusy
	}
	return func() { g.unpacking.Release(1) }, nil
}
