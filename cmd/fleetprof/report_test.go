// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/server/profiletest"
)

var update = flag.Bool("update", false, "write testdata/query anew")

// servedWindow is that of agents that look at requests, and one sample that an
// agent lost.
func servedWindow() *profile.Profile {
	labels := func(pairs ...string) map[string]string {
		m := map[string]string{"host_name": "a"}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	const exe, att, method, route = "process_executable_name", "request_attribution", "http_request_method", "http_route"
	return profiletest.New(time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC),
		profiletest.Sample{Stack: "main;cart", Count: 57, Labels: labels(exe, "checkout", att, "exact", method, "GET", route, "/cart/{id}")},
		profiletest.Sample{Stack: "main;child", Count: 19, Labels: labels(exe, "checkout", att, "inferred", method, "GET", route, "/cart/{id}")},
		profiletest.Sample{Stack: "main;cart", Count: 7, Labels: labels(exe, "checkout", att, "exact", method, "POST", route, "/cart/{id}")},
		profiletest.Sample{Stack: "main;item", Count: 30, Labels: labels(exe, "inventory", att, "exact", "rpc_method", "acme.shop.v1.Shop/GetItem", "rpc_system_name", "grpc")},
		profiletest.Sample{Stack: "main;send", Count: 11, Labels: labels(exe, "nginx", att, "inferred", method, "GET", "url_template", "/static/{hash}.css")},
		profiletest.Sample{Stack: "main;poll", Count: 23, Labels: labels(exe, "nginx", att, "ambiguous")},
		profiletest.Sample{Stack: "main", Count: 13, Labels: labels(exe, "bash", att, "unattributed")},
		profiletest.Sample{Stack: "gc", Count: 5, Labels: labels(exe, "checkout", att, "runtime")},
		profiletest.Sample{Stack: "[lost samples]", Count: 2, Labels: labels()},
	)
}

// olderWindow is the same window from agents that do not look at requests.
func olderWindow() *profile.Profile {
	p := servedWindow()
	for _, s := range p.Sample {
		for name := range s.Label {
			if name != "host_name" && name != "process_executable_name" {
				delete(s.Label, name)
			}
		}
	}
	return p
}

// What `query --by` prints; the name of a case is that of its file in
// testdata/query.
func TestQueryBy(t *testing.T) {
	for name, c := range map[string]struct {
		profile *profile.Profile
		by      string
		lines   int
	}{
		"by-http_route":           {servedWindow(), "http_route", 40},
		"by-handler":              {servedWindow(), "handler", 40},
		"by-route-and-method":     {servedWindow(), "http_route,http_request_method", 40},
		"by-handler-three-lines":  {servedWindow(), "process_executable_name,handler", 3},
		"by-executable-older":     {olderWindow(), "process_executable_name", 40},
		"by-executable-older-two": {olderWindow(), "process_executable_name", 2},
		"by-http_route-older":     {olderWindow(), "http_route", 40},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := newReport(c.profile)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := r.by(&got, strings.Split(c.by, ","), c.lines); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "query", name+".txt")
			if *update {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got.String(), want)
			}
		})
	}
}

// A program may choose any text for a label: it must not reach the terminal as
// commands, nor break a row in two.
func TestQueryByShowsForeignTextAsText(t *testing.T) {
	p := servedWindow()
	p.Sample[0].Label["http_route"] = []string{"/a\nb\x1b[2J"}
	r, err := newReport(p)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := r.by(&got, []string{"http_route", "host_name"}, 40); err != nil {
		t.Fatal(err)
	}
	if text := got.String(); !strings.Contains(text, "  /a�b�[2J    a\n") {
		t.Errorf("got\n%s", text)
	}
}

func TestQueryHandler(t *testing.T) {
	labels := map[string][]string{
		"http_request_method": {"GET"}, "url_template": {"/{number}"}, "http_route": {"/{id}"}, "rpc_method": {"S/M"},
	}
	for _, c := range []struct{ without, want string }{
		{"", "S/M"}, {"rpc_method", "GET /{id}"}, {"http_route", "GET /{number}"},
		{"http_request_method", "/{number}"}, {"url_template", ""},
	} {
		delete(labels, c.without)
		if got := labelValue(&profile.Sample{Label: labels}, handlerLabel); got != c.want {
			t.Errorf("without %q: %q, want %q", c.without, got, c.want)
		}
	}
}

// Code that the store does not know by name is listed by file and offset.
func TestQueryOfUnnamedCode(t *testing.T) {
	p := servedWindow()
	for _, l := range p.Location {
		if l.Line[0].Function.Name == "cart" {
			l.Line = nil
			l.Address = l.Mapping.Start + 0x234
		}
		if l.Line != nil && l.Line[0].Function.Name == "item" {
			l.Line, l.Mapping, l.Address = nil, nil, 0x99
		}
	}
	r, err := newReport(p)
	if err != nil {
		t.Fatal(err)
	}
	var top, folded bytes.Buffer
	if err := errors.Join(r.top(&top, 10), r.folded(&folded)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"main;program+0x1234 64\n", "main;[unknown]+0x99 30\n"} {
		if !strings.Contains(folded.String(), want) {
			t.Errorf("no %q in\n%s", want, &folded)
		}
	}
	if !strings.Contains(top.String(), "program+0x1234") {
		t.Errorf("not listed in\n%s", &top)
	}
}
