// SPDX-License-Identifier: Apache-2.0

package uploader_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/reshape"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/uploader"
)

// target is a Destination that answers as the test says.
type target struct {
	name   string
	answer func(ctx context.Context, p sample.Profile) error

	mu  sync.Mutex
	got []string
}

func (d *target) String() string { return d.name }

func (d *target) Send(ctx context.Context, p sample.Profile) error {
	if d.answer != nil {
		if err := d.answer(ctx, p); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, string(p.PProf))
	return nil
}

func (d *target) received() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string{}, d.got...)
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type fixture struct {
	*uploader.Uploader
	t        *testing.T
	registry *prometheus.Registry
	logs     *syncBuffer
	stop     func() // ends the context and waits for Run
}

func start(t *testing.T, o uploader.Options) *fixture {
	t.Helper()
	f := prepare(t, o)
	f.run()
	return f
}

func prepare(t *testing.T, o uploader.Options) *fixture {
	t.Helper()
	f := &fixture{t: t, registry: prometheus.NewRegistry(), logs: &syncBuffer{}}
	o.Registerer, o.Logger = f.registry, slog.New(slog.NewTextHandler(f.logs, nil))
	u, err := uploader.New(o)
	if err != nil {
		t.Fatal(err)
	}
	f.Uploader = u
	return f
}

func (f *fixture) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	var once sync.Once
	f.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				f.t.Error(err)
			}
		})
	}
	f.t.Cleanup(f.stop)
}

// window has 10 samples.
func window(name string) sample.Profile {
	return sample.Profile{Start: time.Now(), Duration: 10 * time.Second, Samples: 10, PProf: []byte(name)}
}

// metric gives the value of the series whose labels are these values, in the
// order of their names.
func (f *fixture) metric(name string, labels ...string) float64 {
	f.t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "fleetprof_uploader_"+name {
			continue
		}
		for _, m := range family.Metric {
			var values []string
			for _, l := range m.Label {
				values = append(values, l.GetValue())
			}
			if strings.Join(values, " ") == strings.Join(labels, " ") {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

func (f *fixture) wantMetrics(want map[string]float64) {
	f.t.Helper()
	for name, v := range want {
		parts := strings.Fields(name)
		if got := f.metric(parts[0], parts[1:]...); got != v {
			f.t.Errorf("%s is %v, want %v", name, got, v)
		}
	}
}

func equal(t *testing.T, got []string, want string) {
	t.Helper()
	if strings.Join(got, " ") != want {
		t.Errorf("received %q, want %q", got, want)
	}
}

func TestSendsInOrderToAll(t *testing.T) {
	a, b := &target{name: "http://user@a:7171"}, &target{name: "dir:/b"}
	f := start(t, uploader.Options{Destinations: []uploader.Destination{a, b}})
	for i := range 5 {
		f.Enqueue(window(fmt.Sprint(i)))
	}
	f.stop()
	equal(t, a.received(), "0 1 2 3 4")
	equal(t, b.received(), "0 1 2 3 4")
	f.wantMetrics(map[string]float64{
		"profiles_in_total http://user@a:7171": 5, "samples_in_total dir:/b": 50,
		"profiles_sent_total http://user@a:7171": 5, "samples_sent_total http://user@a:7171": 50, "samples_sent_total dir:/b": 50,
		"queue_bytes http://user@a:7171": 0, "retries_total http://user@a:7171": 0,
	})
}

// TestAway has a destination fail, with the rest of the queue waiting behind.
func TestAway(t *testing.T) {
	var mu sync.Mutex
	away := true
	failed := make(chan struct{}, 100)
	d := &target{name: "http://a", answer: func(context.Context, sample.Profile) error {
		mu.Lock()
		defer mu.Unlock()
		if away {
			failed <- struct{}{}
			return errors.New("connection refused")
		}
		return nil
	}}
	f := start(t, uploader.Options{Destinations: []uploader.Destination{d}})
	for i := range 10 {
		f.Enqueue(window(fmt.Sprint(i)))
	}
	<-failed
	<-failed
	<-failed
	mu.Lock()
	away = false
	mu.Unlock()
	f.stop()
	equal(t, d.received(), "0 1 2 3 4 5 6 7 8 9")
	if n := f.metric("retries_total", "http://a"); n < 3 {
		t.Errorf("%v retries", n)
	}
	if logs := f.logs.String(); strings.Count(logs, "does not take profiles now") != 1 || strings.Count(logs, "takes profiles again") != 1 {
		t.Errorf("logs are %s", logs)
	}
	f.wantMetrics(map[string]float64{"samples_sent_total http://a": 100, "queue_bytes http://a": 0})
}

func TestPermanentIsDropped(t *testing.T) {
	d := &target{name: "http://a", answer: func(_ context.Context, p sample.Profile) error {
		if strings.HasPrefix(string(p.PProf), "bad") {
			return fmt.Errorf("send: %w", uploader.Permanent{Err: errors.New("400 no period type")})
		}
		return nil
	}}
	f := start(t, uploader.Options{Destinations: []uploader.Destination{d}})
	for _, name := range []string{"bad1", "good1", "bad2", "bad3", "good2"} {
		f.Enqueue(window(name))
	}
	f.stop()
	equal(t, d.received(), "good1 good2")
	f.wantMetrics(map[string]float64{
		"profiles_dropped_total http://a rejected": 3, "samples_dropped_total http://a rejected": 30, "samples_sent_total http://a": 20,
	})
	if logs := f.logs.String(); strings.Count(logs, "no period type") != 1 {
		t.Errorf("logs are %s", logs)
	}
}

// What a destination refuses is counted by its word for why, and logged once for each.
func TestReasons(t *testing.T) {
	n := 0
	d := &target{name: "http://a", answer: func(context.Context, sample.Profile) error {
		n++
		return uploader.Permanent{Err: fmt.Errorf("profile %d is refused", n), Reason: []string{"invalid", "too_large"}[n%2]}
	}}
	f := start(t, uploader.Options{Destinations: []uploader.Destination{d}})
	for range 30 {
		f.Enqueue(window("a"))
	}
	f.stop()
	f.wantMetrics(map[string]float64{
		"samples_dropped_total http://a rejected_invalid": 150, "profiles_dropped_total http://a rejected_too_large": 15,
	})
	if n := f.logged("is refused"); n != 2 {
		t.Errorf("%d lines are logged", n)
	}
}

// A profile of which a part is refused is sent, and its samples are counted as what became of them.
func TestPartialIsSent(t *testing.T) {
	n := 0
	d := &target{name: "http://a", answer: func(context.Context, sample.Profile) error {
		n++
		err := error(uploader.Partial{Err: errors.New("no room for a series"), Samples: int64(n)})
		switch n {
		case 1:
			return fmt.Errorf("send: %w", err)
		case 2:
			return errors.Join(err, uploader.Incomplete{Err: errors.New("no exemplars")})
		}
		return uploader.Partial{Err: uploader.Permanent{Err: errors.New("no"), Reason: "why"}, Samples: 1000}
	}}
	f := start(t, uploader.Options{Destinations: []uploader.Destination{d}})
	for range 3 {
		f.Enqueue(window("a"))
	}
	f.stop()
	f.wantMetrics(map[string]float64{
		"profiles_sent_total http://a": 3, "samples_sent_total http://a": 9 + 8 + 0, "retries_total http://a": 0,
		"profiles_dropped_total http://a rejected": 0, "samples_dropped_total http://a rejected": 3,
		"samples_dropped_total http://a rejected_why": 10, "exemplars_dropped_total http://a": 1,
	})
}

// short is a destination that leaves something off.
type short struct{ target }

func (*short) Cuts() reshape.Cuts { return reshape.Cuts{Labels: 1, Values: 2, Stacks: 3} }

func TestCuts(t *testing.T) {
	f := start(t, uploader.Options{Destinations: []uploader.Destination{&short{target{name: "http://a"}}}})
	f.stop()
	f.wantMetrics(map[string]float64{"cuts_total http://a label": 1, "cuts_total http://a value": 2, "cuts_total http://a stack": 3})
}

// A destination that takes profiles and refuses their exemplars gets the next ones.
func TestIncompleteIsSent(t *testing.T) {
	d := &target{name: "http://a", answer: func(context.Context, sample.Profile) error {
		return fmt.Errorf("send: %w", uploader.Incomplete{Err: errors.New("404 no such endpoint")})
	}}
	f := start(t, uploader.Options{Destinations: []uploader.Destination{d}})
	f.Enqueue(window("a"))
	f.Enqueue(window("b"))
	f.stop()
	f.wantMetrics(map[string]float64{
		"profiles_sent_total http://a": 2, "exemplars_dropped_total http://a": 2, "retries_total http://a": 0, "queue_bytes http://a": 0,
	})
	if logs := f.logs.String(); strings.Count(logs, "no such endpoint") != 1 {
		t.Errorf("logs are %s", logs)
	}
}

func TestFullQueueDropsOldest(t *testing.T) {
	d := &target{name: "dir:/x"}
	f := prepare(t, uploader.Options{Destinations: []uploader.Destination{d}, QueueBytes: 3 * (1 + 128)})
	for i := range 8 {
		f.Enqueue(window(fmt.Sprint(i)))
	}
	f.wantMetrics(map[string]float64{"queue_bytes dir:/x": 3 * 129, "profiles_dropped_total dir:/x queue_full": 5})
	f.Enqueue(window(strings.Repeat("x", 1000))) // larger than the queue: only it is dropped
	f.run()
	f.stop()
	equal(t, d.received(), "5 6 7")
	f.wantMetrics(map[string]float64{
		"profiles_dropped_total dir:/x queue_full": 6, "samples_dropped_total dir:/x queue_full": 60,
		"samples_sent_total dir:/x": 30, "queue_bytes dir:/x": 0,
	})
}

// TestFullWhileSending fills the queue while its head is on the way: that one is not
// dropped, so what is counted as sent is what arrived.
func TestFullWhileSending(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	d := &target{name: "http://a", answer: func(_ context.Context, p sample.Profile) error {
		if string(p.PProf) == "0" {
			close(entered)
			<-release
		}
		return nil
	}}
	f := start(t, uploader.Options{Destinations: []uploader.Destination{d}, QueueBytes: 2 * 129})
	f.Enqueue(window("0"))
	<-entered
	for i := range 4 {
		f.Enqueue(window(fmt.Sprint(i + 1)))
	}
	close(release)
	f.stop()
	equal(t, d.received(), "0 4")
	f.wantMetrics(map[string]float64{"samples_sent_total http://a": 20, "samples_dropped_total http://a queue_full": 30, "samples_in_total http://a": 50})
}

// TestFlush ends while the destination is away, or hangs.
func TestFlush(t *testing.T) {
	for name, answer := range map[string]func(ctx context.Context, p sample.Profile) error{
		"away":  func(context.Context, sample.Profile) error { return errors.New("away") },
		"hangs": func(ctx context.Context, _ sample.Profile) error { <-ctx.Done(); return ctx.Err() },
		"asks for patience": func(context.Context, sample.Profile) error {
			return uploader.Retry{Err: errors.New("later"), After: time.Hour}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &target{name: "http://a", answer: answer}
			f := start(t, uploader.Options{Destinations: []uploader.Destination{d}, FlushTimeout: 50 * time.Millisecond})
			f.Enqueue(window("a"))
			f.Enqueue(window("b"))
			f.stop()
			f.wantMetrics(map[string]float64{"profiles_dropped_total http://a shutdown": 2, "samples_dropped_total http://a shutdown": 20, "queue_bytes http://a": 0})
			if logs := f.logs.String(); !strings.Contains(logs, "profiles=2 samples=20") {
				t.Errorf("logs are %s", logs)
			}
		})
	}
}

// TestRetryAfterIsHonoured has the destination ask for a pause that is longer
// than any wait of our own, and expects no attempt until the end.
func TestRetryAfterIsHonoured(t *testing.T) {
	attempts := make(chan struct{}, 10)
	d := &target{name: "http://a", answer: func(context.Context, sample.Profile) error {
		attempts <- struct{}{}
		if len(attempts) == 1 {
			return fmt.Errorf("send: %w", uploader.Retry{Err: errors.New("429"), After: time.Minute})
		}
		return nil
	}}
	f := start(t, uploader.Options{Destinations: []uploader.Destination{d}})
	f.Enqueue(window("a"))
	for f.metric("retries_total", "http://a") == 0 {
		time.Sleep(time.Millisecond) // until the first attempt is over
	}
	if len(attempts) != 1 {
		t.Errorf("%d attempts before the end", len(attempts))
	}
	f.stop() // cuts the pause short
	equal(t, d.received(), "a")
}

// TestConcurrentEnqueue hands over from many goroutines, with a small queue and
// an unreliable destination, and adds up.
func TestConcurrentEnqueue(t *testing.T) {
	n := 0
	d := &target{name: "http://a", answer: func(context.Context, sample.Profile) error {
		if n++; n%3 == 0 {
			return uploader.Permanent{Err: errors.New("no")}
		}
		return nil
	}}
	f := start(t, uploader.Options{Destinations: []uploader.Destination{d}, QueueBytes: 2000})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 50 {
				f.Enqueue(window("x"))
			}
		})
	}
	wg.Wait()
	f.stop()
	out := f.metric("samples_sent_total", "http://a") + f.metric("samples_dropped_total", "http://a", "queue_full") + f.metric("samples_dropped_total", "http://a", "rejected")
	if in := f.metric("samples_in_total", "http://a"); in != 10_000 || out != in || f.metric("queue_bytes", "http://a") != 0 {
		t.Errorf("%v samples in, %v sent or dropped", in, out)
	}
}

func TestNewRefuses(t *testing.T) {
	twice := []uploader.Destination{&target{name: "http://a"}, &target{name: "http://b"}, &target{name: "http://a"}}
	for want, destinations := range map[string][]uploader.Destination{"no destination": nil, "http://a is there twice": twice} {
		_, err := uploader.New(uploader.Options{
			Destinations: destinations, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}
