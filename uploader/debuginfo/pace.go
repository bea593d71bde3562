// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"context"
	"sync"
	"time"
)

const (
	// hashRate is how fast files are read for their sums, in bytes a second: a few percent of a CPU.
	hashRate = 32 << 20
	// leastPiece and mostPiece bound what may pass at once, in bytes; in between it is what may pass
	// in a second.
	leastPiece, mostPiece = 64 << 10, 1 << 20
)

// pace lets so many bytes a second pass. It is safe for concurrent use.
type pace struct {
	rate int64

	mu   sync.Mutex
	next time.Time // when the next bytes may pass
}

func newPace(rate int64) *pace { return &pace{rate: rate} }

// most is how much may pass at once.
func (p *pace) most() int { return int(min(max(p.rate, leastPiece), mostPiece)) }

// wait returns when n bytes may pass. The first may do so at once.
func (p *pace) wait(ctx context.Context, n int) error {
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	until := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(int64(n) * int64(time.Second) / p.rate))
	p.mu.Unlock()
	if until > 0 {
		sleep(ctx, until)
	}
	return ctx.Err()
}
