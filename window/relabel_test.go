// SPDX-License-Identifier: Apache-2.0

package window

import (
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// What is learned of labels until a window is cut goes to all samples that came with
// them; what becomes equal is one line, and what is dropped is gone from the total.
func TestRelabel(t *testing.T) {
	object := &sample.Object{Kind: sample.File, Path: "/bin/a"}
	stack := sample.Stack{{Object: object, Offset: 1}}
	c := NewCollector(time.Unix(0, 0))
	for execution, n := range map[uint64]int64{1: 10, 2: 20, 3: 40} {
		c.Add(stack, sample.Labels{Executable: "a", PID: "7", Execution: execution}, ticks(n))
	}
	c.Add(stack, sample.Labels{Executable: "b", PID: "8", Execution: 4}, ticks(80))
	c.AddLost(160, 0)
	w := c.Cut(time.Unix(10, 0))
	calls := 0
	dropped := w.Relabel(func(l sample.Labels) (sample.Labels, bool) {
		calls++
		if l.PID != "" {
			l.Service = map[uint64]string{3: "other"}[l.Execution]
		}
		l.Execution = 0
		return l, l.Executable != "b"
	})
	got := make(map[string]int64)
	w.each(func(_ []uint32, labels sample.Labels, v values) {
		got[labels.Executable+"/"+labels.Service] += v.ticks
	})
	want := map[string]int64{"a/": 30, "a/other": 40, "/": 160}
	for key, n := range want {
		if got[key] != n {
			t.Errorf("%d samples of %s, want %d", got[key], key, n)
		}
	}
	if calls != 5 || len(got) != len(want) || len(w.lines) != 3 || w.total != 230 || dropped != 80 {
		t.Errorf("%d calls, lines %v in %d, %d samples; want 5, %v in 3, 230", calls, got, len(w.lines), w.total, want)
	}
}
