// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// attributions are all there are: every sample has one of them.
var attributions = []string{"exact", "inferred", "ambiguous", "unattributed", "runtime"}

// handlerVerdict counts the samples of one server.
type handlerVerdict struct {
	// samples are all; truly those by what they were really at, handlers those at
	// a route.
	samples, handlers int64
	truly             map[string]int64
	// claimed are those with a route, wrong those of them that were at another
	// one or at none, by attribution; neither counts what is around.
	claimed, wrong map[string]int64
	// right are claimed, and at that route.
	right int64
	// claimedAround are those of the server's own work that have a route.
	claimedAround int64
	// parts are all samples by attribution.
	parts map[string]int64
	// faults are examples of what is wrong.
	faults map[string]int64
	// secrets are labels that have something in them that varies between
	// requests.
	secrets map[string]int64
}

func newHandlerVerdict() *handlerVerdict {
	return &handlerVerdict{
		truly: make(map[string]int64), claimed: make(map[string]int64), wrong: make(map[string]int64),
		parts: make(map[string]int64), faults: make(map[string]int64), secrets: make(map[string]int64),
	}
}

// hold judges one sample.
func (v *handlerVerdict) hold(s *handlerServer, sample *profile.Sample) {
	n, really, claim := sample.Value[0], s.truth(sample), s.claimOf(sample)
	v.samples += n
	v.truly[really] += n
	v.parts[claim.attribution] += n
	for _, name := range handlerLabels {
		if value := strings.Join(sample.Label[name], ","); tellsTooMuch(value) {
			v.secrets[name+"="+value] += n
		}
	}
	if really == around {
		if claim.route != "" {
			v.claimedAround += n
		}
		return
	}
	if really != elsewhere {
		v.handlers += n
	}
	if claim.route == "" {
		return
	}
	v.claimed[claim.attribution] += n
	if claim.route == really {
		v.right += n
		return
	}
	v.wrong[claim.attribution] += n
	v.faults[fmt.Sprintf("%s: claimed %s, truly %s: %s", claim.attribution, claim.route, really, describe(sample))] += n
}

// tellsTooMuch reports whether a label has a secret in it, or a query, or an
// id: no route of ours has a digit in its name.
func tellsTooMuch(value string) bool {
	return strings.Contains(value, secret) || strings.ContainsAny(value, "?@=0123456789")
}

// describe is the thread of a sample and its outermost functions.
func describe(s *profile.Sample) string {
	functions := names(s)
	slices.Reverse(functions)
	return fmt.Sprintf("%q %s", s.Label["thread_name"], strings.Join(functions[:min(len(functions), 6)], ";"))
}

// add makes one verdict of two.
func (v *handlerVerdict) add(other *handlerVerdict) {
	v.samples += other.samples
	v.handlers += other.handlers
	v.right += other.right
	v.claimedAround += other.claimedAround
	for _, counts := range [][2]map[string]int64{
		{v.truly, other.truly}, {v.claimed, other.claimed}, {v.wrong, other.wrong},
		{v.parts, other.parts}, {v.faults, other.faults}, {v.secrets, other.secrets},
	} {
		for key, n := range counts[1] {
			counts[0][key] += n
		}
	}
}

func (v *handlerVerdict) coverage() float64 { return float64(v.right) / float64(max(v.handlers, 1)) }

// handlerColumns are those of row.
const handlerColumns = "| server | load | samples in handlers | coverage | exact wrong/claimed | inferred wrong/claimed | " +
	"ambiguous | unattributed | runtime | in the background | around (claimed) | requests: seen/sent |\n" +
	"|---|---|---|---|---|---|---|---|---|---|---|---|"

// row is a line of a table of Markdown.
func (v *handlerVerdict) row(server, load string, requests handlerRequests) string {
	return fmt.Sprintf("| %s | %s | %d | %.2f %% | %d/%d | %d/%d | %d | %d | %d | %d | %d (%d) | %.0f/%d |",
		server, load, v.handlers, 100*v.coverage(), v.wrong["exact"], v.claimed["exact"], v.wrong["inferred"], v.claimed["inferred"],
		v.parts["ambiguous"], v.parts["unattributed"], v.parts["runtime"], v.truly[elsewhere],
		v.truly[around], v.claimedAround, requests.seen, requests.sent)
}

// conserved checks that every sample is in one part.
func (v *handlerVerdict) conserved(t *testing.T) {
	t.Helper()
	var sum int64
	for _, part := range attributions {
		sum += v.parts[part]
	}
	if sum != v.samples {
		t.Errorf("%d of %d samples have an attribution: %v", sum, v.samples, v.parts)
	}
}

// honest checks what must hold under any load.
func (v *handlerVerdict) honest(t *testing.T) {
	t.Helper()
	v.conserved(t)
	if wrong := v.wrong["exact"]; wrong > 0 {
		t.Errorf("%d of %d samples claimed exactly are wrong:%s", wrong, v.claimed["exact"], most(v.faults))
	}
	for attribution, n := range v.wrong {
		if attribution != "exact" && attribution != "inferred" {
			t.Errorf("%d samples are %s, with a route:%s", n, attribution, most(v.faults))
		}
	}
	if len(v.secrets) > 0 {
		t.Errorf("labels tell what must stay on the host, or are not bounded:%s", most(v.secrets))
	}
}

// meaningful checks that there was something to be judged.
func (v *handlerVerdict) meaningful(t *testing.T) {
	t.Helper()
	if v.handlers < enough {
		t.Errorf("%d samples in handlers, want at least %d", v.handlers, enough)
	}
	for _, r := range handlerRoutes {
		if v.truly[r.letter] == 0 {
			t.Errorf("no samples of route %s", r.letter)
		}
	}
}

// briefSlack is what a brief load may lack in coverage: while a server is new to the
// agent, and whenever a machine is too slow for 499 ticks a second, it is not known who
// executed. Nothing is allowed to be wrong for it.
const briefSlack = 0.12

// meets checks a server's bar, over several loads.
func (v *handlerVerdict) meets(t *testing.T, bar handlerBar) {
	t.Helper()
	if *handlerSeconds <= 1 {
		bar.coverage -= briefSlack
	}
	if got := v.coverage(); got < bar.coverage {
		t.Errorf("%.2f %% of the samples in handlers are claimed rightly, want %g %%; all: %v, truly: %v", 100*got, 100*bar.coverage, v.parts, v.truly)
	}
	wrong, claimed := v.wrong["inferred"], v.claimed["inferred"]
	if bar.labelled {
		claimed += v.claimed["exact"]
	}
	if float64(wrong) > inferredBar*float64(claimed) {
		t.Errorf("%d of %d inferred samples are wrong, want %g %%:%s", wrong, claimed, 100*inferredBar, most(v.faults))
	}
}

// The judge itself: what it calls right, wrong, and too much.
func TestHandlerJudge(t *testing.T) {
	for _, c := range []struct {
		server, thread, function, labels string
		right, wrong, claimed, secret    int64
	}{
		{"python-threads", "work-a", "f", "exact GET url_template=/work/{number}", 1, 0, 1, 0},
		{"python-threads", "work-b", "f", "exact GET url_template=/work/{number}", 0, 1, 1, 0},     // another route
		{"python-threads", "backgrnd", "f", "exact GET url_template=/work/{number}", 0, 1, 1, 0},   // no request
		{"python-threads", "idle", "f", "exact GET url_template=/work/{number}", 0, 0, 0, 0},       // around it
		{"python-threads", "work-a", "f", "exact POST url_template=/work/{number}", 0, 1, 1, 0},    // another method
		{"python-threads", "work-a", "f", "exact GET http_route=/work/{id}", 0, 1, 1, 0},           // it has none
		{"python-threads", "work-a", "f", "exact GET url_template=/work/17", 0, 1, 1, 1},           // an id
		{"python-threads", "work-a", "f", "exact GET url_template=*", 0, 1, 1, 0},                  // nothing
		{"python-threads", "work-a", "f", "ambiguous", 0, 0, 0, 0},                                 // honest
		{"python-threads", "work-a", "f", "ambiguous GET url_template=/work/{number}", 0, 1, 1, 0}, // a pick
		{"go-http", "gohttp", "main.workA", "exact GET http_route=/work/{id}", 1, 0, 1, 0},
		{"go-http", "gohttp", "main.childB", "inferred GET http_route=/work/{id}", 0, 1, 1, 0},
		{"go-http", "gohttp", "main.background", "inferred GET http_route=/work/{id}", 0, 1, 1, 0},
		{"go-http", "gohttp", "runtime.gcBgMarkWorker", "inferred GET http_route=/work/{id}", 0, 1, 1, 0},
		{"go-http", "gohttp", "runtime.execute;runtime.schedule", "exact GET http_route=/work/{id}", 0, 0, 0, 0},
		{"go-http", "gohttp", "runtime.findRunnable;runtime.schedule", "exact GET http_route=/work/{id}", 0, 1, 1, 0},
		{"go-http", "gohttp", "net/http.(*conn).serve", "exact GET http_route=/work/{id}", 0, 0, 0, 0},
		{"grpc-go", "grpcserver", "main.workD", "exact rpc_method=fleetprof.test.Shop/Files rpc_system_name=grpc", 1, 0, 1, 0},
		{"grpc-go", "grpcserver", "main.workD", "exact rpc_method=/fleetprof.test.Shop/Files rpc_system_name=grpc", 0, 1, 1, 0},
	} {
		fields := strings.Fields(c.labels)
		sample := &profile.Sample{
			Value: []int64{1, 1},
			Label: map[string][]string{"thread_name": {c.thread}, "request_attribution": {fields[0]}},
		}
		for name := range strings.SplitSeq(c.function, ";") { // innermost first
			sample.Location = append(sample.Location, &profile.Location{Line: []profile.Line{{Function: &profile.Function{Name: name}}}})
		}
		for _, field := range fields[1:] {
			name, value, is := strings.Cut(field, "=")
			if !is {
				name, value = "http_request_method", field
			}
			sample.Label[name] = []string{value}
		}
		v := newHandlerVerdict()
		v.hold(handlerServerNamed(c.server), sample)
		if claimed := v.claimed[fields[0]]; v.right != c.right || v.wrong[fields[0]] != c.wrong || claimed != c.claimed || int64(len(v.secrets)) != c.secret {
			t.Errorf("%+v: right %d, wrong %v, claimed %d, secrets %v", c, v.right, v.wrong, claimed, v.secrets)
		}
	}
}
