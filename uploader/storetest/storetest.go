// SPDX-License-Identifier: Apache-2.0

// Package storetest has stores for tests of what sends to them: Parca, Pyroscope and a server of
// OpenTelemetry's profiles, with their own messages. They keep sums of what they are sent, and refuse what the
// real ones refuse, in the same way.
package storetest

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/sample"
)

// Totals are sums of values by labels, type and stack, all spelled out.
type Totals map[string]int64

func (t Totals) add(labels map[string]string, kind, stack string, v int64) {
	var key strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&key, "%s=%q ", name, labels[name])
	}
	fmt.Fprintf(&key, "%s %s", kind, stack)
	t[key.String()] += v
}

// stackOf writes out a stack, innermost function first.
func stackOf(s *profile.Sample) string {
	var names []string
	for _, l := range s.Location {
		for _, line := range l.Line {
			names = append(names, line.Function.Name)
		}
	}
	return strings.Join(names, ";")
}

// addProfile adds a profile whose samples have these labels and no others.
func (t Totals) addProfile(labels map[string]string, p *profile.Profile) {
	for _, s := range p.Sample {
		for i, v := range s.Value {
			t.add(labels, p.SampleType[i].Type+"/"+p.SampleType[i].Unit, stackOf(s), v)
		}
	}
}

// Expected is what a store should have of a profile whose samples have labels. relabel makes the
// labels that the store has; types are the types of values it has, all if there are none.
func Expected(p *profile.Profile, relabel func(map[string]string), types ...string) Totals {
	t := Totals{}
	for _, s := range p.Sample {
		labels := map[string]string{}
		for name, values := range s.Label {
			labels[name] = values[0]
		}
		relabel(labels)
		for i, v := range s.Value {
			if kind := p.SampleType[i].Type + "/" + p.SampleType[i].Unit; len(types) == 0 || slices.Contains(types, kind) {
				t.add(labels, kind, stackOf(s), v)
			}
		}
	}
	return t
}

// Window encodes a profile as windows are.
func Window(t testing.TB, p *profile.Profile) sample.Profile {
	t.Helper()
	var gz bytes.Buffer
	if err := p.Write(&gz); err != nil {
		t.Fatal(err)
	}
	w := sample.Profile{Start: time.Unix(0, p.TimeNanos), Duration: time.Duration(p.DurationNanos), PProf: gz.Bytes()}
	for _, s := range p.Sample {
		w.Samples += s.Value[0]
	}
	return w
}

// Series is how labels of samples are those of series: with a name, without what is of one process
// or thread.
func Series(labels map[string]string) {
	labels["__name__"] = "process_cpu"
	delete(labels, "process_pid")
	delete(labels, "thread_name")
	if labels["service_name"] == "" {
		labels["service_name"] = labels["process_executable_name"]
	}
}

// Fault answers a request in the place of a store, or reports false.
type Fault func(w http.ResponseWriter, r *http.Request) bool

// Server is what all stores have.
type Server struct {
	mu       sync.Mutex
	totals   Totals
	fault    Fault
	requests []*http.Request
}

// SetFault has the following requests meet a fault; nil is none.
func (s *Server) SetFault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Requests are those since the last call.
func (s *Server) Requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.requests
	s.requests = nil
	return all
}

// Totals is a copy of the sums.
func (s *Server) Totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.totals)
}

// record adds to the sums.
func (s *Server) record(add func(Totals)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.totals == nil {
		s.totals = Totals{}
	}
	add(s.totals)
}

// serve serves a store until the test ends, in plaintext or with TLS; ca is then the certificate
// of who has signed its own.
func (s *Server) serve(t testing.TB, h http.Handler, secure bool) (host string, ca []byte) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r)
		fault := s.fault
		s.mu.Unlock()
		if fault == nil || !fault(w, r) {
			h.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	if secure {
		server.EnableHTTP2 = true
		server.StartTLS()
		ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	} else {
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetHTTP1(true)
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
	}
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host, ca
}
