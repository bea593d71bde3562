// SPDX-License-Identifier: Apache-2.0

package query

import (
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

type ofSize int64

func (s ofSize) Size() int64 { return int64(s) }

// TestReadOnce: what several queries want at a time is read once; an error is for those alone who
// waited for it.
func TestReadOnce(t *testing.T) {
	a, err := New(Options{CacheBytes: 100, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	var reads atomic.Int32
	goOn := make(chan struct{})
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			v, err := cachedOr(a, a.cache.symbols, "b", func() (ofSize, error) {
				reads.Add(1)
				<-goOn
				return 10, nil
			})
			if v != 10 || err != nil {
				t.Errorf("%v %v", v, err)
			}
		})
	}
	for testutil.ToFloat64(a.metrics.cacheMisses) < 10 {
		runtime.Gosched()
	}
	close(goOn)
	all.Wait()
	if n := reads.Load(); n != 1 {
		t.Errorf("read %d times", n)
	}
	bad := errors.New("bad")
	for _, want := range []error{bad, nil} {
		if _, err := cachedOr(a, a.cache.symbols, "c", func() (ofSize, error) { return 1, want }); !errors.Is(err, want) {
			t.Errorf("error is %v, want %v", err, want)
		}
	}
}
