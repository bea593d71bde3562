// SPDX-License-Identifier: Apache-2.0

package window

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// Labels that rules made stand beside the others; rules may give another host, or none.
func TestLabelsOfRules(t *testing.T) {
	for _, tt := range []struct{ more, want map[string]string }{
		{map[string]string{"team": "shop"}, map[string]string{"host_name": "host-1", "team": "shop"}},
		{map[string]string{"host_name": "other"}, map[string]string{"host_name": "other"}},
		{nil, map[string]string{}},
	} {
		c := NewCollector(start)
		c.Add(nil, sample.Labels{Executable: "program", More: sample.NewLabelSet(tt.more), NoHost: tt.more == nil}, ticks(1))
		tt.want["process_executable_name"] = "program"
		got := make(map[string]string)
		for name, values := range encode(t, c, book{}).Sample[0].Label {
			got[name] = strings.Join(values, " and ")
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("got %v, want %v", got, tt.want)
		}
	}
}

// They are bounded in all, and no sample is lost for it.
func TestLabelsOfRulesAreBounded(t *testing.T) {
	c := NewCollector(start)
	value := strings.Repeat("x", 4096)
	const fit, samples = maxMoreBytes / 4200, 3 * maxMoreBytes / 4096
	for i := range samples {
		c.Add(nil, sample.Labels{Executable: "program", PID: fmt.Sprint(i)}, ticks(1))
		c.Add(sample.Stack{{Object: program, Offset: 1}}, sample.Labels{Executable: "program", PID: fmt.Sprint(i)}, ticks(2))
	}
	w := c.Cut(start)
	w.Relabel(func(l sample.Labels) (sample.Labels, bool) {
		l.More = sample.NewLabelSet(map[string]string{"label": l.PID + value})
		return l, true
	})
	bytes := 0
	for l := range w.labels {
		bytes += l.More.Bytes()
	}
	if bytes > maxMoreBytes || len(w.labels) < fit {
		t.Errorf("%d bytes in %d sets", bytes, len(w.labels))
	}
	if w.total != 3*samples || w.Folded() != int64(3*(samples-(len(w.labels)-1))) {
		t.Errorf("%d samples, %d folded, %d sets", w.total, w.Folded(), len(w.labels))
	}
}
