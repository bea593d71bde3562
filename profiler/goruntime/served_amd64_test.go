// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
)

// stopped is what a program says about itself where it stops.
type stopped struct {
	TID               int
	Goroutine, Parent uint64
	At, Method, Path  string
}

// running is a program under test.
type running struct {
	*memory
	in     io.Writer
	out    *bufio.Scanner
	pid    int
	plain  string // URLs
	secure string
}

func start(t *testing.T, path string, wrapper ...string) *running {
	t.Helper()
	f := objfiletest.Open(t, path)
	l, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Refused) != 0 {
		t.Fatalf("refused: %v", l.Refused)
	}
	args := append(wrapper, path)
	cmd := exec.Command(args[0], args[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	s := bufio.NewScanner(out)
	r := &running{in: in, out: s, pid: cmd.Process.Pid}
	watchdog := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	t.Cleanup(func() { watchdog.Stop() })
	r.memory = openMemory(t, r.pid, l, f)
	return r
}

func (r *running) urls() {
	r.out.Scan()
	r.plain = r.out.Text()
	r.out.Scan()
	r.secure = r.out.Text()
}

// next waits until the program stops somewhere.
func (r *running) next(t *testing.T) (s stopped) {
	t.Helper()
	if !r.out.Scan() {
		t.Fatal("the program has ended")
	}
	if err := json.Unmarshal(r.out.Bytes(), &s); err != nil {
		t.Fatalf("%s: %v", r.out.Text(), err)
	}
	return s
}

func (r *running) release(command string) { fmt.Fprintln(r.in, command) }

// look reads the thread that has stopped. Where the scheduler has taken the thread
// from the goroutine for a while, as it does after 10 ms, nothing can be seen, and it
// is looked at again.
func (r *running) look(t *testing.T, s stopped) request {
	t.Helper()
	for range 400 {
		time.Sleep(5 * time.Millisecond) // into the system call
		thread, sp := registers(t, s.TID)
		if got := r.thread(t, thread, sp); !got.runtime {
			return got
		}
	}
	t.Fatalf("at %s %s: the goroutine is never on its thread", s.At, s.Path)
	return request{}
}

// checkWho compares who executes.
func (r *running) checkWho(t *testing.T, got request, s stopped) {
	t.Helper()
	if got.goroutine != s.Goroutine {
		t.Errorf("at %s: goroutine %d, want %d", s.At, got.goroutine, s.Goroutine)
	}
	if s.Parent != 0 && r.GParentGoid != Absent && got.parent != s.Parent {
		t.Errorf("at %s: parent %d, want %d", s.At, got.parent, s.Parent)
	}
}

func client(http2 bool) *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: http2,
	}}
}

// get requests a URL beside the test, and says when it has the response.
func get(c *http.Client, method, target string) (done <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		req, err := http.NewRequest(method, target, nil)
		if err != nil {
			return
		}
		if res, err := c.Do(req); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}()
	return ended
}

func TestServed(t *testing.T) {
	newest := late()[len(late())-1]
	cgo := func(more ...string) program {
		return program{toolchain: newest, env: []string{"CGO_ENABLED=1"}, flags: more}
	}
	pure := func(toolchain string, more ...string) program {
		return program{toolchain: toolchain, env: []string{"CGO_ENABLED=0"}, flags: more}
	}
	cases := map[string]program{
		"pie":        pure(newest, "-buildmode=pie"),
		"pie-strip":  pure(newest, "-buildmode=pie", "-ldflags=-s -w"),
		"cgo":        cgo(),
		"cgo-strip":  cgo("-ldflags=-s -w", "-trimpath"), // which compiles the standard library again
		"cgo-pie":    cgo("-buildmode=pie", "-ldflags=-linkmode=external -s -w"),
		"cgo-static": cgo("-ldflags=-linkmode=external -extldflags=-static"),
	}
	for _, v := range late() {
		cases[v], cases[v+"-strip"] = pure(v), pure(v, "-ldflags=-s -w")
	}
	for name, p := range cases {
		t.Run(name, func(t *testing.T) {
			needToolchain(t, p.toolchain)
			p.source = "server"
			r := start(t, p.build(t))
			r.urls()
			minor, _ := strconv.Atoi(minorOf(p.toolchain))
			testHandlers(t, r, minor)
			testBetween(t, r)
			testStale(t, r)
		})
	}
}

// testHandlers looks into handlers, and into a goroutine that a handler started.
func testHandlers(t *testing.T, r *running, minor int) {
	for _, c := range []struct {
		kind   Kind
		base   string
		client *http.Client
	}{
		{HTTP1, r.plain, client(false)},
		{HTTP1, r.secure, client(false)},
		{HTTP2, r.secure, client(true)},
	} {
		for _, how := range []string{"block", "burn", "clock", "alloc"} {
			done := get(c.client, "PUT", c.base+"/shop/of%20"+how+"/"+how+"?secret=1")
			s := r.next(t)
			seen := 0
			const looks = 10
			for range looks {
				got := r.look(t, s)
				r.checkWho(t, got, s)
				want := request{goroutine: got.goroutine, parent: got.parent, kind: c.kind, method: s.Method, path: s.Path}
				if minor >= 23 {
					want.pattern = "/shop/"
				}
				if got == want {
					seen++
				} else if got.kind != 0 {
					t.Errorf("%v, %s: got %+v, want %+v", c.kind, how, got, want)
				}
			}
			// Where the thread is on another stack, that of a signal handler or of
			// the scheduler, nothing is known.
			if seen < looks && how == "block" || seen < looks/2 && how != "alloc" || seen == 0 {
				t.Errorf("%v, %s: seen %d times of %d", c.kind, how, seen, looks)
			}
			r.release("")
			<-done
		}
		done := get(c.client, "GET", c.base+"/shop/child")
		s := r.next(t)
		got := r.look(t, s)
		r.checkWho(t, got, s)
		if got.kind != 0 {
			t.Errorf("%v: a child serves %+v", c.kind, got)
		}
		r.release("")
		<-done
	}
}

// testBetween looks at goroutines of connections that are not in a handler.
func testBetween(t *testing.T, r *running) {
	c := client(false)
	done := get(c, "GET", r.plain+"/shop/states")
	for i, at := range []string{"idle", "active", "idle"} {
		s := r.next(t)
		if s.At != at {
			t.Fatalf("stopped at %s, want %s", s.At, at)
		}
		got := r.look(t, s)
		r.checkWho(t, got, s)
		if got.kind != 0 {
			t.Errorf("at %s: serves %+v", at, got)
		}
		if i == 2 {
			r.release("run")
			break
		}
		if at == "idle" {
			<-done // so that the connection is used again
			done = get(c, "GET", r.plain+"/shop/states")
		}
		r.release("")
	}
}

// testStale leaves requests of connections that ended in memory, where goroutines of
// new connections will be.
func testStale(t *testing.T, r *running) {
	for i := range 20 {
		u, err := url.Parse(r.plain)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		how := []string{"panic", "block"}[i%2]
		fmt.Fprintf(conn, "POST /shop/%d/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", i, how)
		if how == "block" {
			s := r.next(t)
			got := r.look(t, s)
			if got.path != s.Path || got.method != "POST" || !strings.Contains(s.Path, strconv.Itoa(i)) {
				t.Errorf("got %+v, want %+v", got, s)
			}
			r.release("")
		}
		io.Copy(io.Discard, conn)
		conn.Close()
	}
}
