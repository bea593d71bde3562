// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/sample"
)

// files is a Source with files in memory, by path, which counts those that are open.
type files struct {
	mu     sync.Mutex
	all    map[string][]byte
	errors map[string]error
	open   int
	most   int // were open at a time
	read   int // files of which names were asked for
}

func (f *files) Hold(o *sample.Object, _ string) (Held, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all[o.Path] == nil && f.errors[o.Path] == nil {
		return nil, errors.New("not sampled in this window")
	}
	f.open++
	f.most = max(f.most, f.open)
	return &held{f, o.Path}, nil
}

func (f *files) count() (open, most, read int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open, f.most, f.read
}

type held struct {
	of   *files
	path string
}

func (h *held) Names() (io.ReaderAt, int64, error) {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	h.of.read++
	b := h.of.all[h.path]
	return bytes.NewReader(b), int64(len(b)), h.of.errors[h.path]
}

func (h *held) Close() error {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	h.of.open--
	return nil
}

// fileOf makes n bytes in which the build ID is.
func fileOf(id string, n int) []byte {
	b, err := hex.DecodeString(id)
	if err != nil {
		panic(err)
	}
	random := rand.NewChaCha8([32]byte(append(bytes.Clone(b), make([]byte, 32)...)))
	more := make([]byte, n-len(b))
	_, _ = random.Read(more) // it does not fail
	return append(b, more...)
}

func idOf(i int) string { return fmt.Sprintf("%040x", i+1) }

// host is an agent's uploader, which runs.
type host struct {
	*Uploader
	*files
	t    *testing.T
	stop func()
}

const fast = 1 << 30 // bytes a second

func newHost(t *testing.T, rate int64, to ...Destination) *host {
	t.Helper()
	f := &files{all: map[string][]byte{}, errors: map[string]error{}}
	u, err := New(Options{Destinations: to, Source: f, Rate: rate, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	u.spread = 0
	for _, s := range u.senders {
		s.pauses = pauses{ask: 0, busy: 20 * time.Millisecond, first: 2 * time.Millisecond, most: 20 * time.Millisecond}
	}
	return &host{Uploader: u, files: f, t: t}
}

// start runs it until the test ends; then nothing must be open.
func (h *host) start() *host {
	ctx, cancel := context.WithCancel(h.t.Context())
	ended := make(chan error)
	go func() { ended <- h.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
		if open, _, _ := h.count(); open != 0 {
			h.t.Errorf("%d files are left open", open)
		}
	})
	h.t.Cleanup(h.stop)
	return h
}

// meet meets a file of that content.
func (h *host) meet(id string, content []byte) {
	h.files.mu.Lock()
	h.all[id] = content
	h.files.mu.Unlock()
	h.Meet(&sample.Object{Path: id, BuildID: id}, id)
}

// result waits until so many files have come to a result.
func (h *host) result(result string, want int) {
	h.t.Helper()
	for _, s := range h.senders {
		got := func() int { return int(testutil.ToFloat64(h.metrics.uploads.WithLabelValues(s.to.String(), result))) }
		for end := time.Now().Add(10 * time.Second); got() < want && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if n := got(); n != want {
			h.t.Fatalf("%d files are %s at %s, want %d", n, result, s.to, want)
		}
	}
}

func (h *host) sent() int {
	return int(testutil.ToFloat64(h.metrics.bytes.WithLabelValues(h.senders[0].to.String())))
}

func (h *host) retries() int {
	return int(testutil.ToFloat64(h.metrics.retries.WithLabelValues(h.senders[0].to.String())))
}

// store is a Destination that answers as it is told.
type store struct {
	mu    sync.Mutex
	stand Standing
	gate  chan struct{} // what is asked waits for it, if it is not nil
	asked []string
	took  int
}

func (s *store) String() string { return fmt.Sprintf("%p", s) }

func (s *store) Ask(ctx context.Context, id string) (Standing, error) {
	s.mu.Lock()
	s.asked = append(s.asked, id)
	stand, gate := s.stand, s.gate
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
		}
	}
	return stand, nil
}

func (s *store) Send(ctx context.Context, _ string, c *Content) (Standing, error) {
	n, err := io.Copy(io.Discard, c.Reader(ctx))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took += int(n)
	return Present, err
}

// Files are offered once, and read only if a store wants them.
func TestMeet(t *testing.T) {
	wants, has := &store{}, &store{stand: Present}
	h := newHost(t, fast, wants, has).start()
	for range 3 {
		h.meet(idOf(0), fileOf(idOf(0), 1000))
		h.meet(idOf(1), fileOf(idOf(1), 1000))
	}
	for _, id := range []string{"", "abcd", "../../../../etc/passwd", "ABCDEFABCDEFABCDEF", idOf(1)[1:]} {
		h.meet(id, fileOf(idOf(2), 1000))
	}
	settled := func() bool {
		for _, s := range h.senders {
			if s.waits() > 0 {
				return false
			}
		}
		return true
	}
	for !settled() {
		time.Sleep(time.Millisecond)
	}
	h.stop()
	if len(wants.asked) != 2 || len(has.asked) != 2 || wants.took != 2000 || has.took != 0 {
		t.Errorf("asked %v and %v; %d and %d bytes are sent", wants.asked, has.asked, wants.took, has.took)
	}
	if _, _, read := h.count(); read != 2 {
		t.Errorf("%d files are read", read)
	}
	h.meet(idOf(3), fileOf(idOf(3), 1000)) // after the end
	if open, _, _ := h.count(); open != 0 {
		t.Errorf("%d files are open", open)
	}
}

// Why files cannot be sent is counted, and the next one is.
func TestUnusableFiles(t *testing.T) {
	h := newHost(t, fast, &store{})
	h.errors["nothing"] = fmt.Errorf("strip: %w", ErrNothing)
	h.errors["large"] = fmt.Errorf("strip: %w", ErrTooLarge)
	h.errors["damaged"] = errors.New("damaged")
	for i, path := range []string{"nothing", "large", "damaged", "gone"} {
		h.Meet(&sample.Object{Path: path}, idOf(i))
	}
	h.start()
	for _, result := range []string{resultNothing, resultTooLarge, resultUnreadable, resultGone} {
		h.result(result, 1)
	}
	h.meet(idOf(9), fileOf(idOf(9), 1000))
	h.result(resultUploaded, 1)
	h.meet(idOf(3), fileOf(idOf(3), 1000)) // which was gone
	h.result(resultUploaded, 2)
}

// What waits is bounded, and so are the files that are kept open for it. Each file comes to one result.
func TestBounds(t *testing.T) {
	to := &store{gate: make(chan struct{})}
	h := newHost(t, fast, to).start()
	const more = 100
	content := fileOf(idOf(0), 100)
	h.meet(idOf(0), content)
	for to.count() == 0 { // it is out of the queue
		time.Sleep(time.Millisecond)
	}
	for i := range maxWaiting + more {
		h.meet(idOf(i+1), content)
	}
	h.result(resultFull, more)
	if open, _, _ := h.count(); open != maxHeld {
		t.Errorf("%d files are open, want %d", open, maxHeld)
	}
	if n := h.senders[0].waits(); n != maxWaiting+1 {
		t.Errorf("%d wait", n)
	}
	close(to.gate)
	h.result(resultUploaded, maxWaiting+1)
	if _, most, _ := h.count(); most > maxHeld+1 {
		t.Errorf("%d files were open", most)
	}
	h.meet(idOf(maxWaiting+more), content) // for which there was no room
	h.result(resultUploaded, maxWaiting+2)
}

func (s *store) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// It ends at once, in the middle of whatever is going on, with files that wait and are due.
func TestEnd(t *testing.T) {
	for name, to := range map[string]*store{"asking": {gate: make(chan struct{})}, "sending": {}} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, leastPiece, to).start()
			content := fileOf(idOf(0), 1<<20)
			for i := range 100 {
				h.meet(idOf(i), content)
			}
			for to.count() == 0 || name == "sending" && h.sent() == 0 {
				time.Sleep(time.Millisecond)
			}
			begin := time.Now()
			h.stop()
			if took := time.Since(begin); took > time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// What is known of is bounded.
func TestForgetting(t *testing.T) {
	h := newHost(t, fast)
	for i := range maxKnown + 100 {
		h.remember(idOf(i))
	}
	if len(h.known) != maxKnown {
		t.Errorf("%d are known", len(h.known))
	}
	if h.remember(idOf(maxKnown+99)) || !h.remember(idOf(0)) {
		t.Error("not the oldest are forgotten")
	}
	h.settle(idOf(7000))
	if h.remember(idOf(7000)) {
		t.Error("what is settled is asked for again at once")
	}
	h.known[idOf(7000)] = known{time.Now().Add(-knownFor), true}
	if !h.remember(idOf(7000)) {
		t.Error("what was settled hours ago is not asked for")
	}
}

// All stores together are sent no more than the rate.
func TestRate(t *testing.T) {
	const rate, size = 4 << 20, 1 << 20
	h := newHost(t, rate, &store{}, &store{}).start()
	begin := time.Now()
	h.meet(idOf(0), fileOf(idOf(0), size))
	h.result(resultUploaded, 1)
	// The first piece passes at once, and pieces are as large as io.Copy's buffer.
	least := time.Duration(2*size-128<<10) * time.Second / rate
	if took := time.Since(begin); took < least || took > 20*least {
		t.Errorf("2 times %d bytes took %v, want about %v", size, took, least)
	}
}

// While another host is sending a file the store is asked for it less and less often.
func TestBusyIsAskedLess(t *testing.T) {
	other := &store{stand: Busy}
	h := newHost(t, fast, other).start()
	h.meet(idOf(0), fileOf(idOf(0), 100))
	time.Sleep(50 * h.senders[0].pauses.busy)
	h.stop()
	// After at least 1, 2, 4 and from then on 8 pauses; it would be 25 to 50 times without.
	if n := len(other.asked); n < 2 || n > 4+50/8 {
		t.Errorf("asked %d times", n)
	}
}
