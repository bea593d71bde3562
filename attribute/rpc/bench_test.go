// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/prometheus/client_golang/prometheus"
)

// exchanges are the reads and writes of a server with 1,000 connections and as
// many threads.
func exchanges(path func(i int) string) (all []sample.Activity) {
	for i := range 1000 {
		a := sample.Activity{
			PID: 1, TID: uint32(i), Executor: sample.Executor{Kind: sample.Thread}, Socket: uint64(i), Kind: sample.Read,
			Data: []byte("GET " + path(i) + " HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n" +
				"Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nCookie: a=b; c=d\r\n\r\n"),
		}
		a.Bytes = int64(len(a.Data))
		b := a
		b.Kind, b.Data = sample.Write, []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")
		b.Bytes = int64(len(b.Data))
		all = append(all, a, b)
	}
	return all
}

func benchEngine(tb testing.TB) *Engine {
	e, err := New(Options{
		Identify: known("s"), Watch: func(uint64, bool) {}, Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func BenchmarkActivity(b *testing.B) {
	for name, path := range map[string]func(i int) string{
		"known paths": func(i int) string { return fmt.Sprintf("/api/route%d", i%4) },
		"ids":         func(i int) string { return fmt.Sprintf("/api/items/%d?token=x", i) },
		"scan":        func(i int) string { return fmt.Sprintf("/%c%c%c/x", 'a'+i%26, 'a'+i/26%26, 'a'+i/676) },
	} {
		b.Run(name, func(b *testing.B) {
			e, all, now := benchEngine(b), exchanges(path), uint64(1)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				a := &all[i%len(all)]
				now += 1000
				a.Time = now
				e.Activity(a)
				i++
			}
		})
	}
}

// An event loop answers a request while many others wait: long polls, or a client that
// wants it to cost much.
func BenchmarkManyOpen(b *testing.B) {
	for _, open := range []int{1, 10000} {
		b.Run(fmt.Sprint(open), func(b *testing.B) {
			e, now := benchEngine(b), uint64(1)
			do := func(kind sample.ActivityKind, socket int, text string) {
				now += 1000
				e.Activity(&sample.Activity{
					Time: now, PID: 1, TID: 1, Executor: sample.Executor{Kind: sample.Thread}, Nonblocking: true,
					Kind: kind, Socket: uint64(socket), Data: []byte(text), Bytes: int64(len(text)),
				})
			}
			for i := range open {
				do(sample.Read, i+1, fmt.Sprintf("GET /poll/%d HTTP/1.1\r\n\r\n", i))
			}
			for b.Loop() {
				do(sample.Read, open+1, "GET /a HTTP/1.1\r\n\r\n")
				do(sample.Wait, 0, "")
				do(sample.Write, open+2, "GET /b HTTP/1.1\r\n\r\n") // upstream
				do(sample.Read, open+2, "HTTP/1.1 200 OK\r\n\r\n")
				do(sample.Write, open+1, "HTTP/1.1 200 OK\r\n\r\n")
			}
		})
	}
}

func BenchmarkSample(b *testing.B) {
	e, all := benchEngine(b), exchanges(func(int) string { return "/a" })
	for i := range all[:3] {
		e.Activity(&all[i])
	}
	s := &sample.Sample{Process: sample.Process{PID: 1}, TID: all[2].TID, Executor: all[2].Executor}
	exact := 0
	decided := func(h sample.Handler) {
		if h.Attribution == sample.Exact {
			exact++
		}
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		e.Sample(s, decided)
		n++
	}
	if exact != n {
		b.Errorf("%d of %d are exact", exact, n)
	}
}

// A known path costs no memory.
func TestActivityDoesNotAllocate(t *testing.T) {
	e, all, i := benchEngine(t), exchanges(func(i int) string { return fmt.Sprint("/items/", i%7) }), 0
	for i := range all {
		e.Activity(&all[i])
	}
	if n := testing.AllocsPerRun(5000, func() {
		e.Activity(&all[i%len(all)])
		i++
	}); n != 0 {
		t.Errorf("an activity allocates %v times", n)
	}
}

// A thread reads while others, which are known by many sockets, make every other activity
// be lost.
func BenchmarkLosses(b *testing.B) {
	e, now := benchEngine(b), uint64(1)
	read := func(id int) {
		now += 1000
		const text = "GET /a HTTP/1.1\r\n\r\n"
		e.Activity(&sample.Activity{
			Time: now, PID: 1, TID: uint32(id), Executor: sample.Executor{Kind: sample.Thread},
			Kind: sample.Read, Socket: uint64(id), Data: []byte(text), Bytes: int64(len(text)),
		})
	}
	for id := range maxSockets {
		read(id)
	}
	for b.Loop() {
		read(1)
		e.LostActivities(1)
	}
}

// A client opens streams and resets them, 4 KiB at a time, beside as many as are followed.
func BenchmarkOpenAndReset(b *testing.B) {
	e, now, id := benchEngine(b), uint64(1), uint32(1)
	feed := func(data []byte) {
		now += 1000
		e.Activity(&sample.Activity{
			Time: now, PID: 1, TID: 1, Executor: sample.Executor{Kind: sample.Thread}, Nonblocking: true,
			Kind: sample.Read, Socket: 1, Data: data, Bytes: int64(len(data)),
		})
	}
	feed([]byte(preface + settings))
	open := func(data []byte) []byte {
		data = binary.BigEndian.AppendUint32(append(data, 0, 0, 3, 1, 5), id)
		return append(data, 0x82, 0x84, 0x87) // GET / of https
	}
	for ; id < 2*(maxStreams-10); id += 2 {
		feed(open(nil))
	}
	for b.Loop() {
		var data []byte
		for ; len(data) < 4<<10; id += 2 {
			data = binary.BigEndian.AppendUint32(append(open(data), 0, 0, 4, 3, 0), id)
			data = append(data, 0, 0, 0, 8) // CANCEL
		}
		feed(data)
	}
}
