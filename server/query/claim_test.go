// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
)

// TestClaimsAreTrue compares what a query claims of the memory for all that it collects with
// the heap: see TestMemoryIsCounted.
func TestClaimsAreTrue(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	start := time.Now().Add(-time.Hour).Truncate(time.Minute)
	random := profiletest.Random(1, "host", start, 800)
	for i, one := range random.Sample {
		one.Label["thread_name"] = []string{fmt.Sprintf("%0100d", i)}
	}
	gz := profiletest.Gzip(t, random)
	p, err := columns.Read(gz)
	if err == nil {
		err = s.Append(t.Context(), p, store.IDOf(gz))
	}
	if err != nil {
		t.Fatal(err)
	}
	api, err := New(Options{Store: s, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	q := request{kind: defaultKind, span: Range{start, start.Add(time.Minute)}}
	for name, collect := range map[string]func(ctx context.Context) (any, error){
		"a tree": func(ctx context.Context) (any, error) {
			m, err := api.merge(ctx, q)
			if err != nil {
				return nil, err
			}
			tree, err := newTree(ctx, shape{by: []string{"thread_name"}, depth: maxDepth}, m)
			return []any{m, tree}, err
		},
		"series": func(ctx context.Context) (any, error) {
			return api.sumOverTime(ctx, q, []string{"thread_name"}, time.Second)
		},
		"an answer": func(ctx context.Context) (any, error) {
			out := &answer{claim: claimOf(ctx)}
			_, err := out.Write(make([]byte, 1<<20))
			return out, err
		},
	} {
		scope := &scope{claim: &claim{memory: api.memory, limit: api.limit}}
		before := heap()
		kept, err := collect(context.WithValue(t.Context(), scopeKey{}, scope))
		if err != nil {
			t.Fatal(err)
		}
		within(t, name, scope.claim.held(), heap()-before)
		runtime.KeepAlive(kept)
		scope.claim.release()
	}
}
