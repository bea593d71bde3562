// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"fmt"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// told is a tick of a goroutine whose memory tells a route.
func (s *story) told(pid uint32, goroutine uint64, path, route, want string) {
	s.t.Helper()
	s.sample(path+" is "+route, &sample.Sample{
		Process: sample.Process{PID: pid}, Executor: sample.Executor{Kind: sample.Goroutine, Goroutine: goroutine},
		Request: sample.Request{Source: sample.SourceGoroutine, Goroutine: goroutine, Method: "GET", Path: path, Route: route},
	}, want)
}

func (s *story) tell(lines ...string) {
	s.t.Helper()
	for _, l := range lines {
		s.line(l)
	}
}

// Requests count under the route that their template is learned to lead to.
func TestLearnedRoutes(t *testing.T) {
	s := newStory(t)
	for i := range 4 {
		// The first two are told by themselves; of the fourth nothing is told.
		s.tell(fmt.Sprintf("G1 read 5 GET /items/%d", i))
		switch {
		case i < 2:
			s.tell("G1 sample exact GET /items/{number}")
			s.told(1, 1, fmt.Sprintf("/items/%d", i), "/items/{id}", "exact GET /items/{id} by goroutine")
		case i == 2:
			s.tell("G1 sample exact GET /items/{number}")
		}
		s.tell("G1 write 5 200")
	}
	s.tell("counted GET /items/{id} 2", "counted GET /items/{number} 2")
	s.tell("G1 read 5 GET /items/7")
	s.told(1, 1, "/items/7", "/items/{id}", "exact GET /items/{id} by goroutine")
	s.tell("G2 read 6 GET /items/8", "G2 sample exact GET /items/{id}", "G2 write 6 500", "G1 write 5 200")
	s.tell("counted GET /items/{id} 4", "counted GET /items/{number} 2")
	s.engine.Flush()
	s.check()
	for _, h := range s.engine.handlers.services["service-1"].handlers {
		if want := map[string]int{"/items/{id}": 1}[h.labels.HTTPRoute]; int(testutil.ToFloat64(h.errors)) != want {
			t.Errorf("%s: want %d errors", said(h.labels), want)
		}
	}
}

// The beginning of a path is not the path that is called so.
func TestCutPathTeachesNoRoute(t *testing.T) {
	s := newStory(t)
	s.tell("G1 read 5 GET /files/", "G1 write 5 200")
	for range 2 * routeProofs {
		s.sample("cut", &sample.Sample{
			Process: sample.Process{PID: 1}, Executor: sample.Executor{Kind: sample.Goroutine, Goroutine: 2},
			Request: sample.Request{Source: "goroutine", Goroutine: 2, Method: "GET", Path: "/files/", PathCut: true, Route: "/files/{name}"},
		}, "exact GET /files/{name} by goroutine")
	}
	s.tell("G1 read 5 GET /files/", "G1 sample exact GET /files/")
	s.engine.Flush()
	s.check()
}

// A template that leads to two routes tells nothing.
func TestTemplateWithTwoRoutes(t *testing.T) {
	s := newStory(t)
	s.tell("G1 read 5 GET /a/1")
	for range routeProofs {
		s.told(1, 1, "/a/1", "/a/{id}", "exact GET /a/{id} by goroutine")
	}
	s.tell("G1 write 5 200", "G1 read 5 GET /a/2", "G1 sample exact GET /a/{id}")
	s.told(1, 1, "/a/2", "/a/2", "exact GET /a/2 by goroutine")
	s.tell("G1 write 5 200", "G1 read 5 GET /a/3", "G1 sample exact GET /a/{number}", "G1 write 5 200")
	s.told(1, 1, "/a/1", "/a/{id}", "exact GET /a/{id} by goroutine") // again, too late
	s.tell("counted GET /a/{id} 1", "counted GET /a/2 1", "counted GET /a/{number} 1")
	s.engine.Flush()
	s.check()
}

// What is said of a goroutine that reads something else now is not about its
// request; nor do other processes of the service follow, whose memory is not read.
func TestRoutesOfOthers(t *testing.T) {
	s := newStory(t)
	s.engine.options.Identify = known("one")
	s.tell("1:G1 read 5 GET /a/1")
	for range routeProofs {
		s.told(1, 1, "/b/1", "/b/{id}", "exact GET /b/{id} by goroutine")
		s.told(1, 2, "/a/1", "/a/{id}", "exact GET /a/{id} by goroutine")
	}
	s.tell("1:G1 sample exact GET /a/{id}", "1:G1 write 5 200")
	s.tell("2:G1 read 6 GET /a/1", "2:G1 write 6 200", "2:G1 read 6 GET /a/1", "2:G1 sample exact GET /a/{number}", "2:G1 write 6 200")
	s.tell("counted GET /b/{id} 0", "counted GET /a/{id} 1", "counted GET /a/{number} 2")
	s.engine.Flush()
	s.check()
}

// What stands for many paths is no template to learn from.
func TestRoutesOfWhatIsCut(t *testing.T) {
	s := newStory(t)
	const path = "/1/2/3/4/5/6/7/8/9"
	s.tell("G1 read 5 GET " + path)
	for range routeProofs {
		s.told(1, 1, path, "/{all...}", "exact GET /{all...} by goroutine")
	}
	s.tell("G1 write 5 200", "G1 read 5 GET "+path+"/10", "G1 sample exact GET /{number}/{number}/{number}/{number}/{number}/{number}/{number}/{number}/{rest}")
	s.engine.Flush()
	s.check()
}

// A tick that comes late is told by memory, if by that of its own goroutine.
func TestPublishedLate(t *testing.T) {
	s := newStory(t)
	s.tell("G1 read 5 GET /a")
	for goroutine, want := range map[uint64]string{1: "exact GET /a by goroutine", 2: "unattributed"} {
		s.now -= uint64(time.Millisecond)
		s.sample(want, &sample.Sample{
			Process: sample.Process{PID: 1}, Executor: sample.Executor{Kind: sample.Goroutine, Goroutine: goroutine, Parent: goroutine - 1},
			Request: sample.Request{Source: sample.SourceGoroutine, Goroutine: 1, Method: "GET", Path: "/a"},
		}, want)
	}
	s.engine.Flush()
	s.check()
}

// A child of one request is told from one of the next by where these lie in memory.
func TestPublishedIdentity(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before []string
		second uint64
		want   string
	}{
		{"the same", nil, 0xc000, "inferred GET /a by goroutine"},
		{"the next", nil, 0xd000, "unattributed"},
		{"seen on a socket", []string{"G1 read 5 GET /a"}, 0xd000, "inferred GET /a by goroutine"},
		{"passed over", []string{"passed 9", "G1 read 5 GET /a"}, 0xd000, "unattributed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStory(t)
			s.tell(tt.before...)
			for _, id := range []uint64{0xc000, tt.second} {
				s.sample(tt.name, &sample.Sample{
					Process: sample.Process{PID: 1}, Executor: sample.Executor{Kind: sample.Goroutine, Goroutine: 2, Parent: 1},
					Request: sample.Request{Source: sample.SourceGoroutine, Goroutine: 1, Method: "GET", Path: "/a", ID: id},
				}, tt.want)
			}
			s.engine.Flush()
			s.check()
		})
	}
}
