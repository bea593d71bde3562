// SPDX-License-Identifier: Apache-2.0

package uploader_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/disktest"
	"github.com/fleetprof/fleetprof/uploader/spool"
)

// files lists what is in the spool of a destination.
func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	for _, pattern := range []string{"*/*", "*/.*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

// TestNextRunSends has a store away for a whole run of the agent.
func TestNextRunSends(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	d := &store{name: "http://a/x?tenant=b", fault: away}
	f := start(t, spooled(dir, d))
	for i := range 30 {
		f.Enqueue(numbered(i))
		if n := len(files(t, dir)); n != i+1 {
			t.Fatalf("%d files are there when Enqueue has returned for %d", n, i+1)
		}
	}
	f.balance(d.name)
	if f.metric("spool_bytes", d.name) == 0 || f.metric("oldest_seconds", d.name) <= 0 || f.metric("queue_bytes", d.name) != 0 {
		t.Error("gauges do not tell what waits")
	}
	f.stop()
	f.wantMetrics(map[string]float64{"waiting_samples " + d.name: 300, "samples_in_total " + d.name: 300})
	if f.logged("wait in the spool for the next start\" destination=\"http://a/x?tenant=b\" profiles=30 samples=300") != 1 {
		t.Errorf("logs are %s", f.logs)
	}

	d.fault = nil
	f = prepare(t, spooled(dir, d))
	f.wantMetrics(map[string]float64{"samples_recovered_total " + d.name: 300, "waiting_profiles " + d.name: 30})
	f.run()
	f.Enqueue(numbered(30))
	until(t, "all are sent", func() bool { return len(d.contents()) == 31 })
	f.stop()
	f.balance(d.name)
	if d.samples() != 310 || d.repeats != 0 || len(files(t, dir)) != 0 {
		t.Errorf("%d samples arrived, %d repeats, left are %q", d.samples(), d.repeats, files(t, dir))
	}
	f.wantMetrics(map[string]float64{
		"samples_sent_total " + d.name: 310, "samples_in_total " + d.name: 10, "spool_bytes " + d.name: 0, "oldest_seconds " + d.name: 0,
	})
}

func TestSpoolBounds(t *testing.T) {
	dir := t.TempDir()
	d := &store{name: "http://a", fault: away}
	o := spooled(dir, d)
	o.SpoolBytes = 500 // a record has 45 bytes
	f := start(t, o)
	for i := range 40 {
		f.Enqueue(numbered(i))
	}
	f.balance(d.name)
	if got := f.metric("spool_bytes", d.name); got > 500 || got < 350 {
		t.Errorf("%v bytes in the spool", got)
	}
	f.stop()
	d.fault = nil
	o.SpoolBytes = 200 // less than there is
	f = start(t, o)
	until(t, "the youngest is sent", func() bool { return strings.HasSuffix(fmt.Sprint(d.contents()), "window-000039]") })
	f.stop()
	f.balance(d.name)
	if n := len(d.contents()); n != 4 || f.metric("profiles_dropped_total", d.name, "spool_full") == 0 {
		t.Errorf("%d are sent: %q", n, d.contents())
	}
}

// TestTooOld lets profiles wait on disk and in memory for longer than they may, setting
// no clock: the bubble's goes on from 2000.
func TestTooOld(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		synctest.Test(t, func(t *testing.T) {
			d := &store{name: "http://a", fault: away}
			o := spooled(dir, d)
			o.SpoolAge = time.Hour
			f := start(t, o)
			for i := range 90 {
				f.Enqueue(numbered(i))
				time.Sleep(time.Minute)
			}
			f.balance(d.name)
			f.wantMetrics(map[string]float64{"waiting_profiles http://a": 61, "profiles_dropped_total http://a too_old": 29})
			if got := f.metric("oldest_seconds", d.name); got != 61*60 {
				t.Errorf("the oldest has %v seconds", got)
			}
			f.stop()
		})
	}
}

// TestClock has the clock set while profiles wait. It is 2000 in the bubble, and later outside.
func TestClock(t *testing.T) {
	future, past := t.TempDir(), t.TempDir()
	run := func(t *testing.T, dir string, d *store, i int) *fixture {
		f := start(t, spooled(dir, d))
		f.Enqueue(numbered(i))
		f.stop()
		f.balance(d.name)
		return f
	}
	run(t, future, &store{name: "http://a", fault: away}, 0)
	synctest.Test(t, func(t *testing.T) {
		run(t, past, &store{name: "http://a", fault: away}, 1)
		d := &store{name: "http://a"}
		run(t, future, d, 2)
		equal(t, d.contents(), "window-000000 window-000002")
	})
	// After a leap of decades what waits seems too old, and is counted as such.
	d := &store{name: "http://a"}
	f := run(t, past, d, 3)
	equal(t, d.contents(), "window-000003")
	f.wantMetrics(map[string]float64{"samples_dropped_total http://a too_old": 10})
}

// TestDiskFull fills the disk while a store is away: what is on disk stays, the rest waits
// in memory and goes to disk once there is space.
func TestDiskFull(t *testing.T) {
	dir := disktest.Tiny(t, 1<<20)
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		d := &store{name: "http://a", fault: func(ctx context.Context, n int) (error, bool) {
			select {
			case <-open:
				return nil, true
			default:
				return away(ctx, n)
			}
		}}
		f := start(t, spooled(dir, d))
		f.Enqueue(numbered(0))
		ballast := filepath.Join(dir, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		for i := range 50 {
			f.Enqueue(numbered(i + 1))
			time.Sleep(10 * time.Second)
		}
		f.balance(d.name)
		if f.logged("spool fails") != 1 || f.metric("spool_errors_total", d.name) < 50 || f.metric("queue_bytes", d.name) < 50*128 {
			t.Errorf("errors: %v, in memory: %v, logs are %s", f.metric("spool_errors_total", d.name), f.metric("queue_bytes", d.name), f.logs)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		if n := len(files(t, dir)); n != 51 || f.logged("spool works again") != 1 || f.metric("queue_bytes", d.name) != 0 {
			t.Errorf("%d files, logs are %s", n, f.logs)
		}
		close(open)
		time.Sleep(time.Minute)
		f.stop()
		f.balance(d.name)
		if d.samples() != 510 || d.repeats != 0 || len(files(t, dir)) != 0 {
			t.Errorf("%d samples arrived, %d repeats, left %q", d.samples(), d.repeats, files(t, dir))
		}
	})
}

// TestNoDirectory has a file where the spool should be.
func TestNoDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := &store{name: "http://a"}
	f := start(t, spooled(path, d))
	f.Enqueue(numbered(0))
	f.stop()
	f.balance(d.name)
	equal(t, d.contents(), "window-000000")
	if f.logged("spool cannot be used") != 1 {
		t.Errorf("logs are %s", f.logs)
	}
}

// TestDamagedRecord changes a byte of one record on disk: that one is lost, and counted.
func TestDamagedRecord(t *testing.T) {
	dir := t.TempDir()
	d := &store{name: "http://a", fault: away}
	f := start(t, spooled(dir, d))
	for i := range 5 {
		f.Enqueue(numbered(i))
	}
	f.stop()
	path := files(t, dir)[2]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[40] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	d.fault = nil
	f = start(t, spooled(dir, d))
	until(t, "the rest is sent", func() bool { return len(d.contents()) == 4 })
	f.stop()
	f.balance(d.name)
	equal(t, d.contents(), "window-000000 window-000001 window-000003 window-000004")
	f.wantMetrics(map[string]float64{"samples_dropped_total http://a corrupt": 10, "retries_total http://a": 0})
	if f.logged("spool is damaged") != 1 || len(files(t, dir)) != 0 {
		t.Errorf("logs are %s", f.logs)
	}
}

// TestDestinationTakenAway starts with another destination than the run before.
func TestDestinationTakenAway(t *testing.T) {
	dir := t.TempDir()
	old := "http://a/" + strings.Repeat("long/", 100)
	for _, name := range []string{old, old + "er", "dir:../.."} {
		f := start(t, spooled(dir, &store{name: name, fault: away}))
		f.Enqueue(numbered(0))
		f.stop()
	}
	if spools, err := os.ReadDir(dir); err != nil || len(spools) != 3 {
		t.Fatal(spools, err)
	}
	f := start(t, spooled(dir, &store{name: "http://b"}))
	until(t, "it is told", func() bool {
		return f.logged("not given any more") == 3 && f.logged("profiles=1 samples=10 bytes=45") == 3
	})
	f.stop()
	if n := len(files(t, dir)); n != 3 {
		t.Errorf("%d records are left", n)
	}
	o := spooled(dir, &store{name: "http://b"})
	o.SpoolAge = time.Nanosecond
	f = start(t, o)
	until(t, "they are removed", func() bool { return len(files(t, dir)) == 0 })
	f.stop()
	f.balance("dir:../..")
	f.wantMetrics(map[string]float64{"samples_dropped_total dir:../.. too_old": 10})
}

// TestSpoolName finds a profile where FORMAT.md says it is.
func TestSpoolName(t *testing.T) {
	dir := t.TempDir()
	f := start(t, spooled(dir, &store{name: "http://a", fault: away}))
	want := numbered(7)
	want.Exemplars = []byte("exemplars")
	f.Enqueue(want)
	f.stop()
	s, records, err := spool.Open(filepath.Join(dir, "http:%2F%2Fa"))
	if err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	got, err := s.Read(records[0])
	if err != nil || got.Samples != 10 || string(got.PProf) != string(want.PProf) || string(got.Exemplars) != "exemplars" || !got.Start.Equal(want.Start) {
		t.Errorf("%+v, %v", got, err)
	}
}
