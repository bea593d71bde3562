// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/fleetprof/fleetprof/server/durable"
	"github.com/fleetprof/fleetprof/server/store/block"
)

// SealDue seals the head if that is due, and removes what is too old or too much. Run does so
// from time to time.
func (s *Store) SealDue(ctx context.Context, now time.Time) {
	s.mu.Lock()
	due := s.frozen != nil || s.head.due(now, s.maxBytes)
	s.ids.expire(now)
	s.mu.Unlock()
	if due {
		if err := s.seal(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
			s.log.Error("profiles cannot be sealed and stay in memory and in the log", "error", err)
		}
	}
	s.Trim(now)
}

// Seal makes a block of what is in the head.
func (s *Store) Seal(ctx context.Context) error { return s.seal(ctx) }

// seal makes blocks of what is in the head, and of the one before if it could not be
// sealed earlier.
func (s *Store) seal(ctx context.Context) error {
	s.sealing.Lock()
	defer s.sealing.Unlock()
	for _, freeze := range []bool{false, true} {
		if freeze {
			s.freeze()
		}
		s.mu.Lock()
		h, closed := s.frozen, s.closed
		s.mu.Unlock()
		if closed {
			return ErrClosed
		}
		if h == nil {
			continue
		}
		if err := s.sealHead(ctx, h); err != nil {
			s.metrics.sealFailed.Inc()
			return fmt.Errorf("seal: %w", fullOr(err))
		}
	}
	return nil
}

// freeze ends the head and its log, and begins a new one.
func (s *Store) freeze() {
	s.commit.Lock()
	defer s.commit.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.head.profiles == 0 || s.closed {
		return
	}
	if s.writer != nil {
		s.closeLog()
	}
	s.frozen, s.head = s.head, newHead(time.Now())
}

// sealHead makes a block of a frozen head, which it takes the place of.
func (s *Store) sealHead(ctx context.Context, h *head) error {
	b, err := s.writeBlock(ctx, block.Plan{Parts: []block.Part{h.snapshot()}, IDs: h.ids, Profiles: h.profiles, Log: h.log}, func() error { return nil })
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.blocks = append(s.blocks, b)
	s.frozen = nil
	s.mu.Unlock()
	s.removeLogs(h.log)
	return nil
}

// writeBlock writes a block and gives it its name, when it is whole and may still be
// had: that says the function, with the lock mu held.
func (s *Store) writeBlock(ctx context.Context, p block.Plan, may func() error) (*stored, error) {
	temp := s.path(tmpDir, "block-"+rand.Text())
	b, err := s.writeTempBlock(ctx, temp, p)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(temp))
	}
	dir := s.path(blocksDir, blockName(&b.Meta))
	s.mu.Lock()
	if err = may(); err == nil {
		err = b.Move(dir)
	}
	s.mu.Unlock()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(temp))
	}
	if err := durable.SyncDir(s.path(blocksDir)); err != nil {
		// Moved out of the way at once: whatever stays there counts at the next start.
		return nil, errors.Join(err, b.Move(temp), os.RemoveAll(b.Dir()))
	}
	return &stored{Block: b}, nil
}

func (s *Store) writeTempBlock(ctx context.Context, dir string, p block.Plan) (*block.Block, error) {
	if err := block.Write(ctx, dir, p); err != nil {
		return nil, err
	}
	return block.Open(dir)
}

// blockName says the bounds of a block's windows, in milliseconds, and their length in
// seconds, 0 if they are as they came. Chance makes it the only one of its name.
func blockName(m *block.Meta) string {
	return fmt.Sprintf("%013d-%013d-%04d-%s", m.Start/1e6, m.End/1e6, int64(m.Resolution/time.Second), rand.Text()[:10])
}
