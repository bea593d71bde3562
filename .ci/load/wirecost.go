// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"

	"github.com/fleetprof/fleetprof/wire"
)

// watchedAgents is how many agents a wireCost looks at.
const watchedAgents = 5

// wireCost tells what lines cost on the wire: those of stacks that their host has sent
// before in its session, which are encoded once more by themselves, and others.
type wireCost struct {
	unpacker *wire.Unpacker
	sessions map[*host]*watchedSession
	// The following are sums over all windows but the first of each session.
	lines, known      int // known are those of stacks sent before
	bytes, knownBytes int
	gzip              int // bytes of the same as pprof
}

type watchedSession struct {
	*wire.Encoder
	sent map[sentStack]bool
}

type sentStack struct {
	service *service
	stack
}

func newWireCost() (*wireCost, error) {
	u, err := wire.NewUnpacker()
	return &wireCost{unpacker: u, sessions: map[*host]*watchedSession{}}, err
}

// add takes the next window of a host.
func (c *wireCost) add(f *fleet, w window) error {
	s := c.sessions[w.host]
	if s == nil {
		e, err := wire.NewEncoder()
		if err != nil {
			return err
		}
		s = &watchedSession{e, map[sentStack]bool{}}
		c.sessions[w.host] = s
	}
	var known []drawn
	for _, d := range w.lines {
		if s.sent[sentStack{d.pod.service, d.stack}] {
			known = append(known, d)
		}
	}
	knownBytes, began, err := c.push(s, f, w, known)
	if err != nil {
		return err
	}
	bytes, beganThen, err := c.push(s, f, w, w.lines)
	if err != nil || began || beganThen {
		return err
	}
	p, err := f.encode(w, time.Unix(1, 0))
	c.lines, c.known = c.lines+len(w.lines), c.known+len(known)
	c.bytes, c.knownBytes, c.gzip = c.bytes+bytes, c.knownBytes+knownBytes, c.gzip+len(p.PProf)
	return err
}

// push encodes some lines of a window as the next push, and gives its size and whether it
// began a session.
func (c *wireCost) push(s *watchedSession, f *fleet, w window, lines []drawn) (bytes int, began bool, err error) {
	p, err := f.profile(w, lines, time.Unix(1, 0))
	if err != nil {
		return 0, false, err
	}
	body, err := s.Encode(p, wire.ID{})
	if err != nil {
		return 0, false, err
	}
	s.Commit()
	push, err := c.unpacker.Unpack(body)
	if err != nil {
		return 0, false, err
	}
	if push.Sequence == 0 {
		clear(s.sent)
	}
	for _, d := range lines {
		s.sent[sentStack{d.pod.service, d.stack}] = true
	}
	return len(body), push.Sequence == 0, nil
}

func (c *wireCost) print(out io.Writer) {
	if c.lines == 0 {
		return
	}
	fresh := max(1, c.lines-c.known)
	fmt.Fprintf(out, "  wire: %.1f B a line; %.1f of a stack sent before, %.1f of others, which are %.0f %%; as gzip pprof %.1f\n",
		float64(c.bytes)/float64(c.lines), float64(c.knownBytes)/float64(max(1, c.known)),
		float64(c.bytes-c.knownBytes)/float64(fresh), 100*float64(fresh)/float64(c.lines), float64(c.gzip)/float64(c.lines))
}
