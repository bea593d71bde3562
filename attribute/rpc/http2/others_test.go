// SPDX-License-Identifier: Apache-2.0

package http2

//lint:file-ignore SA1019 nothing else serves the upgrade from HTTP/1.1

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"

	"github.com/fleetprof/fleetprof/internal/programtest"
)

// node's client and server are nghttp2, another encoder than Go's.
func TestNode(t *testing.T) {
	node := programtest.Need(t, "node")
	l, _ := serve(t, 1<<20)
	if out, err := exec.Command(node, "testdata/client.js", "http://"+l.Addr().String(), "1000").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	check(t, "client of node", l.conns[0].stop(t), 1000)

	cmd := exec.Command(node, "testdata/server.js")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	check(t, "server of node", recordClient(t, "127.0.0.1:"+strings.TrimSpace(port), 1000), 1000)
}

// check demands a whole decoding, and right ones from anywhere.
func check(t *testing.T, name string, rec *recording, requests int) {
	t.Helper()
	if len(rec.requests) != requests {
		t.Fatalf("%s: %d requests, want %d", name, len(rec.requests), requests)
	}
	checkWhole(t, name, rec)
	random := rand.New(rand.NewPCG(8, 8))
	var total score
	for range 50 {
		total.add(rec.replay(distortion{capture: 4096, from: 1 + random.IntN(len(rec.calls)/2)}, random))
	}
	t.Logf("%s, joined: %+v", name, total)
	if total.wrong+total.other+total.badStatus > 0 || total.right < total.requests/4 {
		t.Errorf("%s, joined: %+v", name, total)
	}
}

// curl begins with HTTP/1.1 and upgrades.
func TestUpgraded(t *testing.T) {
	curl := programtest.Need(t, "curl")
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{Listener: inner, most: 1 << 20}
	server := &http.Server{Handler: h2c.NewHandler(&handler{}, &xhttp2.Server{})}
	go server.Serve(l)
	defer server.Close()
	base := "http://" + l.Addr().String()
	if out, err := exec.Command(curl, "-sS", "--http2", base+"/first", base+"/second?q=1", base+"/third").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r := l.conns[0]
	r.mu.Lock()
	defer r.mu.Unlock()
	c, got := NewUpgraded(), ""
	upgraded := [2]bool{}
	for _, call := range r.calls {
		data := call.data
		if !upgraded[call.dir] {
			_, rest, found := bytes.Cut(data, []byte("\r\n\r\n"))
			if !found {
				t.Fatalf("no end of a head in %q", data)
			}
			data, upgraded[call.dir] = rest, true
		}
		c.Feed(call.dir, data, int64(len(data)), func(e Event) { got += fmt.Sprintln(e.Kind, e.Dir, e.Stream, e.Path, e.Status) })
	}
	for _, want := range []string{"2 1 1  200", "3 1 1  ", "1 0 3 /second ", "2 1 3  200", "1 0 5 /third ", "2 1 5  200"} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no event %q in\n%s", want, got)
		}
	}
}
