// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// TestEveryMuslInstruction executes programs on a C library without unwind information and
// without frame pointers, instruction by instruction, and walks the stack at each.
func TestEveryMuslInstruction(t *testing.T) {
	for _, source := range []string{"frames.c", "libc.c"} {
		for name, flags := range map[string][]string{
			"static":  {"-static"},
			"dynamic": nil,
		} {
			if !*every && (source == "libc.c") != (name == "static") {
				continue
			}
			t.Run(source+" "+name, func(t *testing.T) {
				text, err := os.ReadFile("testdata/" + source)
				if err != nil {
					t.Fatal(err)
				}
				flags = append(flags, "-O2", "-fomit-frame-pointer", "-fno-pie", "-no-pie")
				walkMusl(t, exec.Command(compile(t, "musl-gcc", string(text), flags...)))
			})
		}
	}
}

// walkMusl fails for walks that go wrong without saying so, and if not nearly all are
// whole.
func walkMusl(t *testing.T, command *exec.Cmd) {
	t.Helper()
	p := trace(t, command)
	var calls shadow
	var signal syscall.Signal
	var walks, wrong, said, cut int
	reported := make(map[uint64]bool)
	for before, ok := p.registers(), true; ok; walks++ {
		addrs, stop := p.walk(200)
		want := calls.addresses()
		got := addrs[1:]
		whole := slices.Equal(got, want) && (stop == sample.StopEnd || len(want) == 0)
		if !whole {
			switch {
			case stop.Truncated() && len(got) <= len(want) && slices.Equal(got, want[:len(got)]):
				cut++
			case p.silent(addrs[0]):
				wrong++
			default:
				said++
			}
			at := addrs[len(addrs)-1]
			if !reported[at] && len(reported) < 20 {
				reported[at] = true
				t.Logf("at %s, cut at %s: %v, %d frames, want %d: %v", p.where(addrs[0]), p.where(at), stop, len(got), len(want), p.rule(at))
			}
		}
		delivered := signal
		if signal, ok = p.step(signal); !ok {
			break
		}
		after := p.registers()
		if delivered != 0 {
			calls.followSignal(p, before, after)
		} else {
			calls.follow(p, before, after)
		}
		before = after
	}
	share := 1 - float64(wrong+said+cut)/float64(walks)
	t.Logf("%d walks, %d wrong, %d in code without information, %d cut, %.3f %% whole", walks, wrong, said, cut, share*100)
	if wrong > 0 || share < 0.998 || walks < 10000 {
		t.Errorf("%d of %d walks are wrong, %.3f %% whole", wrong, walks, share*100)
	}
}
