// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/fleetprof/fleetprof/sample"
)

// item is one file on its way to all stores.
type item struct {
	object  *sample.Object
	buildID string
	owner   *Uploader

	mu      sync.Mutex
	held    Held // nil if it is not open
	kept    bool // held stays open until all stores are done with it
	content *Content
	err     error // why there is no content
	users   int
	pending int // stores that are not done with it
}

// errGone reports a file that cannot be opened any more.
var errGone = errors.New("the file is gone")

// use gives the content; release must be called when it is no longer used. An error is for good, unless it is
// that of ctx.
func (i *item) use(ctx context.Context) (c *Content, release func(), err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.content == nil && i.err == nil {
		c, err := i.open(ctx)
		if ctx.Err() != nil {
			i.shut()
			return nil, nil, ctx.Err()
		}
		i.content, i.err = c, err
	}
	if i.err != nil {
		return nil, nil, i.err
	}
	i.users++
	return i.content, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.users--
		i.shut()
	}, nil
}

// open strips the file, and reads what is left once for its sum.
func (i *item) open(ctx context.Context) (*Content, error) {
	if i.held == nil {
		held, err := i.owner.source.Hold(i.object, i.buildID)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errGone, err)
		}
		i.held = held
	}
	from, size, err := i.held.Names()
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	c := &Content{from: from, Size: size, pace: newPace(hashRate)}
	if _, err := io.Copy(sum, c.Reader(ctx)); err != nil {
		return nil, err
	}
	c.SHA256, c.pace = hex.EncodeToString(sum.Sum(nil)), i.owner.pace
	return c, nil
}

// done says that a store needs it no more.
func (i *item) done() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.pending--; i.pending == 0 {
		i.owner.settle(i.buildID)
	}
	i.shut()
}

// shut closes the file if nobody uses it and it is not kept for later. The caller holds mu.
func (i *item) shut() {
	if i.held == nil || i.users > 0 || i.kept && i.pending > 0 {
		return
	}
	_ = i.held.Close() // it was opened for reading
	i.held, i.content = nil, nil
	if i.kept {
		i.kept = false
		i.owner.release()
	}
}

// errContent marks an error in reading what is to be sent.
var errContent = errors.New("read what is to be sent")

// Content is what is to be sent.
type Content struct {
	from io.ReaderAt
	pace *pace
	sent func(n int)

	// Size is in bytes.
	Size int64
	// SHA256 is the sum of all of it, in lower-case hex.
	SHA256 string
}

// Piece gives what comes at an offset, at most so many bytes, once it may be sent. buf is used for it if
// it has room; it may be nil.
func (c *Content) Piece(ctx context.Context, off int64, most int, buf []byte) ([]byte, error) {
	n := int(min(int64(most), int64(c.pace.most()), c.Size-off))
	if err := c.pace.wait(ctx, n); err != nil {
		return nil, err
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if got, err := c.from.ReadAt(buf, off); got < n {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("%w: %w", errContent, err)
	}
	if c.sent != nil {
		c.sent(n)
	}
	return buf, nil
}

// Reader gives all of it, piece by piece.
func (c *Content) Reader(ctx context.Context) io.Reader { return &reader{ctx: ctx, content: c} }

type reader struct {
	ctx       context.Context
	content   *Content
	off       int64
	buf, left []byte
}

func (r *reader) Read(b []byte) (n int, err error) {
	if len(r.left) == 0 {
		if r.off == r.content.Size {
			return 0, io.EOF
		}
		if r.left, err = r.content.Piece(r.ctx, r.off, len(b), r.buf); err != nil {
			return 0, err
		}
		r.buf, r.off = r.left, r.off+int64(len(r.left))
	}
	n = copy(b, r.left)
	r.left = r.left[n:]
	return n, nil
}
