// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/prometheus/client_golang/prometheus"
)

// pieces are what sockets carry in FuzzEngine and TestConservation.
var pieces = []string{
	"GET /a HTTP/1.1\r\n\r\n", "GET /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n", "G", "ET /a HTTP/1.1\r\n\r\n", "GE", "POS",
	"T /d HTTP/1.1\r\nContent-Length: 20\r\n\r\n", "HEAD / HTTP/1.0\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\n\r\n",
	"POST /e HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", "GET /long/unfini",
	"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 500 No\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n",
	"HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 404 No\r\n\r\n",
	"GET /u HTTP/1.1\r\nUpgrade: h2c\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HT", "body", "",
	"\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x04\x01\x05\x00\x00\x00\x01\x82\x84\x86\x41", "\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88",
	"GET /t HTTP/1.1\r\ntraceparent: 00-" + aTrace + "-" + aSpan + "-01\r\n\r\n", "GET /t HTTP/1.1\r\nTraceparent: 00-0\r\n\r\n",
}

// play feeds an engine with what bytes say, four for each step, and checks that
// every sample is decided once.
func play(t testing.TB, script []byte) {
	now := uint64(time.Hour)
	e, err := New(Options{
		Identify: known("s"), Watch: func(uint64, bool) {},
		Registerer: prometheus.NewRegistry(), RoutesPerService: 5, Exemplars: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	var calls []int
	for ; len(script) >= 4; script = script[4:] {
		what, whom, where, with := script[0], script[1], script[2], script[3]
		now += uint64(with) << (what >> 3) // up to 9 minutes
		pid, tid := uint32(whom>>6), uint32(whom&7)
		x := sample.Executor{Kind: sample.ExecutorKind(whom >> 3 & 3)}
		if x.Kind == sample.Goroutine {
			x.Goroutine, x.Parent = uint64(whom&7), uint64(where&7)
		}
		a := &sample.Activity{Time: now, PID: pid, TID: tid, Executor: x, Socket: uint64(where & 7), Nonblocking: where&8 != 0}
		a.Data = []byte(pieces[int(with)%len(pieces)])
		a.Bytes = int64(len(a.Data))
		if where&16 != 0 {
			a.Bytes += int64(where)
		}
		switch what & 7 {
		case 0, 1:
			a.Kind = sample.Read
		case 2:
			a.Kind = sample.Write
		case 3:
			a.Kind = []sample.ActivityKind{sample.Close, sample.Wait, sample.Wait, 99}[with&3]
			a.Passed = int(with >> 4)
		case 4:
			switch with & 63 {
			case 0:
				e.LostActivities(1)
			case 1:
				e.Exited(pid)
			case 2:
				e.Flush()
			}
			continue
		default:
			i := len(calls)
			calls = append(calls, 0)
			s := &sample.Sample{Time: now, Process: sample.Process{PID: pid}, TID: tid, Executor: x}
			if with&31 == 0 {
				s.Request = sample.Request{Source: sample.SourceGoroutine, Goroutine: uint64(where & 7), Method: "GET", Path: "/m"}
			}
			e.Sample(s, func(h sample.Handler) {
				calls[i]++
				claimed := h.Attribution == sample.Exact || h.Attribution == sample.Inferred
				if claimed != (h.Source != "") || claimed != (h.HTTPMethod != "" || h.RPCMethod != "") {
					t.Errorf("decided %+v", h)
				}
			})
			continue
		}
		e.Activity(a)
	}
	e.Flush()
	kept := make(map[string]bool)
	for _, x := range e.Exemplars(time.Time{}) {
		handler := fmt.Sprint(x.Labels)
		if kept[handler] || x.TraceID.String() != aTrace || x.Duration < 0 {
			t.Errorf("exemplar %+v, or two of its handler", x)
		}
		kept[handler] = true
	}
	for i, n := range calls {
		if n != 1 {
			t.Errorf("sample %d of %d was decided %d times", i, len(calls), n)
		}
	}
	checkTables(t, e)
}

func FuzzEngine(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		f.Add(randomBytes(random, 400))
	}
	f.Fuzz(func(t *testing.T, script []byte) { play(t, script) })
}

func randomBytes(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func TestConservation(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		play(t, randomBytes(random, 4000))
	}
}

func FuzzHead(f *testing.F) {
	for _, p := range pieces {
		f.Add([]byte(p), false)
		f.Add([]byte(p), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, more bool) {
		before := bytes.Clone(data)
		h, v := parseRequest(data, more)
		if v == valid {
			if len(h.method) == 0 || len(h.target) == 0 || h.end > len(data) || h.length < unknownLength {
				t.Errorf("%q gives %+v", data, h)
			}
			if bytes.ContainsAny(h.target, "?# \r\n") {
				t.Errorf("%q has target %q", data, h.target)
			}
			if h.end >= 0 {
				// Whatever follows a head does not change it.
				again, _ := parseRequest(append(bytes.Clone(data[:h.end]), "GET"...), more)
				if string(again.target) != string(h.target) || again.end != h.end || again.length != h.length {
					t.Errorf("%q gives %+v and %+v", data, h, again)
				}
			}
		}
		if r, ok := parseResponse(data); ok && (r.status < 100 || r.end > len(data)) {
			t.Errorf("%q gives %+v", data, r)
		}
		if n, ok := skipChunks(data); ok && (n <= 0 || n > len(data)) {
			t.Errorf("%q ends at %d", data, n)
		}
		if !bytes.Equal(before, data) {
			t.Error("the bytes were changed")
		}
	})
}

func FuzzTemplate(f *testing.F) {
	for _, tt := range templates {
		f.Add([]byte(tt.path), false)
	}
	f.Fuzz(func(t *testing.T, path []byte, cut bool) {
		got := string(appendTemplate(nil, path, cut))
		if len(got) == 0 || len(got) > maxTemplate || !utf8.ValidString(got) {
			t.Errorf("%q gives %q", path, got)
		}
		if strings.Count(got, "/") > maxSegments+1 || strings.ContainsAny(got, "?#@% ") {
			t.Errorf("%q gives %q", path, got)
		}
	})
}
