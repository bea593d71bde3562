// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// known identifies every process as one of a service.
func known(service string) func(uint32, bool) Identity {
	return func(uint32, bool) Identity { return Identity{Service: service, Keep: true, Final: true} }
}

// ofSomebody stands for whoever had the requests of traces.
func ofSomebody(*process) *process { return &process{service: &service{name: "somebody"}} }

// identityStory is a story of processes whose identities a test says.
type identityStory struct {
	*story
	registry *prometheus.Registry
	identify func(settled bool) Identity
	asked    int
}

func newIdentityStory(t *testing.T) *identityStory {
	t.Helper()
	s := &identityStory{story: newStory(t), registry: prometheus.NewRegistry()}
	var err error
	s.engine, err = New(Options{
		Identify: func(_ uint32, settled bool) Identity {
			s.asked++
			return s.identify(settled)
		},
		Watch: func(uint64, bool) {}, Registerer: s.registry, Exemplars: 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// becomes says what processes are from now on.
func (s *identityStory) becomes(id Identity) { s.identify = func(bool) Identity { return id } }

// request is a request with a trace that fails, and a sample of it.
func (s *identityStory) request(trace int) {
	s.t.Helper()
	for _, line := range []string{fmt.Sprintf("T1 read 5 %q", traced("GET /a", trace)), "T1 sample exact GET /a", "T1 write 5 500"} {
		s.line(line)
	}
}

// expect compares the services that have requests, errors, CPU time and durations, and how
// many requests were withheld.
func (s *identityStory) expect(step string, withheld float64, services map[string]float64) {
	s.t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	got := make(map[string]map[string]float64)
	for _, f := range families {
		name := strings.TrimPrefix(f.GetName(), "fleetprof_rpc_")
		got[name] = make(map[string]float64)
		for _, m := range f.Metric {
			of := ""
			for _, l := range m.Label {
				if l.GetName() == "service_name" {
					of = l.GetValue()
				}
			}
			got[name][of] += m.Counter.GetValue() + float64(m.Histogram.GetSampleCount())
		}
	}
	for _, metric := range []string{"requests_total", "errors_total", "duration_seconds", "cpu_seconds_total"} {
		unit := 1.0
		if metric == "cpu_seconds_total" {
			unit = oneTick.CPU().Seconds()
		}
		if len(got[metric]) != len(services) {
			s.t.Errorf("%s: %s are %v, want %v", step, metric, got[metric], services)
		}
		for name, n := range services {
			if got[metric][name] != n*unit {
				s.t.Errorf("%s: %s are %v, want %v", step, metric, got[metric], services)
			}
		}
	}
	if n := got["withheld_requests_total"][""]; n != withheld {
		s.t.Errorf("%s: %v requests are withheld, want %v", step, n, withheld)
	}
}

// Requests count as what their process is, once that is known, and again when other rules
// are in force; of one that is excluded nothing is told, and of exemplars what holds when
// they are taken.
func TestIdentity(t *testing.T) {
	s := newIdentityStory(t)
	s.becomes(Identity{Service: "early"}) // not decided yet
	s.request(1)
	s.expect("undecided", 1, nil)

	s.becomes(Identity{Service: "shop", Keep: true, Final: true})
	s.line("after 1s")
	s.request(2)
	asked := s.asked
	s.request(3)
	s.expect("decided", 1, map[string]float64{"shop": 2})
	if s.asked != asked {
		t.Errorf("asked %d times after the final answer", s.asked-asked)
	}
	wantLines(t, s.exemplars(), "2 shop GET /a 5xx 2ms 10ms", "3 shop GET /a 5xx 2ms 10ms")

	s.request(4)
	s.becomes(Identity{Service: "shop", Final: true})
	s.engine.Reconsider()
	s.request(5)
	s.expect("excluded", 2, map[string]float64{"shop": 3})
	wantLines(t, s.exemplars())

	s.becomes(Identity{Service: "store", Keep: true, Final: true})
	s.engine.Reconsider()
	s.request(6)
	s.expect("renamed", 2, map[string]float64{"shop": 3, "store": 1})
	s.becomes(Identity{Service: "market", Keep: true, Final: true})
	s.engine.Reconsider()
	wantLines(t, s.exemplars(), "6 market GET /a 5xx 2ms 10ms")
	s.check()
}

// What is not final for long is taken as it is, and nobody is asked at each request.
func TestIdentitySettles(t *testing.T) {
	s := newIdentityStory(t)
	s.identify = func(settled bool) Identity { return Identity{Service: "shop", Keep: settled} }
	for range 30 {
		s.request(1)
	}
	if s.asked != 1 {
		t.Errorf("asked %d times within 90 ms", s.asked)
	}
	s.line("after 4s")
	s.request(2)
	asked := s.asked
	s.line("after 1s")
	s.request(3)
	s.expect("settled", 30, map[string]float64{"shop": 2})
	if s.asked != asked {
		t.Error("asked after that was settled")
	}
}

// Excluded processes are no service among the others, however many there are.
func TestWithheldIsNoService(t *testing.T) {
	e, err := New(Options{Identify: known("x"), Watch: func(uint64, bool) {}, Registerer: prometheus.NewRegistry(), RoutesPerService: 2})
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[uint64]bool{byte0(e.handlers.withheld): true}
	for i := range 1000 {
		s := e.handlers.service(fmt.Sprint(i))
		if i < maxServices+1 && s.name != other && numbers[byte0(s)] {
			t.Errorf("service %d has the number of another one", i)
		}
		numbers[byte0(s)] = true
	}
	for i := range 10 {
		if h := e.handlers.rpc(e.handlers.withheld, "grpc", fmt.Sprintf("/a/%d", i)); h.requests != e.handlers.metrics.withheld {
			t.Errorf("handler %d is told of: %+v", i, h.labels)
		}
	}
}

// byte0 is what of its number tells a service from others.
func byte0(s *service) uint64 { return uint64(byte(s.number)) }
