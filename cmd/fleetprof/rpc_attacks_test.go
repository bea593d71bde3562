// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"
)

// attack is what a hostile client sends on a connection of its own.
type attack struct {
	name string
	// pieces are written one after the other.
	pieces func() [][]byte
}

// launch attacks a server in turns until ctx ends, on so many connections at a time, each of
// which goes through all attacks at least once.
// What the server says to it does not matter. It returns how often each attack was made.
func launch(ctx context.Context, address string, attacks []attack, atOnce int) []int {
	made := make([]int, len(attacks))
	var lock sync.Mutex
	var attackers sync.WaitGroup
	for first := range atOnce {
		attackers.Go(func() {
			for i := first; ctx.Err() == nil || i < first+len(attacks); i++ {
				which := i % len(attacks)
				if strike(address, attacks[which].pieces()) {
					lock.Lock()
					made[which]++
					lock.Unlock()
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	attackers.Wait()
	return made
}

// strike sends all pieces, or as many as the server takes, and reports whether it took
// the first.
func strike(address string, pieces [][]byte) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	for i, piece := range pieces {
		if _, err := conn.Write(piece); err != nil {
			return i > 0
		}
	}
	conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // let it be read
	io.Copy(io.Discard, conn)
	return true
}

// once is an attack in one piece.
func once(name string, text func() string) attack {
	return attack{name, func() [][]byte { return [][]byte{[]byte(text())} }}
}

func garbage(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// hidden is a request that is to be taken for a body, or the other way round.
const hidden = "GET /work/1 HTTP/1.1\r\nHost: hidden\r\n\r\n"

// http1Attacks break the rules of RFC 9112 and RFC 9110, or stretch them.
func http1Attacks() []attack {
	const post = "POST /orders/1/items HTTP/1.1\r\nHost: a\r\n"
	const chunked = post + "Transfer-Encoding: chunked\r\n\r\n"
	head := func(fields string) func() string {
		return func() string { return post + fields + "\r\n\r\n" + hidden }
	}
	return []attack{
		once("random after a method", func() string { return "GET " + string(garbage(1000)) }),
		once("random", func() string { return string(garbage(1000)) }),
		once("a binary head", func() string { return "POST /\x00\xff\x80 HTTP/1.1\r\n" + string(garbage(200)) + "\r\n\r\n" }),
		once("random paths", func() string { return fmt.Sprintf("GET /%x HTTP/1.1\r\nHost: a\r\n\r\n", garbage(8)) }),
		once("words as paths", func() string {
			return fmt.Sprintf("GET /%s HTTP/1.1\r\nHost: a\r\n\r\n", strings.Map(func(r rune) rune { return 'a' + r%26 }, string(garbage(8))))
		}),
		{"a head without end", func() [][]byte {
			return append([][]byte{[]byte("GET / HTTP/1.1\r\n")}, repeated("X-Field: value\r\n", 20000)...)
		}},
		once("a head of 64 KiB", func() string {
			return "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n"
		}),
		once("4,000 header fields", func() string {
			return "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("A: b\r\n", 4000) + "\r\n"
		}),
		once("a path of 16 KiB", func() string { return "GET /" + strings.Repeat("a/", 8<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n" }),
		once("a negative length", head("Content-Length: -1")),
		once("a length with a sign", head("Content-Length: +10")),
		once("a huge length", head("Content-Length: 9223372036854775807")),
		once("a length beyond 64 bits", head("Content-Length: 99999999999999999999999")),
		once("two lengths", head("Content-Length: 3\r\nContent-Length: 30")),
		once("length and chunks", head("Content-Length: 4\r\nTransfer-Encoding: chunked")),
		once("chunks spelled oddly", head("Transfer-Encoding: xchunked\r\nTransfer-Encoding : chunked\r\n Content-Length: 7")),
		once("a chunk without end", func() string { return chunked + "FFFFFFFFFFFFFFFF\r\n" + hidden }),
		once("a chunk of negative size", func() string { return chunked + "-5\r\n" + hidden }),
		once("chunks of one byte", func() string { return chunked + strings.Repeat("1\r\nx\r\n", 5000) + "0\r\n\r\n" + hidden }),
		once("a chunk extension of 64 KiB", func() string { return chunked + "1;" + strings.Repeat("e", 64<<10) + "\r\nx\r\n0\r\n\r\n" }),
		once("an end of chunks in a body", func() string {
			return post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden
		}),
		once("a response", func() string { return "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" + hidden }),
		once("an upgrade nobody answers", func() string {
			return "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + preface
		}),
		once("1,000 requests at once", func() string { return strings.Repeat("GET /none HTTP/1.1\r\nHost: a\r\n\r\n", 1000) }),
		{"a head byte by byte", func() [][]byte { return bytes.SplitAfter([]byte(hidden[:30]), nil) }},
	}
}

func repeated(text string, times int) (pieces [][]byte) {
	block := []byte(strings.Repeat(text, 1000))
	for range times / 1000 {
		pieces = append(pieces, block)
	}
	return pieces
}

// The connection preface of HTTP/2, RFC 9113, section 3.4.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Frames of RFC 9113, section 6.
const (
	frameData, frameHeaders, framePriority, frameReset, frameSettings           = 0x0, 0x1, 0x2, 0x3, 0x4
	framePush, framePing, frameGoAway, frameWindow, frameContinuation, frameNew = 0x5, 0x6, 0x7, 0x8, 0x9, 0xee
	endStream, endHeaders                                                       = 0x1, 0x4
)

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = binary.BigEndian.AppendUint32(append(b, flags), stream)
	return append(b, payload...)
}

// The fields of a gRPC call for HPACK (RFC 7541, section 6.2.2), none of them indexed:
// ":method: POST", ":scheme: http", ":path" and "content-type".
const call = "\x83\x86\x04\x19/fleetprof.test.Shop/None\x0f\x10\x10application/grpc\x00\x02te\x08trailers"

// setting is one of a SETTINGS frame.
func setting(id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, id), value)
}

// http2Attacks break the rules of RFC 9113 and RFC 7541, or stretch them.
func http2Attacks() []attack {
	// SETTINGS_HEADER_TABLE_SIZE, as large as it goes.
	greeting := append([]byte(preface), frame(frameSettings, 0, 0, setting(1, 1<<32-1))...)
	speak := func(name string, frames func() [][]byte) attack {
		return attack{name, func() [][]byte { return append([][]byte{greeting}, frames()...) }}
	}
	// each makes frames for the next streams, in one piece each.
	each := func(n int, of func(stream uint32) []byte) func() [][]byte {
		return func() (all [][]byte) {
			for i := range uint32(n) {
				all = append(all, of(2*i+1))
			}
			return all
		}
	}
	headers := func(block string) func() [][]byte {
		return func() [][]byte { return [][]byte{frame(frameHeaders, endStream|endHeaders, 1, []byte(block))} }
	}
	large := "\x40\x01x\x7f\x80\x1e" + strings.Repeat("v", 3967) // "x: v…", indexed: a fourth of the table and more
	return []attack{
		once("a preface and rubbish", func() string { return preface + string(garbage(4000)) }),
		once("half a preface", func() string { return preface[:20] }),
		speak("rubbish in frames", each(200, func(stream uint32) []byte {
			return frame(byte(rand.N(10)), byte(rand.Uint32()), stream, garbage(rand.N(100)))
		})),
		speak("frames of kinds unknown", each(500, func(stream uint32) []byte { return frame(frameNew, 0xff, stream, garbage(20)) })),
		speak("a frame of 16 MiB", func() [][]byte {
			return append([][]byte{frame(frameData, 0, 1, make([]byte, 1<<24-1))[:9]}, repeated("x", 1<<20)...)
		}),
		speak("a table of 4 GiB", headers("\x3f\xe0\xff\xff\xff\x0f"+call)),
		speak("an integer beyond 64 bits", headers("\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")),
		speak("an index of nothing", headers("\xff\xff\xff\x7f"+call)),
		speak("a string longer than its frame", headers("\x00\x7f\xff\xff\xff\x07x")),
		speak("a code of Huffman that ends in the air", headers("\x83\x86\x04\x84\xff\xff\xff\xff")),
		speak("a large field again and again", headers(call+large+strings.Repeat("\xbe", 8000))),
		speak("large fields", each(50, func(stream uint32) []byte {
			return frame(frameHeaders, endStream|endHeaders, stream, []byte(call+large+large))
		})),
		speak("a head without end", func() [][]byte {
			more := bytes.Repeat(frame(frameContinuation, 0, 1, []byte(strings.Repeat("\x00\x01a\x01b", 20))), 500)
			return [][]byte{frame(frameHeaders, 0, 1, []byte(call)), more, more, more, more, more}
		}),
		speak("empty pieces of a head", func() [][]byte {
			more := bytes.Repeat(frame(frameContinuation, 0, 1, nil), 5000)
			return [][]byte{frame(frameHeaders, 0, 1, []byte(call)), more, more}
		}),
		speak("heads interleaved", each(200, func(stream uint32) []byte { return frame(frameHeaders, 0, stream, []byte(call)) })),
		speak("calls that are reset at once", each(2000, func(stream uint32) []byte {
			reset := frame(frameReset, 0, stream, []byte{0, 0, 0, 8})
			return append(frame(frameHeaders, endStream|endHeaders, stream, []byte(call)), reset...)
		})),
		speak("resets of nothing", each(2000, func(stream uint32) []byte { return frame(frameReset, 0, stream, []byte{0, 0, 0, 8}) })),
		speak("calls without end", each(2000, func(stream uint32) []byte { return frame(frameHeaders, endHeaders, stream, []byte(call)) })),
		speak("settings", each(2000, func(uint32) []byte { return frame(frameSettings, 0, 0, setting(1, rand.Uint32())) })),
		speak("pings", each(2000, func(uint32) []byte { return frame(framePing, 0, 0, garbage(8)) })),
		speak("priorities", each(2000, func(stream uint32) []byte { return frame(framePriority, 0, stream, garbage(5)) })),
		speak("windows of nothing", each(500, func(stream uint32) []byte { return frame(frameWindow, 0, stream, make([]byte, 4)) })),
		speak("a promise of a client", each(2, func(stream uint32) []byte {
			return frame(framePush, endHeaders, stream, []byte("\x00\x00\x00\x02"+call))
		})),
		speak("a farewell, and calls", each(100, func(stream uint32) []byte {
			return append(frame(frameGoAway, 0, 0, make([]byte, 8)), frame(frameHeaders, endStream|endHeaders, stream, []byte(call))...)
		})),
	}
}
