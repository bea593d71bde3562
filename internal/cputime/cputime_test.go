// SPDX-License-Identifier: Apache-2.0

package cputime

import (
	"testing"
	"time"
)

// A meter counts CPU time and not time, also of work that panics.
func TestMeter(t *testing.T) {
	const work = 100 * time.Millisecond
	var m Meter
	before, err := Process()
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { _ = recover() }()
		m.Do(func() {
			for begin := Thread(); Thread()-begin < work; {
			}
			panic("stop")
		})
	}()
	after, err := Process()
	if err != nil {
		t.Fatal(err)
	}
	if worked := m.Spent(); worked < work || worked > after-before {
		t.Errorf("%v of %v that the process took", worked, after-before)
	}
	worked := m.Spent()
	m.Do(func() { time.Sleep(2 * work) })
	if slept := m.Spent() - worked; slept > work/2 {
		t.Errorf("to sleep for %v costs %v", 2*work, slept)
	}
	worked = m.Spent()
	m.Do(func() {
		for begin := Thread(); Thread()-begin < work; {
		}
		told := make(chan time.Duration)
		go func() { told <- m.Spent() - worked }()
		if so := <-told; so < work || so > 2*work {
			t.Errorf("%v while it is done, want %v", so, work)
		}
	})
	called := false
	if (*Meter)(nil).Do(func() { called = true }); !called {
		t.Error("nothing is done without a meter")
	}
}
