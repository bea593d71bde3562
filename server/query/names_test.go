// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/query"
)

// book names code by build ID and address, if the mapping begins where it says.
type book map[string]map[uint64][]sample.Frame

func (b book) Known(id string) bool { return b[id] != nil }

func (b book) Name(id, path string, start, address uint64) ([]sample.Frame, bool) {
	if path == "" || start == 0 {
		return nil, false
	}
	frames, ok := b[id][address]
	return frames, ok
}

// unname takes the names of objects off a profile, and gives a book with all of them.
func unname(p *profile.Profile, objects ...string) book {
	b := book{}
	for _, l := range p.Location {
		m := l.Mapping
		if !slices.ContainsFunc(objects, func(o string) bool { return strings.HasSuffix(m.File, "/"+o) }) {
			continue
		}
		if b[m.BuildID] == nil {
			b[m.BuildID] = map[uint64][]sample.Frame{}
		}
		for _, line := range l.Line {
			f := line.Function
			b[m.BuildID][l.Address] = append(b[m.BuildID][l.Address], sample.Frame{Function: f.Name, SystemName: f.SystemName, File: f.Filename, Line: line.Line})
		}
		l.Line = nil
		m.HasFunctions, m.HasFilenames, m.HasLineNumbers = false, false, false
	}
	return b
}

func named() *profile.Profile {
	return profiletest.New(base,
		profiletest.Sample{Stack: "shop!main;shop!price;libm.so!sqrt", Labels: map[string]string{"host_name": "a"}, Count: 3},
		profiletest.Sample{Stack: "shop!main;shop!stock", Labels: map[string]string{"host_name": "b"}, Count: 2},
	)
}

// One host names its code and another leaves it to the store: they are one graph, and one profile. What
// the store does not know is shown by file and offset.
func TestNamesByTheStore(t *testing.T) {
	away := named()
	names := unname(away, "shop", "libm.so")
	sqrt := away.Sample[0].Location[0]
	delete(names, sqrt.Mapping.BuildID)
	unknown := fmt.Sprintf("libm.so!libm.so+%#x", sqrt.Address-sqrt.Mapping.Start+sqrt.Mapping.Offset)
	for form, put := range forms {
		t.Run(form, func(t *testing.T) {
			f := newFixture(t, query.Options{Names: names})
			put(f, []*profile.Profile{named(), away})
			equalLines(t, f.flame("from", at(0), "to", at(profiletest.Duration)).paths(t), []string{
				"all 10 0",
				"all;shop!main 10 0",
				"all;shop!main;shop!price 6 0",
				"all;shop!main;shop!price;" + unknown + " 3 3",
				"all;shop!main;shop!price;libm.so!sqrt 3 3",
				"all;shop!main;shop!stock 4 4",
			})
			_, body := f.get("/api/v1/diff", "from", at(0), "to", at(profiletest.Duration), "base_query", `{host_name="b"}`)
			var d struct{ Names []string }
			if err := json.Unmarshal(body, &d); err != nil || !slices.Contains(d.Names, "stock") || slices.ContainsFunc(d.Names, func(s string) bool { return strings.HasPrefix(s, "shop+") }) {
				t.Errorf("the difference has %q, want names: %v", d.Names, err)
			}
			p := f.pprof("from", at(0), "to", at(profiletest.Duration))
			for _, l := range p.Location {
				// pprof would ask the server for names of mappings that have none.
				if len(l.Line) == 0 || !l.Mapping.HasFunctions {
					t.Errorf("%+v of %+v has no name", l, l.Mapping)
				}
			}
			functions := map[string]bool{}
			for _, fn := range p.Function {
				functions[fn.Name] = true
			}
			unknown := strings.TrimPrefix(unknown, "libm.so!")
			if want := map[string]bool{"main": true, "price": true, "stock": true, "sqrt": true, unknown: true}; !maps.Equal(functions, want) {
				t.Errorf("functions %v, want %v", functions, want)
			}
		})
	}
}

// slowBook takes long for each name.
type slowBook struct{}

func (slowBook) Known(string) bool { return true }

func (slowBook) Name(string, string, uint64, uint64) ([]sample.Frame, bool) {
	time.Sleep(20 * time.Millisecond)
	return []sample.Frame{{Function: "f"}}, true
}

// A query ends within its time whatever names take.
func TestNamesWithinTheTime(t *testing.T) {
	const locations = 200
	var samples []profiletest.Sample
	for i := range locations {
		samples = append(samples, profiletest.Sample{Stack: fmt.Sprintf("shop!f%d", i), Labels: map[string]string{"host_name": "a"}, Count: 1})
	}
	away := profiletest.New(base, samples...)
	unname(away, "shop")
	f := newFixture(t, query.Options{Names: slowBook{}, Timeout: 200 * time.Millisecond})
	f.put(away)
	begin := time.Now()
	if resp, body := f.get("/api/v1/flamegraph", "from", at(0), "to", at(profiletest.Duration)); resp.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("%s %s", resp.Status, body)
	}
	if took := time.Since(begin); took > locations*20*time.Millisecond/2 {
		t.Errorf("took %v", took)
	}
}
