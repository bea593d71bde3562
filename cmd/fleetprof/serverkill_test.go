// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/uploader"
	uploadserver "github.com/fleetprof/fleetprof/uploader/server"
)

var serverKills = flag.Int("server.kills", 3, "how often TestKilledServerLosesNothing kills the server")

// feeder is an agent without a sampler: profiles of a host of its own go through the real
// uploader, its spool and its sessions.
type feeder struct {
	host     string
	up       *uploader.Uploader
	registry *prometheus.Registry
	made     int   // profiles
	samples  int64 // in all of them
}

func newFeeder(t *testing.T, host, url string) *feeder {
	t.Helper()
	to, err := uploadserver.New(url)
	if err != nil {
		t.Fatal(err)
	}
	f := &feeder{host: host, registry: prometheus.NewRegistry()}
	if f.up, err = uploader.New(uploader.Options{
		Destinations: []uploader.Destination{to}, SpoolDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Registerer: f.registry,
	}); err != nil {
		t.Fatal(err)
	}
	return f
}

// feed makes profiles until ctx ends. One sample of each has a thread of its own, by which the
// profile is known again.
func (f *feeder) feed(ctx context.Context, t *testing.T, begin time.Time) {
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		start := begin.Add(time.Duration(f.made) * 100 * time.Millisecond)
		all := []profiletest.Sample{{Stack: "main;mark", Labels: f.labels(f.made), Count: 1}}
		for i := range 20 {
			all = append(all, profiletest.Sample{Stack: fmt.Sprintf("main;serve;f%d", rand.IntN(500)), Labels: f.labels(-i), Count: 1 + rand.Int64N(9)})
		}
		p := sample.Profile{Start: start, Duration: profiletest.Duration, PProf: profiletest.Gzip(t, profiletest.New(start, all...))}
		for _, one := range all {
			p.Samples += one.Count
		}
		f.up.Enqueue(p)
		f.made++
		f.samples += p.Samples
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (f *feeder) labels(thread int) map[string]string {
	return map[string]string{"host_name": f.host, "thread_name": fmt.Sprint(thread)}
}

// value is a metric of the uploader.
func (f *feeder) value(t *testing.T, name string) (sum int) {
	t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.Metric {
			if family.GetName() == "fleetprof_uploader_"+name {
				sum += int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
			}
		}
	}
	return sum
}

// TestKilledServerLosesNothing kills a server with -9 while agents catch up with what they have,
// again and again: in the end it has each of their samples, once.
//
// As often as is asked for: -run TestKilledServerLosesNothing -server.kills=20
func TestKilledServerLosesNothing(t *testing.T) {
	t.Parallel()
	data, address := t.TempDir(), freeAddress(t)
	// Without limits of one client, which all of them are; sealing every 512 KiB of the log.
	begin := func() *daemon {
		return startOn(t, address, "server", "--data="+data, "--max-bytes=2MiB", "--ingest-requests=0", "--ingest-rate=0")
	}
	var feeders []*feeder
	ctx, stop := context.WithCancel(t.Context())
	sending, end := context.WithCancel(context.Background())
	var feeding, running sync.WaitGroup
	t.Cleanup(func() { stop(); end(); feeding.Wait(); running.Wait() })
	for i := range 4 {
		f := newFeeder(t, fmt.Sprint("host-", i), "http://"+address)
		feeders = append(feeders, f)
		running.Go(func() { _ = f.up.Run(sending) }) // it returns nil
		feeding.Go(func() { f.feed(ctx, t, time.Now().Add(-50*time.Minute)) })
	}
	sum := func(name string) (sum int) {
		for _, f := range feeders {
			sum += f.value(t, name)
		}
		return sum
	}
	allWait := func() bool {
		for _, f := range feeders {
			if f.value(t, "waiting_profiles") < 20 {
				return false
			}
		}
		return true
	}
	server := begin()
	for range *serverKills {
		sent, more := sum("profiles_sent_total"), 10+rand.IntN(70)
		awaitTrue(t, "profiles to be sent", func() bool { return sum("profiles_sent_total") >= sent+more })
		if err := server.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-server.end
		awaitTrue(t, "all to have something to send", allWait)
		server = begin()
	}
	stop()
	feeding.Wait()
	if waiting := sum("waiting_profiles"); waiting == 0 {
		t.Error("nothing is left for the last life of the server")
	}
	awaitTrue(t, "all to be sent", func() bool { return sum("waiting_profiles") == 0 })
	all := metrics(t, address)
	t.Logf("%d kills; %d profiles of %d samples were sent; %d attempts failed, %v profiles came twice in the last life; %v blocks", *serverKills,
		sum("profiles_sent_total"), sum("samples_sent_total"), sum("retries_total"), all["fleetprof_store_duplicates_total"], all["fleetprof_store_blocks"])
	if dropped, removed := sum("profiles_dropped_total"), all[`fleetprof_store_removed_total{reason="bytes"}`]; dropped > 0 || removed > 0 {
		t.Errorf("%d profiles were dropped, %v blocks removed", dropped, removed)
	}
	for _, f := range feeders {
		f.check(t, server)
	}
	server.interrupt(t)
}

// check compares what was made with what is stored.
func (f *feeder) check(t *testing.T, server *daemon) {
	t.Helper()
	p := server.profile(t, "query={host_name=%22"+f.host+"%22}")
	if p == nil {
		t.Fatalf("nothing of %s is stored", f.host)
	}
	stored, got, want := int64(0), map[string]int64{}, map[string]int64{}
	for _, s := range p.Sample {
		stored += s.Value[0]
		if s.Location[0].Line[0].Function.Name == "mark" {
			got[s.Label["thread_name"][0]] += s.Value[0]
		}
	}
	for i := range f.made {
		want[fmt.Sprint(i)] = 1
	}
	if stored != f.samples || !maps.Equal(got, want) {
		t.Errorf("%s: %d samples are stored of %d", f.host, stored, f.samples)
	}
	for i, n := range got {
		if n != 1 {
			t.Errorf("%s: profile %s is there %d times", f.host, i, n)
		}
	}
	for i := range want {
		if got[i] == 0 {
			t.Errorf("%s: profile %s is missing", f.host, i)
		}
	}
}
