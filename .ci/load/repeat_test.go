// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/server/store/block"
)

// TestRepeat draws half an hour and repeats it so often that some of it is folded, whatever time it is.
func TestRepeat(t *testing.T) {
	const times = 8
	d := day{agents: 2, lines: 20, hours: 4, repeat: times, dir: filepath.Join(t.TempDir(), "data"), out: t.Output()}
	f, err := d.fill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	drawn, span := contentOf(t, f), f.to.Sub(f.from)
	if span != 30*time.Minute || drawn.profiles != 2*180 || drawn.folded > 0 || len(drawn.samples) < 4 || len(drawn.lasting) < 4 || len(drawn.brief) < 100 {
		t.Fatalf("in %v are %d profiles, samples of %d services, %d processes that last and %d others", span, drawn.profiles, len(drawn.samples), len(drawn.lasting), len(drawn.brief))
	}
	if err := d.repeatHours(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	all := contentOf(t, f)
	if got := f.to.Sub(f.from); got != times*span {
		t.Errorf("the store has %v, want %d times %v", got, times, span)
	}
	if all.profiles != times*drawn.profiles || all.folded == 0 {
		t.Errorf("%d profiles have become %d, %d windows are folded", drawn.profiles, all.profiles, all.folded)
	}
	if got := samplesIn(t, f.Store, f.from, f.to); got != f.samples {
		t.Errorf("%d samples are in an answer, want %d", got, f.samples)
	}
	for service, n := range drawn.samples {
		drawn.samples[service] = times * n
	}
	if !maps.Equal(all.samples, drawn.samples) {
		t.Errorf("samples of services are %v, want %v", all.samples, drawn.samples)
	}
	if !maps.Equal(all.lasting, drawn.lasting) {
		t.Errorf("%d processes that last have become %d, or others", len(drawn.lasting), len(all.lasting))
	}
	if len(all.brief) != times*len(drawn.brief) {
		t.Errorf("%d short-lived processes have become %d", len(drawn.brief), len(all.brief))
	}
	for p, windows := range all.brief {
		to := f.to.Add(-time.Duration(p.pid/otherPIDs) * span)
		for _, w := range windows {
			if !w.Overlaps(to.Add(-span).UnixNano(), to.UnixNano()) {
				t.Fatalf("process %d of %s is in a window from %v on, want it in the %v before %v", p.pid, p.host, time.Unix(0, w.Start), span, to)
			}
		}
	}
}

// What cannot be repeated is said before anything is drawn.
func TestRepeatIsRefused(t *testing.T) {
	for _, d := range []day{{hours: 24, repeat: 0}, {hours: 24, repeat: 7}, {hours: 24, repeat: mostRepeats + 1}} {
		if _, err := d.drawnWindows(); err == nil {
			t.Errorf("%v h are repeated %d times", d.hours, d.repeat)
		}
	}
}

// content is what is in a store.
type content struct {
	profiles, folded int              // folded are windows of several profiles
	samples          map[string]int64 // by service
	lasting          map[running]bool
	brief            map[running][]block.Window // of short-lived processes, when they ran
}

type running struct {
	host, service string
	pid           int
}

// contentOf reads all of a store, of which nothing may lie outside of its span.
func contentOf(t *testing.T, f *filled) content {
	t.Helper()
	c := content{samples: map[string]int64{}, lasting: map[running]bool{}, brief: map[running][]block.Window{}}
	said := 0 // profiles
	view := f.View(time.Unix(0, 0), f.to.Add(24*time.Hour))
	defer view.Close()
	for _, p := range view.Parts {
		if b, ok := p.Part.(*block.Block); ok {
			said += int(b.Profiles)
		}
		index, err := p.Index()
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range index.Windows {
			if w.Start < f.from.UnixNano() || w.End > f.to.UnixNano() {
				t.Errorf("a window is from %v to %v", time.Unix(0, w.Start), time.Unix(0, w.End))
			}
			c.profiles += int(w.Profiles)
			if w.Profiles > 1 {
				c.folded++
			}
		}
		if err := c.add(p, index); err != nil {
			t.Fatal(err)
		}
	}
	if said != c.profiles {
		t.Errorf("blocks say that they have %d profiles, their windows %d", said, c.profiles)
	}
	return c
}

// add adds the rows of a part.
func (c content) add(p block.Part, index *block.Index) error {
	labels, err := p.Labels(index.LabelSets)
	if err != nil {
		return err
	}
	sets, err := labels.Sets(nil, nil)
	if err != nil {
		return err
	}
	rows, err := p.Rows()
	if err != nil {
		return err
	}
	defer rows.Close()
	for s := range index.Series.All() {
		r := running{host: sets.Label(s.LabelSet, "host_name"), service: sets.Label(s.LabelSet, "service_name")}
		short := r.service == "ci" || sets.Label(s.LabelSet, "systemd_unit") == "cron.service"
		err := rows.Read(s, func(some block.Rows) error {
			for process, some := range some.Processes() {
				if r.pid = int(process); r.pid == 0 {
					return errors.New("a row is of no process")
				}
				if !short {
					c.lasting[r] = true
				}
				for i, n := range some.Count {
					c.samples[r.service] += n
					if short {
						c.brief[r] = append(c.brief[r], index.Windows[some.Window[i]])
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
