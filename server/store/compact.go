// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fleetprof/fleetprof/server/store/block"
)

// level is what becomes of blocks of a certain age: those that end in one span of time
// become one block, or as few as maxMerged allows, with windows folded to a resolution.
type level struct {
	age, span, resolution time.Duration
}

// The levels, the oldest first. What a question takes grows with the number of blocks, as each has most of its
// stacks and labels in common with the one before. So the last level is there although it folds nothing: a question about the
// last hour would meet a block for each few minutes of a large fleet.
var levels = [...]level{
	{age: 26 * time.Hour, span: 6 * time.Hour, resolution: 10 * time.Minute},
	{age: 2 * time.Hour, span: 6 * time.Hour, resolution: time.Minute},
	{age: 2 * time.Hour, span: time.Hour, resolution: time.Minute},
	{span: 15 * time.Minute},
}

const (
	// maxMerged bounds the memory that merging blocks into one takes, in bytes, besides what
	// locations and names take.
	maxMerged = 160 << 20
	// stackBytes and seriesBytes are about what a stack and a series of an input take of it.
	stackBytes  = 30
	seriesBytes = 500
)

// Compact folds and merges all blocks that are old enough. Run does so from time to
// time.
func (s *Store) Compact(ctx context.Context, now time.Time) {
	s.compacting.Lock()
	defer s.compacting.Unlock()
	for ctx.Err() == nil {
		inputs, l := s.nextCompaction(now)
		if len(inputs) == 0 {
			return
		}
		if err := s.compact(ctx, inputs, l, now); err != nil {
			if s.blame(inputs, err) {
				continue // without those that are damaged
			}
			if ctx.Err() == nil && !errors.Is(err, errInputsGone) {
				s.metrics.compactFailed.Inc()
				s.log.Error("blocks cannot be merged and stay as they are", "error", err)
			}
			return
		}
		s.metrics.compacted.Add(float64(len(inputs)))
	}
}

// nextCompaction gives blocks to be merged, or none.
func (s *Store) nextCompaction(now time.Time) (inputs []*stored, l level) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, l
	}
	for _, l := range levels {
		groups := map[int64][]*stored{}
		for _, b := range s.blocks {
			span := b.End / int64(l.span)
			if over := time.Unix(0, (span+1)*int64(l.span)); !b.damaged && b.Resolution <= l.resolution && now.Sub(over) >= l.age {
				groups[span] = append(groups[span], b)
			}
		}
		for _, group := range groups {
			for _, batch := range batches(group) {
				if l.improves(batch) {
					return batch, l
				}
			}
		}
	}
	return nil, l
}

// improves reports whether it is worth it to merge some blocks.
func (l level) improves(blocks []*stored) bool {
	return len(blocks) > 1 || slices.ContainsFunc(blocks, func(b *stored) bool { return b.Resolution < l.resolution })
}

// batches divides blocks, in the order of their time, into what may be merged at once.
func batches(blocks []*stored) (all [][]*stored) {
	slices.SortFunc(blocks, func(a, b *stored) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), strings.Compare(a.Name(), b.Name()))
	})
	bytes := int64(0)
	for _, b := range blocks {
		own := stackBytes*int64(b.Meta.Stacks) + seriesBytes*int64(b.Series)
		if bytes += own; len(all) == 0 || bytes > maxMerged {
			all, bytes = append(all, nil), own
		}
		all[len(all)-1] = append(all[len(all)-1], b)
	}
	return all
}

var errInputsGone = errors.New("blocks that were being merged have been removed")

// compact makes one block of several. The new one names those that it replaces, so
// whichever of them are still there after a crash are removed at the next start.
func (s *Store) compact(ctx context.Context, inputs []*stored, l level, now time.Time) error {
	plan := block.Plan{Resolution: l.resolution}
	for _, b := range inputs {
		ids, err := b.IDs()
		if err != nil {
			return err
		}
		for _, id := range ids {
			if id.Stored >= now.Add(-rememberIDs).UnixMilli() {
				plan.IDs = append(plan.IDs, id)
			}
		}
		plan.Parts = append(plan.Parts, b)
		plan.Profiles += b.Profiles
		plan.Log = max(plan.Log, b.Log)
		plan.Replaces = append(plan.Replaces, b.Name())
	}
	isGone := func(b *stored) bool { return b.removed }
	merged, err := s.writeBlock(ctx, plan, func() error {
		if slices.ContainsFunc(inputs, isGone) || s.closed {
			return errInputsGone
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks = slices.DeleteFunc(s.blocks, func(b *stored) bool { return slices.Contains(inputs, b) })
	s.blocks = append(s.blocks, merged)
	for _, b := range inputs {
		if !b.removed {
			s.removeBlock(b)
		}
	}
	return nil
}

// blame takes out of use the block that an error is about, and reports whether there
// is one.
func (s *Store) blame(inputs []*stored, err error) bool {
	var damaged *block.DamagedError
	if !errors.As(err, &damaged) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range inputs {
		if filepath.Dir(damaged.Path) == b.Dir() {
			s.markDamaged(b, err)
			return true
		}
	}
	return false
}
