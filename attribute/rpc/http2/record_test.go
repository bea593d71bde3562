// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// call is one read or write of the program that is watched.
type call struct {
	dir  Direction
	data []byte
}

// recorder is a connection that remembers its calls and reads at most so many
// bytes at once.
type recorder struct {
	net.Conn
	most  int
	mu    sync.Mutex
	calls []call
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p[:min(len(p), r.most)])
	r.note(Read, p[:n])
	return n, err
}

// Write notes the call first: the answer to what is written may be read before
// the write returns.
func (r *recorder) Write(p []byte) (int, error) {
	r.note(Write, p)
	return r.Conn.Write(p)
}

func (r *recorder) note(dir Direction, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(data) > 0 {
		r.calls = append(r.calls, call{dir, bytes.Clone(data)})
	}
}

// recording is what a connection's calls were and what they said.
type recording struct {
	calls  []call
	client Direction
	// By stream: what the frames say, by another decoder that missed nothing.
	requests, answers, trailers map[uint32]map[string]string
}

// stop ends the recording and decodes it.
func (r *recorder) stop(t *testing.T) *recording {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := &recording{
		calls:    r.calls,
		requests: map[uint32]map[string]string{}, answers: map[uint32]map[string]string{}, trailers: map[uint32]map[string]string{},
	}
	var whole [2][]byte
	for _, c := range r.calls {
		whole[c.dir] = append(whole[c.dir], c.data...)
	}
	for dir := range whole {
		if rest, ok := bytes.CutPrefix(whole[dir], []byte(preface)); ok {
			rec.client, whole[dir] = Direction(dir), rest
		}
	}
	for dir := range whole {
		rec.decode(t, Direction(dir), whole[dir])
	}
	return rec
}

func (rec *recording) decode(t *testing.T, dir Direction, whole []byte) {
	t.Helper()
	framer := xhttp2.NewFramer(io.Discard, bytes.NewReader(whole))
	framer.ReadMetaHeaders = hpack.NewDecoder(maxTableSize, nil)
	framer.SetMaxReadFrameSize(largestFrameSize)
	for {
		f, err := framer.ReadFrame()
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		head, ok := f.(*xhttp2.MetaHeadersFrame)
		if !ok {
			continue
		}
		values := map[string]string{}
		for _, f := range head.Fields {
			values[f.Name] = f.Value
		}
		values[":path"], _, _ = strings.Cut(values[":path"], "?")
		switch id := head.StreamID; {
		case dir == rec.client && values[":method"] != "":
			rec.requests[id] = values
		case dir != rec.client && values[":status"] != "" && values[":status"][0] != '1':
			rec.answers[id] = values
		case dir != rec.client:
			rec.trailers[id] = values
		}
	}
}

// distortion is what an observer misses.
type distortion struct {
	capture int     // bytes of a call, random up to that many if negative
	split   bool    // calls are cut at random places
	from    int     // the first call that is seen
	lose    float64 // share of the calls that are missed
	tell    bool    // Lost is called where they are
}

// score counts what the decoder said of a recording.
type score struct {
	requests            int // that there were after from
	right, star, wrong  int // of paths
	other               int // of other values that are wrong
	statuses, badStatus int
	gaps, ends, most    int // most: bytes held
}

func (s *score) add(o score) {
	s.requests += o.requests
	s.right += o.right
	s.star += o.star
	s.wrong += o.wrong
	s.other += o.other
	s.statuses += o.statuses
	s.badStatus += o.badStatus
	s.gaps += o.gaps
	s.ends += o.ends
	s.most = max(s.most, o.most)
}

// replay feeds a recording to a decoder and compares.
func (rec *recording) replay(d distortion, random *rand.Rand) (s score) {
	c := New(d.from > 0)
	emit := func(e Event) { rec.judge(&s, e) }
	for _, call := range rec.calls[d.from:] {
		for data := call.data; len(data) > 0; {
			n := len(data)
			if d.split {
				n = 1 + random.IntN(n)
			}
			seen := min(n, d.capture)
			if d.capture < 0 {
				seen = min(n, random.IntN(-d.capture))
			}
			switch {
			case random.Float64() >= d.lose:
				c.Feed(call.dir, data[:seen], int64(n), emit)
			case d.tell:
				c.Lost(call.dir, emit)
			}
			data = data[n:]
			s.most = max(s.most, c.Bytes())
		}
	}
	s.requests = len(rec.requests)
	return s
}

func (rec *recording) judge(s *score, e Event) {
	same := func(got, want string) bool { return got == want || got == Unknown }
	switch e.Kind {
	case Gap:
		s.gaps++
	case EndStream:
		s.ends++
		if e.Dir != rec.client && e.GRPCStatus != "" {
			if !same(e.GRPCStatus, rec.trailers[e.Stream]["grpc-status"]) && !same(e.GRPCStatus, rec.answers[e.Stream]["grpc-status"]) {
				s.badStatus++
			}
		}
	case Request:
		want := rec.requests[e.Stream]
		switch e.Path {
		case want[":path"]:
			s.right++
		case Unknown:
			s.star++
		default:
			s.wrong++
		}
		if e.Dir != rec.client || !same(e.Method, want[":method"]) ||
			!same(e.ContentType, want["content-type"]) || !same(e.Traceparent, want["traceparent"]) {
			s.other++
		}
	case Response:
		s.statuses++
		if !same(e.Status, rec.answers[e.Stream][":status"]) {
			s.badStatus++
		}
	}
}
