// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// peer writes the frames of one direction.
type peer struct {
	bytes.Buffer
	framer *xhttp2.Framer
	block  bytes.Buffer
	hpack  *hpack.Encoder
}

func newPeer() *peer {
	p := &peer{}
	p.framer = xhttp2.NewFramer(&p.Buffer, nil)
	p.framer.AllowIllegalWrites = true
	p.hpack = hpack.NewEncoder(&p.block)
	return p
}

// encode is the header block of fields, given as name and value in turn.
func (p *peer) encode(fields ...string) []byte {
	p.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(p.block.Bytes())
}

func (p *peer) get(id uint32, path string) {
	p.framer.WriteHeaders(xhttp2.HeadersFrameParam{
		StreamID: id, EndHeaders: true, EndStream: true,
		BlockFragment: p.encode(":method", "GET", ":scheme", "http", ":path", path),
	})
}

// take is what was written since the last call.
func (p *peer) take() []byte {
	b := bytes.Clone(p.Bytes())
	p.Reset()
	return b
}

// observer feeds a decoder and remembers the events in short.
type observer struct {
	*Conn
	events []string
}

func (o *observer) feed(dir Direction, data []byte, total int) {
	o.Feed(dir, data, int64(total), o.note)
}

func (o *observer) note(e Event) {
	names := [...]string{"", "request", "response", "end", "reset", "goaway", "dropped", "gap"}
	o.events = append(o.events, strings.TrimSpace(fmt.Sprintf("%s %d.%d %s %s %s %s",
		names[e.Kind], e.Dir, e.Stream, e.Method, e.Path, e.Status, e.GRPCStatus)))
}

// opened is a connection whose two sides have sent their settings.
func opened() (o *observer, client, server *peer) {
	o, client, server = &observer{Conn: New(false)}, newPeer(), newPeer()
	client.WriteString(preface)
	client.framer.WriteSettings()
	server.framer.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxFrameSize, Val: 1 << 20})
	b := client.take()
	o.feed(Read, b, len(b))
	b = server.take()
	o.feed(Write, b, len(b))
	return o, client, server
}

func TestFrames(t *testing.T) {
	get := []string{":method", "GET", ":scheme", "http", ":path", "/a?b"}
	for _, tt := range []struct {
		name  string
		write func(client, server *peer)
		want  string
	}{
		{"padded and with priority", func(c, _ *peer) {
			c.framer.WriteHeaders(xhttp2.HeadersFrameParam{
				StreamID: 1, EndHeaders: true, PadLength: 7, BlockFragment: c.encode(get...),
				Priority: xhttp2.PriorityParam{StreamDep: 3, Weight: 9},
			})
			c.framer.WriteDataPadded(1, true, []byte("body"), make([]byte, 5))
		}, "request 0.1 GET /a; end 0.1"},
		{"continued", func(c, _ *peer) {
			b := c.encode(append(get, "content-type", "text/plain")...)
			c.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:2], PadLength: 1, EndStream: true})
			c.framer.WriteContinuation(1, false, b[2:5])
			c.framer.WriteContinuation(1, true, b[5:])
		}, "request 0.1 GET /a; end 0.1"},
		{"continued on another stream", func(c, _ *peer) {
			b := c.encode(get...)
			c.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:2]})
			c.framer.WriteContinuation(3, true, b[2:])
		}, "gap 0.0"},
		{"trailers are no request", func(c, s *peer) {
			c.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: c.encode(get...)})
			c.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: c.encode("a", "b")})
			s.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: s.encode(":status", "103")})
			s.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: s.encode(":status", "201")})
			s.framer.WriteData(1, false, []byte("x"))
			s.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: s.encode("grpc-status", "5")})
		}, "request 0.1 GET /a; end 0.1; response 1.1   201; end 1.1    5"},
		{"a push goes through the table", func(c, s *peer) {
			c.get(1, "/a")
			s.framer.WritePushPromise(xhttp2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true, BlockFragment: s.encode(":method", "GET", ":path", "/pushed", "x", "y")})
			s.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: s.encode(":status", "418", "x", "y")})
		}, "request 0.1 GET /a; end 0.1; response 1.1   418; end 1.1   418"},
		{"reset and gone", func(c, s *peer) {
			c.get(1, "/a")
			s.framer.WriteRSTStream(1, xhttp2.ErrCodeCancel)
			s.framer.WriteGoAway(1, xhttp2.ErrCodeNo, []byte("debug"))
			s.framer.WritePing(false, [8]byte{})
			s.framer.WriteRawFrame(0x2a, 0xff, 0, []byte("ignored"))
		}, "request 0.1 GET /a; end 0.1; reset 1.1; goaway 1.1"},
		{"large frames after settings", func(c, s *peer) {
			c.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: c.encode(get...)})
			c.framer.WriteData(1, true, make([]byte, 100_000))
		}, "request 0.1 GET /a; end 0.1"},
		{"a number left out", func(c, s *peer) { c.get(5, "/a") }, "gap 0.0; gap 1.0; request 0.5 GET /a; end 0.5"},
		{"a stream opened twice", func(c, s *peer) { c.get(1, "/a"); c.get(1, "/b") }, "request 0.1 GET /a; end 0.1; gap 0.0"},
		{"a body without a head", func(c, s *peer) {
			c.get(1, "/a")
			s.framer.WriteData(1, true, []byte("x"))
		}, "request 0.1 GET /a; end 0.1; gap 0.0; gap 1.0; response 1.1   * *; end 1.1"},
		{"from the wrong side", func(c, s *peer) {
			s.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: s.encode(get...)})
		}, "gap 1.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, client, server := opened()
			tt.write(client, server)
			for dir, p := range []*peer{client, server} {
				b := p.take()
				o.feed(Direction(dir), b, len(b))
			}
			if got := strings.Join(o.events, "; "); got != tt.want {
				t.Errorf("events %q, want %q", got, tt.want)
			}
		})
	}
}

// What was captured of a block that is cut counts; what it hides is unknown, and
// known again once it is inserted anew.
func TestCutBlock(t *testing.T) {
	o, client, _ := opened()
	client.get(1, "/known")
	b := client.take()
	o.feed(Read, b, len(b))
	client.framer.WriteHeaders(xhttp2.HeadersFrameParam{
		StreamID: 3, EndHeaders: true, EndStream: true,
		BlockFragment: client.encode(":method", "GET", ":path", "/cut", "x-hidden", "value"),
	})
	b = client.take()
	o.feed(Read, b[:len(b)-3], len(b))
	client.get(5, "/known")
	client.get(7, "/new")
	client.get(9, "/new")
	b = client.take()
	o.feed(Read, b, len(b))
	want := "request 0.1 GET /known; end 0.1; request 0.3 GET /cut; end 0.3; request 0.5 GET *; end 0.5; " +
		"request 0.7 GET /new; end 0.7; request 0.9 GET /new; end 0.9"
	if got := strings.Join(o.events, "; "); got != want {
		t.Errorf("events %q\nwant %q", got, want)
	}
}

// What was known before a loss that is told is unknown after it.
func TestLost(t *testing.T) {
	o, client, _ := opened()
	client.get(1, "/old")
	b := client.take()
	o.feed(Read, b, len(b))
	o.Lost(Read, o.note)
	client.get(3, "/old")
	b = client.take()
	o.feed(Read, b, len(b))
	if got := strings.Join(o.events, "; "); got != "request 0.1 GET /old; end 0.1; gap 0.0; request 0.3 GET *; end 0.3" {
		t.Errorf("events %q", got)
	}
}

func TestStreamsBounded(t *testing.T) {
	o, client, _ := opened()
	for i := range uint32(3 * MaxStreams) {
		client.get(1+2*i, "/a")
	}
	b := client.take()
	o.feed(Read, b, len(b))
	if len(o.streams) != MaxStreams || o.Dropped() != 2*MaxStreams || cap(o.streams) > 2*MaxStreams {
		t.Errorf("%d streams, %d dropped", len(o.streams), o.Dropped())
	}
}

// A block that never ends, and payloads that come byte by byte.
func TestContinuationFlood(t *testing.T) {
	o, client, _ := opened()
	client.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: client.encode(":method", "GET")})
	for range 100 {
		client.framer.WriteContinuation(1, false, bytes.Repeat([]byte{0x83}, 5000))
		for _, b := range client.take() {
			o.feed(Read, []byte{b}, 1)
		}
		if o.Bytes() > MaxBytes/2 {
			t.Fatalf("holds %d bytes", o.Bytes())
		}
	}
	client.framer.WriteContinuation(1, true, nil)
	b := client.take()
	o.feed(Read, b, len(b))
	if got := strings.Join(o.events, "; "); got != "request 0.1 * *" {
		t.Errorf("events %q", got)
	}
}

// What is not HTTP/2 is given up, at once if its beginning was seen.
func TestOther(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 9))
	for _, joined := range []bool{false, true} {
		for range 20 {
			o := &observer{Conn: New(joined)}
			text := []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			for i := range 2 * maxFailures {
				if random.IntN(2) == 0 {
					text = make([]byte, random.IntN(3000))
					for i := range text {
						text[i] = byte(random.Uint32())
					}
				}
				o.feed(Direction(i%2), text, len(text)+random.IntN(100))
				if o.Over() {
					break
				}
			}
			if !joined && !o.Over() || o.Bytes() > 1000 || len(o.events) > 0 {
				t.Fatalf("joined %v: over %v, %d bytes, events %q", joined, o.Over(), o.Bytes(), o.events)
			}
		}
	}
}

func TestPlausible(t *testing.T) {
	server, node := recordServer(t, 1<<20, 200), 0
	// The header and the payload of a frame are two reads there.
	for i, c := range server.calls[:len(server.calls)-1] {
		if c.dir != Read || len(c.data) != frameHeaderLen || parseFrame(c.data).kind != headersFrame {
			continue
		}
		for _, next := range server.calls[i+1:] {
			if next.dir == Read {
				if whole := append(bytes.Clone(c.data), next.data...); !Plausible(whole) {
					t.Fatalf("%x is a request", whole)
				}
				node++
				break
			}
		}
	}
	if node != 200 {
		t.Errorf("%d requests, want 200", node)
	}
	_, client, s := opened()
	s.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: s.encode(":status", "200")})
	client.framer.WriteData(1, true, make([]byte, 20))
	for _, no := range [][]byte{s.take(), client.take(), []byte(preface), []byte("GET / HTTP/1.1\r\n\r\n"), nil, make([]byte, 100)} {
		if Plausible(no) {
			t.Errorf("%x is taken for a request", no)
		}
	}
	random, passed := rand.New(rand.NewPCG(10, 10)), 0
	for range 1_000_000 {
		var b [16]byte
		binary.NativeEndian.PutUint64(b[:], random.Uint64())
		binary.NativeEndian.PutUint64(b[8:], random.Uint64())
		if Plausible(b[:]) {
			passed++
		}
	}
	if passed > 2 {
		t.Errorf("%d of a million random strings pass", passed)
	}
}
