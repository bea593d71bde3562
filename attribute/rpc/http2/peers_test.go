// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// handler is what servers of the tests do; it remembers the paths it was called
// with.
type handler struct {
	mu   sync.Mutex
	seen []string
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.seen = append(h.seen, r.URL.Path)
	h.mu.Unlock()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	if strings.HasPrefix(r.URL.Path, "/acme.Shop/") {
		w.Header().Set("Trailer", "Grpc-Status")
		w.Header().Set("Content-Type", "application/grpc")
		fmt.Fprint(w, "message")
		w.Header().Set("Grpc-Status", fmt.Sprint(len(r.URL.Path)%7))
		return
	}
	if strings.HasSuffix(r.URL.Path, "7") {
		w.WriteHeader(http.StatusTeapot)
	}
	io.WriteString(w, strings.Repeat("x", len(r.URL.Path)*700))
}

// load sends requests of many kinds, some at the same time.
func load(t *testing.T, client *http.Client, base string, requests int) {
	t.Helper()
	// The first request is alone, so that the client has the one connection.
	send(t, client, base, 0)
	var wait sync.WaitGroup
	next := make(chan int)
	for range 8 {
		wait.Go(func() {
			for i := range next {
				send(t, client, base, i)
			}
		})
	}
	for i := 1; i < requests; i++ {
		next <- i
	}
	close(next)
	wait.Wait()
}

func send(t *testing.T, client *http.Client, base string, i int) {
	random := rand.New(rand.NewPCG(uint64(i), 5))
	method, path, body := "GET", fmt.Sprintf("/items/%d?secret=%d", random.IntN(40), i), ""
	switch random.IntN(6) {
	case 0:
		method, path = "POST", fmt.Sprintf("/acme.Shop/Get%d", random.IntN(5))
		body = strings.Repeat("b", random.IntN(20))
	case 1:
		method, path, body = "PUT", fmt.Sprintf("/upload/%d", i), strings.Repeat("u", random.IntN(100_000))
	}
	r, err := http.NewRequest(method, base+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	if method == "POST" {
		r.Header.Set("Content-Type", "application/grpc")
	}
	if random.IntN(3) == 0 {
		r.Header.Set("Traceparent", fmt.Sprintf("00-%032x-%016x-01", random.Uint64(), random.Uint64()))
	}
	if random.IntN(50) == 0 {
		r.Header.Set("X-Long", strings.Repeat("l", 20_000)) // needs CONTINUATION
	}
	answer, err := client.Do(r)
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Error(err)
	}
	answer.Body.Close()
}

// listener hands out recorders.
type listener struct {
	net.Listener
	most  int
	mu    sync.Mutex
	conns []*recorder
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	r := &recorder{Conn: c, most: l.most}
	l.mu.Lock()
	l.conns = append(l.conns, r)
	l.mu.Unlock()
	return r, nil
}

func unencrypted() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// serve starts a server of net/http.
func serve(t *testing.T, most int) (*listener, *handler) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, h := &listener{Listener: inner, most: most}, &handler{}
	server := &http.Server{Handler: h, Protocols: unencrypted(), MaxHeaderBytes: 1 << 20}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l, h
}

// recordServer records the server's side of one connection from net/http.
func recordServer(t *testing.T, most, requests int) *recording {
	t.Helper()
	l, h := serve(t, most)
	transport := &http.Transport{Protocols: unencrypted()}
	load(t, &http.Client{Transport: transport}, "http://"+l.Addr().String(), requests)
	transport.CloseIdleConnections()
	if len(l.conns) != 1 {
		t.Fatalf("%d connections, want 1", len(l.conns))
	}
	rec := l.conns[0].stop(t)
	var paths []string
	for _, r := range rec.requests {
		paths = append(paths, r[":path"])
	}
	slices.Sort(paths)
	slices.Sort(h.seen)
	if !slices.Equal(paths, h.seen) {
		t.Fatalf("the frames have %d requests, the handler saw %d others", len(paths), len(h.seen))
	}
	return rec
}

// recordClient records the client's side of one connection of net/http.
func recordClient(t *testing.T, address string, requests int) *recording {
	t.Helper()
	var r *recorder
	transport := &http.Transport{
		Protocols: unencrypted(),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			r = &recorder{Conn: c, most: 1 << 20}
			return r, err
		},
	}
	load(t, &http.Client{Transport: transport}, "http://"+address, requests)
	transport.CloseIdleConnections()
	return r.stop(t)
}

// A connection seen whole is decoded whole, however its calls are cut.
func TestWhole(t *testing.T) {
	for name, rec := range map[string]*recording{
		"server":                 recordServer(t, 1<<20, 2000),
		"server of short reads":  recordServer(t, 50, 500),
		"server of single bytes": recordServer(t, 1, 50),
	} {
		checkWhole(t, name, rec)
	}
	l, _ := serve(t, 1<<20)
	checkWhole(t, "client", recordClient(t, l.Addr().String(), 2000))
}

// checkWhole demands that nothing is unknown.
func checkWhole(t *testing.T, name string, rec *recording) {
	t.Helper()
	random := rand.New(rand.NewPCG(6, 6))
	for _, split := range []bool{false, true} {
		s := rec.replay(distortion{capture: 1 << 30, split: split}, random)
		if s.right != len(rec.requests) || s.statuses != len(rec.answers) || s.ends != 2*s.right ||
			s.star+s.wrong+s.other+s.badStatus+s.gaps > 0 {
			t.Errorf("%s, split %v: %+v", name, split, s)
		}
		t.Logf("%s, split %v: %d calls, %+v", name, split, len(rec.calls), s)
	}
}

// What is missed costs values, and does not make them wrong as long as the
// decoder is told. Where it is not told, one thing cannot be seen: that the
// payload of one header block and the header of the next were missed together,
// with payloads of the same length.
func TestDistorted(t *testing.T) {
	server := recordServer(t, 1<<20, 1000)
	l, _ := serve(t, 1<<20)
	client := recordClient(t, l.Addr().String(), 1000)
	for _, tt := range []struct {
		name string
		distortion
		joined bool
		// least is the share of paths that must be right, most that may be wrong.
		least, most float64
	}{
		{"captures of 4096", distortion{capture: 4096}, false, 0.9, 0},
		{"captures of 256", distortion{capture: 256}, false, 0.8, 0},
		{"captures of random length", distortion{capture: -4096, split: true}, false, 0.7, 0},
		{"one in 100 calls lost, told", distortion{capture: 4096, lose: 0.01, tell: true}, false, 0.7, 0},
		{"one in 100 calls lost, not told", distortion{capture: 4096, lose: 0.01}, false, 0.5, 0.0005},
		{"one in 10 calls lost, not told", distortion{capture: 4096, lose: 0.1}, false, 0.1, 0.005},
		{"joined", distortion{capture: 4096}, true, 0.5, 0},
		{"joined, split", distortion{capture: 4096, split: true}, true, 0.5, 0},
		{"joined, one in 100 calls lost, told", distortion{capture: 4096, lose: 0.01, tell: true}, true, 0.4, 0},
	} {
		for side, rec := range map[string]*recording{"server": server, "client": client} {
			var total score
			random := rand.New(rand.NewPCG(7, 7))
			for range 20 {
				d := tt.distortion
				if tt.joined {
					d.from = 1 + random.IntN(len(rec.calls)/2)
				}
				total.add(rec.replay(d, random))
			}
			t.Logf("%s, %s: %+v", side, tt.name, total)
			all := float64(total.requests)
			if float64(total.wrong+total.other) > tt.most*all || tt.tell && total.badStatus > 0 || float64(total.right) < tt.least*all {
				t.Errorf("%s, %s: %d wrong, %d right of %v", side, tt.name, total.wrong+total.other, total.right, all)
			}
			if total.most > MaxBytes {
				t.Errorf("%s, %s: holds %d bytes", side, tt.name, total.most)
			}
		}
	}
}
