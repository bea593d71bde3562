// SPDX-License-Identifier: Apache-2.0

package debuginfod

import (
	"bytes"
	"context"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/internal/programtest"
)

// linkedID is the build ID that the linker is told to write into debugFile.
const linkedID = "00112233445566778899aabbccddeeff00112233"

// debugFile makes a debug file as distributions do.
func debugFile(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	run(t, dir, "gcc", "-g", "-Wl,--build-id=0x"+linkedID, "-o", "program", "-x", "c", source(t))
	run(t, dir, "objcopy", "--only-keep-debug", "program", "program.debug")
	content, err := os.ReadFile(filepath.Join(dir, "program.debug"))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func source(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "main.c")
	if err := os.WriteFile(path, []byte("static int hidden(int n) { return n * 3; }\nint main(int n, char **v) { return hidden(n); }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func run(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(programtest.Need(t, name), args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// another gives a debug file another build ID.
func another(t testing.TB, content []byte, id string) []byte {
	t.Helper()
	before, _ := hex.DecodeString(linkedID)
	after, err := hex.DecodeString(id)
	if err != nil || len(after) != len(before) || !bytes.Contains(content, before) {
		t.Fatalf("cannot give a file the build ID %s: %v", id, err)
	}
	return bytes.ReplaceAll(content, before, after)
}

// library is a server that has files by their build IDs, and notes what it is asked for.
type library struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte
	asked map[string]int
}

func newLibrary(t testing.TB, files map[string][]byte) *library {
	t.Helper()
	l := &library{files: files, asked: make(map[string]int)}
	l.Server = httptest.NewServer(l)
	t.Cleanup(l.Close)
	return l
}

func (l *library) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked[r.URL.Path]++
	content, ok := l.files[strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/buildid/"), "/debuginfo")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(content) // the client may have gone
}

// times is how often a build ID was asked for.
func (l *library) times(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked["/buildid/"+id+"/debuginfo"]
}

// clock is one that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// tested is a client with what a test has to do with it.
type tested struct {
	*Client
	clock *clock
	end   func()
}

// newClient makes a client that fetches until the end of the test, or end.
func newClient(t testing.TB, dir string, limit int64, addresses ...string) *tested {
	t.Helper()
	o := Options{Dir: dir, Bytes: limit, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}
	for _, a := range addresses {
		s, err := NewServer(a)
		if err != nil {
			t.Fatal(err)
		}
		o.Servers = append(o.Servers, s)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	to := &tested{Client: c, clock: &clock{now: time.Now()}}
	c.cache.now, c.pause = to.clock.read, 0
	to.end = sync.OnceFunc(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { to.end() })
	return to
}

// start runs the client beside the test.
func (c *tested) start(t testing.TB) *tested {
	t.Helper()
	ended, closed := make(chan error, 1), c.end
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- c.Run(ctx) }()
	c.end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		closed()
	})
	return c
}

// requests is how many came to a result.
func (c *tested) requests(result string) int {
	return int(testutil.ToFloat64(c.metrics.requests.WithLabelValues(result)))
}

// idle waits until nothing is being fetched.
func (c *tested) idle(t testing.TB) {
	t.Helper()
	until(t, "everything to be asked for", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.waiting) == 0
	})
}

// fetchNow asks for a file and waits for what comes of it.
func (c *tested) fetchNow(t testing.TB, id string) (there bool) {
	t.Helper()
	if c.Available(id) {
		return true
	}
	c.idle(t)
	there, _ = c.cache.look(id)
	return there
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited for %s", what)
		}
	}
}

// whole fails the test if there is a file that was not fetched whole.
func whole(t testing.TB, dir string) {
	t.Helper()
	if parts, err := filepath.Glob(filepath.Join(dir, "*"+partial)); err != nil || len(parts) > 0 {
		t.Errorf("left behind: %v, %v", parts, err)
	}
}
