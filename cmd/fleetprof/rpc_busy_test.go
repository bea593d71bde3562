// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// TestBusyConnections asks a Go server so often on each connection that requests are
// passed over, and holds the counts against what was sent: the sum exactly, the parts
// by chance, as wide as the share of those that are followed allows.
func TestBusyConnections(t *testing.T) {
	needRoot(t)
	agent := newWatcher(t)
	address, binary := freeAddress(t), filepath.Join(t.TempDir(), "busy")
	if out, err := exec.Command("go", "build", "-o", binary, "./testdata/rpc/tiny").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	server := background(t, binary, address)
	awaitAddress(t, address)
	// Until its memory tells of requests.
	for passed := 0.0; passed == 0; passed = agent.sum(t, "fleetprof_rpc_passed_requests_total") {
		if _, err := askParts(address, 1000); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * settling)
	total := func(more ...string) float64 {
		return agent.sum(t, "fleetprof_rpc_requests_total{", append(more, `service_name="busy"`)...)
	}
	failed := func() float64 { return agent.sum(t, "fleetprof_rpc_errors_total{", `service_name="busy"`) }
	before, itemsBefore, failedBefore := total(), total("/items/"), failed()
	passedBefore := agent.sum(t, "fleetprof_rpc_passed_requests_total")

	const connections, each = 4, 10_000
	var all errgroup.Group
	parts := make([]busyParts, connections)
	for i := range connections {
		all.Go(func() (err error) {
			parts[i], err = askParts(address, each)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * settling)
	sent, sentItems, sentNotes := float64(connections*each), 0, 0
	for _, p := range parts {
		sentItems += p.items
		sentNotes += p.notes
	}
	sentFailures := sent - float64(sentItems+sentNotes)
	seen, passed := total()-before, agent.sum(t, "fleetprof_rpc_passed_requests_total")-passedBefore
	t.Logf("%.0f requests sent, %.0f counted, %.0f of them passed over; %d of items, %.0f counted; %.0f failed, %.0f counted",
		sent, seen, passed, sentItems, total("/items/")-itemsBefore, sentFailures, failed()-failedBefore)
	if seen != sent {
		t.Errorf("%.0f requests counted of %.0f", seen, sent)
	}
	if passed < 0.8*sent {
		t.Errorf("%.0f requests passed over of %.0f", passed, sent)
	}
	// Six standard deviations of a share that is estimated from one request in 24.
	far := 6 * math.Sqrt(0.25*24*sent)
	if diff := total("/items/") - itemsBefore - float64(sentItems); math.Abs(diff) > far {
		t.Errorf("items are off by %.0f, more than %.0f", diff, far)
	}
	if diff := failed() - failedBefore - sentFailures; math.Abs(diff) > far {
		t.Errorf("failures are off by %.0f, more than %.0f", diff, far)
	}
	if n := total("/hidden"); n != 0 {
		t.Errorf("%.0f bodies counted as requests", n)
	}
	server.end()
}

// busyParts are how many requests were for what; the others were to fail.
type busyParts struct{ items, notes int }

// askParts sends requests on one connection, at random: for items, to fail, or notes, whose
// bodies look like requests and are sent when the server reads them.
func askParts(address string, requests int) (parts busyParts, err error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return parts, err
	}
	defer c.Close()
	answers := bufio.NewReader(c)
	for range requests {
		switch n := rand.IntN(64); {
		case n == 0:
			parts.notes++
			err = sendNote(c, answers)
		case n < 16:
			_, err = io.WriteString(c, "GET /fail HTTP/1.1\r\nHost: a\r\n\r\n")
			err = errors.Join(err, readAnswer(answers, http.StatusInternalServerError))
		default:
			parts.items++
			_, err = fmt.Fprintf(c, "GET /items/%d HTTP/1.1\r\nHost: a\r\n\r\n", rand.Uint32())
			err = errors.Join(err, readAnswer(answers, http.StatusOK))
		}
		if err != nil {
			return parts, err
		}
	}
	return parts, nil
}

// sendNote posts what looks like a request, in a piece of its own.
func sendNote(c net.Conn, answers *bufio.Reader) error {
	const note = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
	_, err := fmt.Fprintf(c, "POST /notes HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(note))
	if err = errors.Join(err, readAnswer(answers, http.StatusContinue)); err != nil {
		return err
	}
	_, err = io.WriteString(c, note)
	return errors.Join(err, readAnswer(answers, http.StatusOK))
}

func readAnswer(answers *bufio.Reader, want int) error {
	answer, err := http.ReadResponse(answers, nil)
	if err != nil {
		return err
	}
	if answer.StatusCode != want {
		return fmt.Errorf("answer %s, want %d", answer.Status, want)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// sum adds up the agent's metrics of a name that have certain labels.
func (w watcher) sum(t *testing.T, name string, labels ...string) (sum float64) {
	t.Helper()
lines:
	for _, line := range w.metrics(t) {
		if !strings.HasPrefix(line, name) {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(line, l) {
				continue lines
			}
		}
		n, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}
