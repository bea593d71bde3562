// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/policy"
	server "github.com/fleetprof/fleetprof/server/policy"
)

// BenchmarkWaitingAgents has agents ask and wait, and all of them hear of one
// change. B/agent is the memory of both ends while they wait, ms/change the time
// until all have the answer. (5,000 agents are 10,000 descriptors here.)
func BenchmarkWaitingAgents(b *testing.B) {
	for _, agents := range []int{100, 5_000} {
		b.Run(fmt.Sprint(agents), func(b *testing.B) {
			s := start(b, b.TempDir())
			before := inUse()
			all := make([]*poller, agents)
			var changing time.Duration
			for b.Loop() {
				for i, p := range all {
					if p == nil {
						p = dial(b, s)
						all[i] = p
					}
					p.ask(b, s.keeper.Current().Tag)
				}
				s.awaitWaiting(agents)
				b.ReportMetric(float64(inUse()-before)/float64(agents), "B/agent")
				begin := time.Now()
				if _, err := s.keeper.Set(policy.Policy{}, nil, server.Author{}, begin); err != nil {
					b.Fatal(err)
				}
				var answered sync.WaitGroup
				for _, p := range all {
					answered.Go(func() { p.read(b) })
				}
				answered.Wait()
				changing += time.Since(begin)
			}
			b.ReportMetric(changing.Seconds()*1e3/float64(b.N), "ms/change")
		})
	}
}

// poller is the bare connection of an agent.
type poller struct {
	net.Conn
	answers *bufio.Reader
}

func dial(b *testing.B, s *service) *poller {
	b.Helper()
	c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(s.url, "http://"), "/api/v1/policy"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return &poller{c, bufio.NewReaderSize(c, 512)}
}

func (p *poller) ask(b *testing.B, tag string) {
	if _, err := fmt.Fprintf(p, "GET /api/v1/policy?wait=60s HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: %q\r\n\r\n", tag); err != nil {
		b.Fatal(err)
	}
}

func (p *poller) read(b *testing.B) {
	resp, err := http.ReadResponse(p.answers, nil)
	if err != nil {
		b.Error(err)
		return
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
		b.Error(resp.Status, err)
	}
}

func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
