// SPDX-License-Identifier: Apache-2.0

package uploader_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/uploader"
)

// These are set in the child that TestKill starts: it enqueues profiles, numbered from the second
// on, and prints the number of each once Enqueue has returned, until it is killed.
const (
	killURL  = "FLEETPROF_TEST_KILL_URL"
	killFrom = "FLEETPROF_TEST_KILL_FROM"
	killDir  = "FLEETPROF_TEST_KILL_DIR"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(killURL); url != "" {
		fmt.Fprintln(os.Stderr, enqueueUntilKilled(poster(url), os.Getenv(killDir), os.Getenv(killFrom)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func enqueueUntilKilled(to poster, dir, from string) error {
	o := spooled(dir, to)
	o.Logger, o.Registerer = slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	u, err := uploader.New(o)
	if err != nil {
		return err
	}
	go u.Run(context.Background())
	i, err := strconv.Atoi(from)
	for ; err == nil; i++ {
		u.Enqueue(numbered(i))
		fmt.Println(i)
		time.Sleep(rand.N(3 * time.Millisecond))
	}
	return err
}

// poster is a Destination that posts to a URL.
type poster string

func (p poster) String() string { return string(p) }

func (p poster) Send(ctx context.Context, w sample.Profile) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, string(p), bytes.NewReader(w.PProf))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// TestKill kills an agent's uploader twenty times at random, with a store that is there
// in some of its lives: all that Enqueue had returned for arrives.
func TestKill(t *testing.T) {
	var there atomic.Bool
	d := &store{name: "http://a"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !there.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		_ = d.Send(r.Context(), sample.Profile{PProf: body, Samples: 10})
	}))
	defer server.Close()
	dir, enqueued := t.TempDir(), 0
	for life := range 20 {
		there.Store(life%3 == 2)
		enqueued = killed(t, server.URL, dir, enqueued)
	}
	there.Store(true)
	before := len(d.contents())
	f := start(t, spooled(dir, poster(server.URL)))
	until(t, "all is sent", func() bool { return f.metric("waiting_profiles", server.URL) == 0 })
	f.stop()
	f.balance(server.URL)
	got := d.contents()
	t.Logf("%d enqueued, %d arrived, %d after the last life, %d repeats", enqueued, len(got), len(got)-before, d.repeats)
	for i := range enqueued {
		if want := string(numbered(i).PProf); i >= len(got) || got[i] != want {
			t.Fatalf("%s did not arrive", want)
		}
	}
	// The last child may have been killed between Enqueue and printing.
	if len(got) > enqueued+1 || before == 0 || before == len(got) {
		t.Errorf("%d arrived of %d, %d of them before the end", len(got), enqueued, before)
	}
}

// killed has a child enqueue profiles from a number on, kills it, and gives the number that the
// next one goes on with. What the child has enqueued and not printed counts as enqueued.
func killed(t *testing.T, url, dir string, from int) (next int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), killURL+"="+url, killDir+"="+dir, killFrom+"="+strconv.Itoa(from))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	next = from
	lines := bufio.NewScanner(out)
	for least := 1 + rand.IntN(20); lines.Scan(); {
		n, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
		if err != nil || n != next {
			t.Fatalf("the child prints %q", lines.Text())
		}
		next++
		if next-from == least {
			time.Sleep(rand.N(3 * time.Millisecond))
			if err := child.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended with %v", err)
	}
	return next
}
