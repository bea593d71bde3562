// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"context"
	"sync"
)

// maxJobs bounds the jobs that wait, and those that are done and not taken; others ask
// again.
const maxJobs = 256

// beside does jobs beside the sampling, one after the other. Not safe for concurrent use.
type beside[T any] struct {
	wanted, read chan T
	cancel       context.CancelFunc
	work         sync.WaitGroup
}

func (b *beside[T]) init() {
	b.wanted, b.read = make(chan T, maxJobs), make(chan T, maxJobs)
	b.cancel = func() {}
}

// start starts working; stop or the end of ctx ends it. A job that is done then is
// dropped.
func (b *beside[T]) start(ctx context.Context, do func(context.Context, T), drop func(T)) {
	ctx, b.cancel = context.WithCancel(ctx)
	b.work.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case job := <-b.wanted:
				do(ctx, job)
				select {
				case <-ctx.Done():
					drop(job)
					return
				case b.read <- job:
				}
			}
		}
	})
}

// stop ends working. It is idempotent.
func (b *beside[T]) stop() {
	b.cancel()
	b.work.Wait()
}

// ask asks for a job; false if too many wait.
func (b *beside[T]) ask(job T) bool {
	select {
	case b.wanted <- job:
		return true
	default:
		return false
	}
}

// poll hands over the jobs that are done.
func (b *beside[T]) poll(take func(T)) {
	for {
		select {
		case job := <-b.read:
			take(job)
		default:
			return
		}
	}
}
