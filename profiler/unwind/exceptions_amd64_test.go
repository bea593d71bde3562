// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"math"
	"os/exec"
	"slices"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// throws is a program that throws through frames with something to destroy, and throws
// again what it has caught.
const throws = `
volatile int sink;
#define NOIPA __attribute__((noipa))
struct Guard { NOIPA ~Guard() { sink++; } };
NOIPA static void thrower() { throw 1; }
NOIPA static void deeper(int left) {
	Guard guard;
	if (left == 0) thrower();
	else deeper(left - 1);
	sink++;
}
NOIPA static void again() { try { deeper(2); } catch (int) { sink++; throw; } }
int main() {
	try { again(); } catch (...) { sink++; }
	return sink == 0;
}
`

// TestExceptions walks at each instruction of a program that throws. While libgcc goes
// from its own frame to the one with the landing pad, its unwind information is not true:
// a walk that is whole must then lead to the landing pad and its callers. How many do not,
// and how many are cut, is bounded by what they were when this was written.
func TestExceptions(t *testing.T) {
	path := compile(t, "g++", throws, "-xc++", "-O2", "-fomit-frame-pointer", "-no-pie", "-Wl,-z,now")
	p := trace(t, exec.Command(path))
	p.runTo(symbol(t, path, "main").start)
	calls := p.shadow()
	callers := len(calls)
	var leaving [][]uint64 // walks that say something else than the calls, behind their own address
	var walks, right, landed, wrong, cut int
	for before, ok := p.registers(), true; ok && len(calls) >= callers; walks++ {
		addrs, stop := p.walk(200)
		want := calls.addresses()
		switch {
		case slices.Equal(addrs[1:], want) && (stop == sample.StopEnd || len(want) == 0):
			right++
			for _, told := range leaving {
				if landed++; !slices.Equal(told, addrs) {
					wrong++
				}
			}
			leaving = nil
		case stop == sample.StopEnd:
			leaving = append(leaving, addrs[1:])
		default:
			cut++
		}
		if _, ok = p.step(0); ok {
			after := p.registers()
			calls.follow(p, before, after)
			before = after
		}
	}
	t.Logf("%d walks: %d right, %d cut, %d wrong", walks, right+landed-wrong, cut, wrong)
	if len(leaving) > 0 || wrong*250 > walks || cut*150 > walks || landed == 0 || walks < 10000 {
		t.Errorf("%d walks have no end, or more are cut or wrong than were", len(leaving))
	}
}

// shadow is the calls that led to the first instruction of a function, as a walk tells.
func (p *tracee) shadow() (calls shadow) {
	p.t.Helper()
	addrs, stop := p.walk(200)
	if stop != sample.StopEnd || len(addrs) < 2 {
		p.t.Fatalf("walk of %d frames: %v", len(addrs), stop)
	}
	for _, ra := range slices.Backward(addrs[2:]) {
		calls.push(ra, math.MaxUint64)
	}
	calls.push(addrs[1], p.registers().R[7])
	return calls
}
