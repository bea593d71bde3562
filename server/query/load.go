// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"errors"
	"hash/maphash"
	"io/fs"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/store"
)

// loader reads and decodes stored profiles.
type loader struct {
	store   *store.Store
	cache   *cache
	metrics *metrics
	seed    maphash.Seed
}

// loaded is one profile, or nil with a reason: failed if it should have been
// there.
type loaded struct {
	profile *hashed
	failed  bool
}

// each calls f for the profile of every entry, in order and one at a time,
// while as many as there are CPUs are being decoded ahead. It gives the number
// of profiles that could not be read.
func (l *loader) each(ctx context.Context, entries []store.Entry, f func(p *hashed) error) (skipped int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ahead := make(chan chan loaded, runtime.GOMAXPROCS(0))
	var g errgroup.Group
	defer func() { _ = g.Wait() }() // the goroutines give no errors
	defer cancel()
	g.Go(func() error {
		defer close(ahead)
		for _, e := range entries {
			one := make(chan loaded, 1)
			select {
			case ahead <- one:
			case <-ctx.Done():
				return nil
			}
			g.Go(func() error {
				one <- l.load(e)
				return nil
			})
		}
		return nil
	})
	for one := range ahead {
		got := <-one
		if err := ctx.Err(); err != nil {
			return skipped, err
		}
		if got.failed {
			skipped++
		}
		if got.profile == nil {
			continue
		}
		if err := f(got.profile); err != nil {
			return skipped, err
		}
	}
	return skipped, ctx.Err()
}

func (l *loader) load(e store.Entry) loaded {
	if p := l.cache.get(e); p != nil {
		l.metrics.cacheHits.Inc()
		return loaded{profile: p}
	}
	l.metrics.cacheMisses.Inc()
	gz, err := l.store.Read(e)
	if errors.Is(err, fs.ErrNotExist) {
		return loaded{} // grew too old since it was selected
	}
	if err != nil {
		l.metrics.readErrors.Inc()
		return loaded{failed: true}
	}
	p, err := l.decode(gz)
	if err != nil {
		l.store.Damaged(e, err)
		return loaded{failed: true}
	}
	l.cache.put(e, p)
	return loaded{profile: p}
}

func (l *loader) decode(gz []byte) (*hashed, error) {
	raw, err := columns.Inflate(gz)
	if err != nil {
		return nil, err
	}
	p, err := columns.Decode(raw)
	if err != nil {
		return nil, err
	}
	return hashLocations(p, l.seed), nil
}
