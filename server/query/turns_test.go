// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
)

// waits begins a turn beside, and returns once it waits.
func waits(t *testing.T, turns *turns, ctx context.Context, client string) <-chan error {
	t.Helper()
	_, before := turns.counts()
	done := make(chan error, 1)
	go func() {
		end, err := turns.begin(ctx, client)
		if err == nil {
			end()
		}
		done <- err
	}()
	for {
		if _, waiting := turns.counts(); waiting > before {
			return done
		}
		select {
		case err := <-done:
			t.Fatalf("%s did not wait: %v", client, err)
		default:
		}
	}
}

func must(t *testing.T, turns *turns, client string) (end func()) {
	t.Helper()
	end, err := turns.begin(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	return end
}

// TestTurns: one client has half of the turns, and another one is not kept waiting by it.
func TestTurns(t *testing.T) {
	turns := newTurns(4)
	first, second := must(t, turns, "a"), must(t, turns, "a")
	third := waits(t, turns, t.Context(), "a")
	must(t, turns, "b")()
	gone, cancel := context.WithCancel(t.Context())
	fourth := waits(t, turns, gone, "a")
	cancel()
	if err := <-fourth; !errors.Is(err, context.Canceled) {
		t.Errorf("a query that nobody waits for: %v", err)
	}
	first()
	if err := <-third; err != nil {
		t.Error(err)
	}
	second()
	if running, waiting := turns.counts(); running != 0 || waiting != 0 || len(turns.clients) != 0 {
		t.Errorf("%d run, %d wait, %d clients are known", running, waiting, len(turns.clients))
	}
}

// TestTurnsAreBounded: one client may wait so often, and all together.
func TestTurnsAreBounded(t *testing.T) {
	turns := newTurns(1)
	end := must(t, turns, "a")
	var done []<-chan error
	for range maxWaiting {
		done = append(done, waits(t, turns, t.Context(), "b"))
	}
	if _, err := turns.begin(t.Context(), "b"); !errors.Is(err, errTooMany) {
		t.Errorf("one more of the same: %v", err)
	}
	for i := range maxWaitingAll - maxWaiting {
		done = append(done, waits(t, turns, t.Context(), fmt.Sprint("c", i)))
	}
	if _, err := turns.begin(t.Context(), "d"); !errors.Is(err, errBusy) {
		t.Errorf("one more of another: %v", err)
	}
	end()
	for _, d := range done {
		if err := <-d; err != nil {
			t.Error(err)
		}
	}
	if running, waiting := turns.counts(); running != 0 || waiting != 0 || len(turns.clients) != 0 {
		t.Errorf("%d run, %d wait, %d clients are known", running, waiting, len(turns.clients))
	}
}

// TestTurnsRace has clients come and leave at all moments.
func TestTurnsRace(t *testing.T) {
	turns := newTurns(3)
	var all sync.WaitGroup
	var mu sync.Mutex
	running := map[string]int{}
	for i := range 60 {
		all.Go(func() {
			client := fmt.Sprint(i % 3)
			for range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				if i%2 == 0 {
					go cancel()
				}
				end, err := turns.begin(ctx, client)
				if err == nil {
					mu.Lock()
					running[client]++
					if n := running["0"] + running["1"] + running["2"]; n > 3 || running[client] > 2 {
						t.Errorf("%d run, %d of one client", n, running[client])
					}
					running[client]--
					mu.Unlock()
					end()
				}
				cancel()
			}
		})
	}
	all.Wait()
	if running, waiting := turns.counts(); running != 0 || waiting != 0 || len(turns.clients) != 0 {
		t.Errorf("%d run, %d wait, %d clients are known", running, waiting, len(turns.clients))
	}
}

// TestMemoryOfAll: what one query takes another cannot, until it is given back.
func TestMemoryOfAll(t *testing.T) {
	all := &memory{max: 100}
	a, b := &claim{memory: all, limit: 80}, &claim{memory: all, limit: 80}
	var limit *limitError
	if err := a.hold(81); !errors.As(err, &limit) {
		t.Errorf("more than one may take: %v", err)
	}
	if err := errors.Join(a.hold(70), a.hold(60), b.hold(40)); err != nil {
		t.Error(err)
	}
	if err := b.more(1); !errors.Is(err, errNoMemory) || b.held() != 40 {
		t.Errorf("more than there is: %v, %d held", err, b.held())
	}
	a.release()
	if err := b.more(40); err != nil || all.held() != 80 {
		t.Errorf("%v, %d held", err, all.held())
	}
	b.release()
	b.release()
	if all.held() != 0 {
		t.Errorf("%d held at the end", all.held())
	}
}
