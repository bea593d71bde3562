// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/attribute/rpc/http2"
)

const (
	preface  = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	upgrade  = "GET /a HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n"
	settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
)

// headers is a HEADERS frame that ends its block.
func headers(stream int, block string) string {
	return fmt.Sprintf("\x00\x00%c\x01\x05\x00\x00\x00%c", len(block), stream) + block
}

// get is a request in RFC 7541's terms: :method GET, :scheme http, :path.
func get(stream int, path string) string {
	return headers(stream, fmt.Sprintf("\x82\x86\x04%c%s", len(path), path))
}

func call(stream int, path string) string {
	const grpc = "application/grpc+proto"
	return headers(stream, fmt.Sprintf("\x83\x86\x04%c%s\x0f\x10%c%s", len(path), path, len(grpc), grpc))
}

// ok is :status 200.
func ok(stream int) string { return headers(stream, "\x88") }

// begun is :status 200 with a body to come, data the end of that.
func begun(stream int) string { return fmt.Sprintf("\x00\x00\x01\x01\x04\x00\x00\x00%c\x88", stream) }

func data(stream int) string { return fmt.Sprintf("\x00\x00\x02\x00\x01\x00\x00\x00%cok", stream) }

func tellf(t *testing.T, text string, raw ...string) {
	t.Helper()
	for i, r := range raw {
		text = strings.ReplaceAll(text, fmt.Sprintf("$%d", i), fmt.Sprintf("%q", r))
	}
	tell(t, text)
}

func TestStreamsOfAnEventLoop(t *testing.T) {
	tellf(t, `
		L1 read 4 GET /warm
		L1 write 4 200
		L1 wait
		L1 read 5 $0
		watched 5
		L1 sample exact GET /a/{number}
		L1 write 5 $1
		L1 sample unattributed
		L1 read 5 $2
		L1 sample exact grpc acme.Shop/GetItem
		L1 write 5 $3
		L1 wait
		L1 read 5 $4
		L1 sample ambiguous
		L1 wait
		L1 sample ambiguous
		L1 close 5
		L1 sample unattributed
		decided`,
		preface+settings+get(1, "/a/1?token"), settings+ok(1), call(3, "/acme.Shop/GetItem"), ok(3),
		get(5, "/b")+get(7, "/c"))
}

func TestStreamsOfAThread(t *testing.T) {
	tellf(t, warm+`
		T1 read 5 $0
		T1 sample exact GET /a
		T1 read 5 $1
		T1 sample ambiguous
		T1 write 5 $2
		T1 sample exact GET /b
		T1 read 5 $3
		T1 sample unattributed`,
		preface+settings+get(1, "/a"), get(3, "/b"), settings+ok(1), "\x00\x00\x04\x03\x00\x00\x00\x00\x03\x00\x00\x00\x08")
}

// The thread goes on with an answer that it has begun.
func TestStreamsOfAThreadThatAnswersInParts(t *testing.T) {
	tellf(t, warm+`
		T1 read 5 $0
		T1 read 5 $1
		T1 write 5 $2
		T1 sample ambiguous
		T1 write 5 $3
		T1 sample exact GET /b
		T1 read 5 $4
		T1 write 5 $5
		T1 sample ambiguous
		T1 read 5 $6
		T1 sample exact GET /b
		T1 write 5 $7
		counted GET /a 1
		counted GET /b 1
		counted GET /c 1`,
		preface+settings+get(1, "/a"), get(3, "/b"), settings+begun(1), data(1), get(5, "/c"), begun(5),
		"\x00\x00\x04\x03\x00\x00\x00\x00\x05\x00\x00\x00\x08", ok(3))
}

// Streams that were open before nobody knows what happened may be still.
func TestStreamsOfAThreadAfterALoss(t *testing.T) {
	tellf(t, warm+`
		T1 read 5 $0
		T1 sample exact GET /a
		lost
		T1 read 5 $1
		T1 sample ambiguous
		T1 write 5 $2
		T1 sample unattributed`,
		preface+settings+get(1, "/a"), get(3, "/b"), ok(3))
}

// A thread that has a stream open is not done with it when it reads from elsewhere.
func TestStreamOfAThreadAndAnotherSocket(t *testing.T) {
	tellf(t, warm+`
		T1 read 6 GET /warm
		T1 write 6 200
		T1 read 5 $0
		T1 read 6 GET /b
		T1 sample ambiguous
		T1 write 6 200
		T1 sample exact GET /a
		T1 write 5 $1
		T1 sample unattributed`,
		preface+settings+get(1, "/a"), settings+ok(1))
}

// In Go, who reads frames serves no request, and that others answer says nothing.
func TestStreamsOfGoroutines(t *testing.T) {
	tellf(t, `
		G9 read 4 GET /warm
		G9 write 4 200
		G1 read 5 $0
		G1 sample unattributed
		G2 write 5 $1
		G9 read 4 GET /a
		G9 sample exact GET /a
		G9 write 4 200`,
		preface+settings+get(1, "/a"), settings+ok(1))
}

// Nor is a body that looks like a connection.
func TestBodyThatLooksLikeHTTP2(t *testing.T) {
	tellf(t, warm+`
		T1 read 5 "POST /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"
		T1 write 5 413
		T1 read 5 $0
		T1 sample unattributed
		T1 read 5 GET /b
		T1 sample exact GET /b
		T1 write 5 200
		counted GET /evil 0
		counted GET /b 1`,
		preface+settings+get(1, "/evil"))
}

func TestUpgradeToHTTP2(t *testing.T) {
	tellf(t, warm+`
		T1 read 5 $0
		T1 sample exact GET /a
		T1 write 5 $1
		T1 sample exact GET /a
		T1 read 5 $2
		T1 sample exact GET /a
		T1 write 5 $3
		T1 sample unattributed
		T1 read 5 $4
		T1 sample exact GET /b`,
		upgrade,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"+settings, preface+settings, ok(1), get(3, "/b"))
}

// Of the 101 answer 32 bytes are captured as a rule. When the request is answered is not
// seen then, and what comes after it is followed.
func TestUpgradeToHTTP2OfWhichTheAnswerIsCut(t *testing.T) {
	tellf(t, warm+`
		T1 read 5 $0
		T1 sample exact GET /a
		T1 write 5 "HTTP/1.1 101 Switching Protocols" of 140
		T1 sample unattributed
		T1 read 5 $1
		watched 5
		T1 sample unattributed
		T1 write 5 $2
		T1 sample unattributed
		T1 read 5 $3
		T1 sample ambiguous
		T1 write 5 $4
		T1 sample unattributed
		counted GET /a 1
		counted GET /b 1
		counted * 0`, upgrade, preface+settings, settings+ok(1), get(3, "/b"), ok(3))
	tellf(t, `
		L1 wait
		L1 read 5 $0
		L1 write 5 "HTTP/1.1 101 Switching Protocols" of 140
		L1 wait
		L1 read 5 $1
		L1 wait
		L1 read 5 $2
		L1 sample exact GET /b
		L1 write 5 $3
		counted GET /a 1
		counted GET /b 1`, upgrade, preface+settings, get(3, "/b"), ok(3))
}

// Nor is it, if the 101 answer was not seen at all.
func TestUpgradeToHTTP2Unanswered(t *testing.T) {
	tellf(t, warm+`
		T1 read 5 $0
		T1 sample exact GET /a
		T1 read 5 $1
		T1 sample unattributed
		T1 write 5 $2
		T1 read 5 $3
		T1 sample ambiguous
		T1 write 5 $4
		counted GET /a 1
		counted GET /b 1`, upgrade, preface+settings, settings+ok(1), get(3, "/b"), ok(3))
}

// An upgrade that the server does not want is a request like others.
func TestUpgradeToHTTP2Refused(t *testing.T) {
	tellf(t, warm+`
		T1 read 5 $0
		T1 sample exact GET /a
		T1 write 5 200
		T1 sample unattributed
		T1 read 5 GET /b
		T1 sample exact GET /b
		T1 write 5 200
		T1 read 5 "GET /c HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 9\r\n\r\n"
		T1 write 5 "HTTP/1.1 101 Switching Protocols" of 140
		T1 read 5 GET /d
		T1 sample unattributed
		counted GET /a 1
		counted GET /b 1
		counted GET /c 1
		counted GET /d 0`, upgrade)
}

func TestConnectionJoinedInTheMiddle(t *testing.T) {
	// 0xbe is the newest entry of a table that nobody has seen.
	tellf(t, `
		L1 wait
		L1 read 5 $0
		watched 5
		L1 sample inferred GET *
		L1 write 5 $1
		lost
		L1 read 5 $2
		L1 sample inferred GET /b
		L1 write 5 $3`,
		headers(9, "\x82\x86\xbe"), ok(9), get(11, "/b"), ok(11))
	// A thread may still be at a stream from before.
	tellf(t, warm+`
		T1 read 5 $0
		watched 5
		T1 sample ambiguous
		T1 write 5 $1
		counted GET * 1`,
		headers(9, "\x82\x86\xbe"), ok(9))
}

// So may bytes that could not be read.
func TestBytesThatCouldNotBeRead(t *testing.T) {
	tellf(t, warm+`
		T1 read 5 $0
		T1 sample exact GET /a
		T1 write 5 "" of 300
		T1 sample unattributed
		T1 read 6 $1
		watched 6
		T1 sample ambiguous
		T1 write 6 "" of 300
		T1 sample ambiguous
		T1 write 6 200
		T1 sample ambiguous`,
		preface+settings+get(1, "/a"), "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
}

// A gap may hide answers.
func TestGap(t *testing.T) {
	s := newStory(t)
	s.engine.options.NewDecoder = func(Start) Decoder {
		return &script{{{Kind: http2.Request, Stream: 1, Method: "GET", Path: "/a"}}, {{Kind: http2.Gap, Dir: http2.Write}}}
	}
	for line := range strings.Lines(warm + "T1 read 5 \"PRI * \"\nT1 sample exact GET /a\nT1 write 5 \"?\"\nT1 sample unattributed\n") {
		if strings.TrimSpace(line) != "" {
			s.line(strings.TrimSpace(line))
		}
	}
	s.check()
}

// Decoders that hold too much together begin anew, those of idle connections first.
func TestDecodersAreBounded(t *testing.T) {
	s := newStory(t)
	made := make(map[Start]int)
	s.engine.options.NewDecoder = func(how Start) Decoder {
		made[how]++
		return heavy{}
	}
	const fit = maxDecoderMemory / (heavyBytes + decoderBytes)
	for i := range fit + 2 {
		s.line(fmt.Sprintf("T%d read %d %q", i, i, preface))
	}
	if n := s.engine.decoderList.n; n != fit || s.engine.decoderMemory > maxDecoderMemory {
		t.Errorf("%d decoders hold %d bytes, want %d of them", n, s.engine.decoderMemory, fit)
	}
	s.line(`T0 read 0 "more"`)
	s.line(fmt.Sprintf(`T9 read %d "more"`, fit+1))
	if made[Fresh] != fit+2 || made[Joined] != 1 {
		t.Errorf("made %v", made)
	}
	for i := range fit + 2 {
		s.line(fmt.Sprintf("T0 close %d", i))
	}
	if s.engine.decoderMemory != 0 || s.engine.decoderList.n != 0 {
		t.Errorf("%d bytes are left", s.engine.decoderMemory)
	}
	s.check()
}

const heavyBytes = 1 << 20

// heavy is a decoder of one that has sent much.
type heavy struct{}

func (heavy) Feed(http2.Direction, []byte, int64, func(http2.Event)) {}

func (heavy) Answering(http2.Direction) bool { return false }

func (heavy) Bytes() int { return heavyBytes }

func (heavy) Lost(http2.Direction, func(http2.Event)) {}

func (heavy) Over() bool { return false }

// script is a decoder that tells what it was told to, a part for each call.
type script [][]http2.Event

func (s *script) Feed(_ http2.Direction, _ []byte, _ int64, emit func(http2.Event)) {
	for _, v := range (*s)[0] {
		emit(v)
	}
	*s = (*s)[1:]
}

func (s *script) Lost(http2.Direction, func(http2.Event)) {}

func (s *script) Answering(http2.Direction) bool { return false }

func (s *script) Bytes() int { return 0 }

func (s *script) Over() bool { return false }
