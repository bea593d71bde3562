// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// published is what "http.route=/a rpc.system=grpc" says.
func published(text string) (all []sample.Attribute) {
	for pair := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(pair, "=")
		all = append(all, sample.Attribute{Key: key, Value: value})
	}
	return all
}

// What a program publishes outranks its memory, which tells GET /items/{id} here, and
// its sockets, where GET /items/7 was read.
func TestPublishedNames(t *testing.T) {
	const memory = "exact GET /items/{id} by goroutine"
	for _, c := range []struct{ labels, want string }{
		{"http.route=/other http.request.method=PUT", "exact PUT /other by label"},
		{"http_route=/other http_request_method=PUT", "exact PUT /other by label"},
		{"http.route=/other", "exact /other by label"},
		{"http.route=/items/{id}", "exact GET /items/{id} by label"},
		{"http.route=/items/{id} http.request.method=PUT", "exact PUT /items/{id} by label"},
		{"http.route=/items/{id} http.request.method=BREW", "exact _OTHER /items/{id} by label"},
		{"http.route=/a http.route=/b", "exact /b by label"},
		{"url.template=/x/{y} http.request.method=GET", "exact GET /x/{y} by label"},
		{"url_template=/items/1", "exact /items/1 by label"},
		{"http.route=/other url.template=/x", "exact /other by label"},
		{"rpc.method=acme.Shop/Get rpc.system.name=grpc", "exact grpc acme.Shop/Get by label"},
		{"rpc_method=/acme.Shop/Get", "exact acme.Shop/Get by label"},
		{"rpc.method=Get rpc.service=acme.Shop rpc.system=connect_rpc", "exact connect_rpc acme.Shop/Get by label"},
		{"rpc.method=a/b rpc.system=homegrown", "exact _OTHER a/b by label"},
		// These name no handler.
		{"", memory},
		{"http.request.method=PUT", memory},
		{"http.request.method=GET", memory},
		{"rpc.method=Get", memory},
		{"rpc.service=acme.Shop rpc.system=grpc", memory},
		{"user=jane HTTP.ROUTE=/a", memory},
	} {
		t.Run(c.labels, func(t *testing.T) {
			s := newStory(t)
			s.line("G1 read 5 GET /items/7")
			s.sample(c.labels, &sample.Sample{
				Process: sample.Process{PID: 1}, Executor: sample.Executor{Kind: sample.Goroutine, Goroutine: 1},
				Request:   sample.Request{Source: sample.SourceGoroutine, Goroutine: 1, Method: "GET", Path: "/items/7", Route: "/items/{id}"},
				Published: published(c.labels),
			}, c.want)
			s.engine.Flush()
			s.check()
		})
	}
}

// Whoever executes, what is published is of it: also if nothing else is known.
func TestPublishedOfAnyExecutor(t *testing.T) {
	for _, kind := range []sample.ExecutorKind{sample.UnknownExecutor, sample.Thread, sample.Goroutine} {
		s := newStory(t)
		for labels, want := range map[string]string{
			"http.route=/a http.request.method=GET": "exact GET /a by label",
			"http.request.method=GET":               "unattributed",
		} {
			s.sample(labels, &sample.Sample{
				Process: sample.Process{PID: 1}, TID: 9, Executor: sample.Executor{Kind: kind, Goroutine: 3}, Published: published(labels),
			}, want)
		}
		s.engine.Flush()
		s.check()
	}
}

// Requests count under the route that labels tell, where memory tells the path only.
func TestPublishedRoutesAreLearned(t *testing.T) {
	s := newStory(t)
	s.line("G1 read 5 GET /items/7")
	s.sample("labelled", &sample.Sample{
		Process: sample.Process{PID: 1}, Executor: sample.Executor{Kind: sample.Goroutine, Goroutine: 1},
		Request:   sample.Request{Source: sample.SourceGoroutine, Goroutine: 1, Method: "GET", Path: "/items/7"},
		Published: published("http.route=/items/:id http.request.method=GET"),
	}, "exact GET /items/:id by label")
	s.tell("G1 write 5 200", "counted GET /items/:id 1", "counted GET /items/{number} 0")
	s.engine.Flush()
	s.check()
}

// What programs publish is bounded as all handlers are.
func TestPublishedNamesAreBounded(t *testing.T) {
	s := newStory(t)
	const most = 500
	for i := range 2 * most {
		name := strings.Repeat("x", i+1)
		want := "exact /" + name + " by label"
		if i >= most {
			want = "exact other by label"
		}
		s.sample(name, &sample.Sample{Process: sample.Process{PID: 1}, Published: published("http.route=/" + name)}, want)
	}
	s.check()
	if n := len(s.engine.handlers.services["service-1"].handlers); n != most+1 {
		t.Errorf("%d handlers, want %d", n, most+1)
	}
}
