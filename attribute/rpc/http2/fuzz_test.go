// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"testing"
	"unsafe"

	xhttp2 "golang.org/x/net/http2"
)

// FuzzConn feeds calls that the fuzzer makes up: each has two bytes that say its
// direction, how much was captured, what was lost, and its length.
func FuzzConn(f *testing.F) {
	o, client, server := opened()
	for i := range uint32(20) {
		client.get(1+2*i, "/path")
		b := client.take()
		f.Add(uint8(i), append([]byte{byte(i), byte(len(b))}, b...))
	}
	server.framer.WriteSettings()
	f.Add(uint8(0), append([]byte{0, 60}, append([]byte(preface), server.take()...)...))
	if len(o.events) > 0 {
		f.Fatal(o.events)
	}
	f.Fuzz(func(t *testing.T, how uint8, script []byte) {
		c := New(how&1 != 0)
		if how&2 != 0 {
			c = NewUpgraded()
		}
		open := map[uint32]bool{}
		emit := func(e Event) {
			switch {
			case e.Kind == Request && (e.Stream%2 == 0 || open[e.Stream]):
				t.Errorf("stream %d is opened again", e.Stream)
			case e.Kind == Request:
				open[e.Stream] = true
			case e.Kind == Response && !open[e.Stream] && (how&2 == 0 || e.Stream != 1):
				t.Errorf("stream %d is answered, but was not opened", e.Stream)
			}
		}
		if how&4 != 0 {
			c.Feed(Read, []byte(preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"), 33, emit)
		}
		for len(script) >= 2 {
			what, n := script[0], min(int(script[1]), len(script)-2)
			data := script[2 : 2+n]
			script = script[2+n:]
			dir, total := Direction(what&1), int64(n)
			if what&0x60 == 0x60 {
				total += int64(what >> 1)
			}
			if what&0x9e == 0x9e {
				c.Lost(dir, emit)
			}
			c.Feed(dir, data, total, emit)
		}
		if n := c.Bytes(); n > MaxBytes {
			t.Errorf("holds %d bytes", n)
		}
	})
}

// FuzzHPACK reads blocks into one table.
func FuzzHPACK(f *testing.F) {
	f.Add(newPeer().encode(":method", "GET", ":path", "/a", "x", "y"), true)
	f.Fuzz(func(t *testing.T, blocks []byte, complete bool) {
		var table table
		table.reset()
		for len(blocks) > 0 {
			n := min(1+int(blocks[0]), len(blocks))
			var list fields
			list.read(&table, blocks[1:n], complete)
			blocks = blocks[n:]
		}
		if table.size > max(table.limit, 0) || table.bytes() > 2*maxTableSize {
			t.Errorf("size %d of %d, %d bytes", table.size, table.limit, table.bytes())
		}
	})
}

// BenchmarkRequests decodes what a server of net/http read and wrote for 2,000
// requests, per request.
func BenchmarkRequests(b *testing.B) {
	for _, bench := range []struct {
		name string
		same bool
	}{{"paths known to the table", true}, {"new paths", false}} {
		b.Run(bench.name, func(b *testing.B) {
			calls := requests(bench.same)
			b.ReportAllocs()
			var c *Conn
			for i := range b.N {
				if i%len(calls) == 0 {
					c = New(false)
					_, client, _ := opened()
					client.WriteString(preface)
					client.framer.WriteSettings()
					start := client.take()
					c.Feed(Read, start, int64(len(start)), func(Event) {})
				}
				for dir, data := range calls[i%len(calls)] {
					c.Feed(Direction(dir), data, int64(len(data)), func(Event) {})
				}
			}
			b.ReportMetric(float64(c.Bytes()+int(unsafe.Sizeof(*c))), "B/conn")
		})
	}
}

// requests are the reads and writes of 2,000 requests: a head, and an answer of
// a head and a body.
func requests(same bool) (calls [][2][]byte) {
	_, client, server := opened()
	server.framer.WriteSettings()
	for i := range uint32(2000) {
		path := "/acme.shop.v1.Shop/GetItem"
		if !same {
			path += string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
		}
		client.get(1+2*i, path)
		server.framer.WriteRawFrame(xhttp2.FrameHeaders, flagEndHeaders, 1+2*i, server.encode(":status", "200", "content-type", "application/grpc"))
		server.framer.WriteData(1+2*i, true, []byte("body"))
		calls = append(calls, [2][]byte{client.take(), server.take()})
	}
	return calls
}
