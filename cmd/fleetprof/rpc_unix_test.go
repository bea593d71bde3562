// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"golang.org/x/sync/errgroup"
)

// TestUnixSocketIsClosed asks a server behind a Unix socket that leaves every other
// request without an answer: it closes the connection and goes on with work of its own
// on the same thread. That work must not be claimed for the request.
func TestUnixSocketIsClosed(t *testing.T) {
	needRoot(t)
	agent := newWatcher(t)
	path := filepath.Join(t.TempDir(), "socket")
	cmd := exec.Command("python3", "drops.py", path)
	cmd.Dir, cmd.Stderr = "testdata/rpc", t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	server := &handlerServer{name: "python-unix", truth: truthByThread, protocol: http1}
	p := &servingHandlers{server: server, pids: []int{cmd.Process.Pid}}
	askAndDrop(t, path, time.Now().Add(time.Second)) // the agent meets the program
	trial := handlerTrial{begin: agent.nextWindow(t)}
	trial.end = trial.begin.Add(3 * windowLength)
	answered := askAndDrop(t, path, trial.end.Add(-settling))

	v := newHandlerVerdict()
	within(agent.windows(t, trial.end), trial, func(s *profile.Sample) {
		if p.owns(s) {
			v.hold(server, s)
		}
	})
	t.Logf("%d answers\n%s\n%s", answered, handlerColumns, v.row(server.name, "4-close", handlerRequests{}))
	v.honest(t)
	v.meaningful(t)
	if v.truly[elsewhere] < enough {
		t.Errorf("%d samples of work for no request, want at least %d", v.truly[elsewhere], enough)
	}
	v.meets(t, handlerBar{coverage: 0.95})
}

// askAndDrop asks on four new connections at a time, until a time, and returns the
// number of answers. Every other request is dropped by the server.
func askAndDrop(t *testing.T, path string, until time.Time) (answered int64) {
	t.Helper()
	var loops errgroup.Group
	answers := make([]int64, 4)
	for i := range answers {
		loops.Go(func() error {
			for drop := false; time.Now().Before(until); drop = !drop {
				r := &handlerRoutes[rand.N(len(handlerRoutes))]
				answer, err := askUnix(path, r, drop)
				if err != nil {
					return fmt.Errorf("ask at %s: %w", path, err)
				}
				if drop != (len(answer) == 0) || !drop && !bytes.HasSuffix(answer, []byte(r.letter)) {
					return fmt.Errorf("dropped: %v, answer %q", drop, answer)
				}
				answers[i] += int64(min(len(answer), 1))
			}
			return nil
		})
	}
	if err := loops.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, n := range answers {
		answered += n
	}
	return answered
}

// askUnix sends one request on a connection of its own and returns all that comes back.
func askUnix(path string, r *handlerRoute, drop bool) ([]byte, error) {
	var conn net.Conn
	var err error
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if conn, err = net.Dial("unix", path); err == nil || time.Now().After(deadline) {
			break // else the server is not there yet
		}
	}
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	header := ""
	if drop {
		header = "X-Drop: 1\r\n"
	}
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: unix\r\n%s\r\n", r.method, r.path(), header); err != nil {
		return nil, err
	}
	return io.ReadAll(conn)
}
