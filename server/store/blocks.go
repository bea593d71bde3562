// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/fleetprof/fleetprof/server/store/block"
)

// stored is a block of the store. The lock mu guards its fields.
type stored struct {
	*block.Block
	views   int  // that may read it
	removed bool // it is no longer one of the store's
	damaged bool // it cannot be read, as has been found
}

// loadBlocks opens all blocks, after it has removed those that others have replaced.
// It gives the number of the last log that is in blocks, and how many blocks there are of
// which that is not known.
func (s *Store) loadBlocks() (sealed uint64, unknown int, err error) {
	dirs, err := os.ReadDir(s.path(blocksDir))
	if err != nil {
		return 0, 0, err
	}
	replaced := map[string]bool{}
	var found []*stored
	for _, d := range dirs {
		b, err := block.Open(s.path(blocksDir, d.Name()))
		if err != nil {
			unknown++
			s.metrics.damaged.Inc()
			s.log.Error("block is damaged and is skipped", "dir", s.path(blocksDir, d.Name()), "error", err)
			continue
		}
		for _, name := range b.Replaces {
			replaced[name] = true
		}
		sealed = max(sealed, b.Log)
		found = append(found, &stored{Block: b})
	}
	for _, b := range found {
		if replaced[b.Name()] {
			s.removeBlock(b)
			continue
		}
		s.blocks = append(s.blocks, b)
		ids, err := b.IDs()
		if err != nil {
			s.markDamaged(b, err)
		}
		s.remember(ids...)
	}
	s.ids.expire(time.Now())
	return sealed, unknown, nil
}

// removeBlock removes a block's directory; the lock mu is held. A directory goes in no
// time, its files do not: so it is out of the way first.
func (s *Store) removeBlock(b *stored) {
	b.removed = true
	if b.views > 0 {
		return // the last view does it
	}
	grave := s.path(tmpDir, "removed-"+b.Name())
	err := errors.Join(b.Close(), os.Rename(b.Dir(), grave))
	if err == nil {
		err = os.RemoveAll(grave)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.metrics.removeFailed.Inc()
		s.log.Error("block cannot be removed", "dir", b.Dir(), "error", err)
	}
}

// markDamaged takes a block out of use; the lock mu is held. Its files stay, to be
// looked at, until it is too old.
func (s *Store) markDamaged(b *stored, cause error) {
	if b.damaged {
		return
	}
	b.damaged = true
	s.metrics.damaged.Inc()
	s.log.Error("block is damaged and is skipped", "dir", b.Dir(), "error", cause)
}

// View is all that was stored at one moment and may overlap a range of time. Whatever
// is sealed, folded or removed meanwhile, each row is in it once.
type View struct {
	// Parts are the blocks, the oldest first, and the head.
	Parts []ViewPart
	// Damaged is how many blocks of the range cannot be read.
	Damaged int
	store   *Store
	blocks  []*stored
}

// ViewPart is a part of a view.
type ViewPart struct {
	block.Part
	// Name is that of the block; the head has none.
	Name  string
	block *stored
}

// View gives what is stored of the range [from, to). It must be closed.
func (s *Store) View(from, to time.Time) *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &View{store: s}
	for _, b := range s.blocks {
		w := block.Window{Start: b.Start, End: b.End}
		if !w.Overlaps(from.UnixNano(), to.UnixNano()) {
			continue
		}
		if b.damaged {
			v.Damaged++
			continue
		}
		b.views++
		v.blocks = append(v.blocks, b)
		v.Parts = append(v.Parts, ViewPart{b.Block, b.Name(), b})
	}
	slices.SortFunc(v.Parts, func(a, b ViewPart) int { return cmp.Compare(a.block.Start, b.block.Start) })
	for _, h := range []*head{s.frozen, s.head} {
		if h == nil || h.profiles == 0 {
			continue
		}
		w := block.Window{Start: h.start, End: h.end}
		if w.Overlaps(from.UnixNano(), to.UnixNano()) {
			v.Parts = append(v.Parts, ViewPart{Part: h.snapshot()})
		}
	}
	return v
}

// Failed tells the store that a part could not be read. If that is because it is
// damaged, the store counts and logs it and does not give it again.
func (v *View) Failed(p ViewPart, cause error) {
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	if p.block == nil || !isDamage(cause) {
		v.store.log.Error("stored profiles cannot be read", "part", p.Name, "error", cause)
		return
	}
	v.store.markDamaged(p.block, cause)
}

func isDamage(err error) bool {
	var damaged *block.DamagedError
	return errors.As(err, &damaged)
}

// Close ends the view.
func (v *View) Close() {
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	for _, b := range v.blocks {
		b.views--
		if b.removed && b.views == 0 {
			v.store.removeBlock(b)
		}
	}
	v.blocks = nil
}

// Trim removes blocks and exemplars that end more than the maximum age before now, then
// the oldest until the rest is within the maximum of bytes.
func (s *Store) Trim(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cutoff := now.Add(-s.maxAge).UnixMilli()
	for !s.closed {
		b, hasBlock := s.oldestBlock()
		e, hasFile := s.files.oldest()
		fileFirst := hasFile && (!hasBlock || e.End <= b.End/1e6)
		if !hasBlock && !hasFile {
			return
		}
		end := e.End
		if !fileFirst {
			end = b.End / 1e6
		}
		switch {
		case end <= cutoff:
			s.metrics.removedAge.Inc()
		case s.bytes() > s.maxBytes:
			s.metrics.removedBytes.Inc()
		default:
			return
		}
		if fileFirst {
			s.files.removeOldest()
			s.removeFile(e)
		} else {
			s.blocks = slices.DeleteFunc(s.blocks, func(other *stored) bool { return other == b })
			s.removeBlock(b)
		}
	}
}

func (s *Store) oldestBlock() (oldest *stored, ok bool) {
	for _, b := range s.blocks {
		if oldest == nil || b.End < oldest.End {
			oldest = b
		}
	}
	return oldest, oldest != nil
}

// bytes is the space taken on disk; the lock mu is held.
func (s *Store) bytes() int64 {
	total := s.files.bytes
	for _, b := range s.blocks {
		total += b.OnDisk()
	}
	for _, l := range s.logs {
		total += onDisk(l.bytes)
	}
	return total
}

// profiles is how many there are; the lock mu is held.
func (s *Store) profiles() int64 {
	total := s.head.profiles
	if s.frozen != nil {
		total += s.frozen.profiles
	}
	for _, b := range s.blocks {
		total += b.Profiles
	}
	return total
}
