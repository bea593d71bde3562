// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
)

// Exemplars lie beside profiles, are found on their own, also after the store was
// opened anew, and count against the same bounds.
func TestExemplars(t *testing.T) {
	dir := t.TempDir()
	start := time.Now().Add(-time.Hour)
	s := open(t, dir, store.Options{})
	p := profiletest.New(start, profiletest.Sample{Stack: "main", Count: 1})
	s.mustAppend(p)
	const window = 10 * time.Second
	for range 2 {
		if err := s.PutExemplars(t.Context(), start, start.Add(window), []byte("exemplars")); err != nil {
			t.Fatal(err)
		}
	}
	check := func(s *opened) {
		t.Helper()
		s.want(truth(p))
		found := s.SelectExemplars(start, start.Add(window))
		if len(found) != 1 || s.metric("profiles", "") != 1 || s.metric("exemplars", "") != 1 {
			t.Fatalf("%d documents of exemplars", len(found))
		}
		if text, err := s.Read(found[0]); err != nil || string(text) != "exemplars" {
			t.Errorf("exemplars are %q, %v", text, err)
		}
		if n := len(s.SelectExemplars(start.Add(time.Minute), start.Add(time.Hour))); n != 0 {
			t.Errorf("%d of another time", n)
		}
	}
	check(s)
	if s.metric("duplicates_total", "") != 1 {
		t.Error("exemplars put again were not recognised")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, store.Options{})
	check(s)
	if names := files(t, dir+"/exemplars"); len(names) != 1 || !strings.HasSuffix(names[0], ".exemplars.json.gz") {
		t.Errorf("files are %q", names)
	}
	s.Trim(time.Now().Add(store.DefaultMaxAge))
	if left := files(t, dir+"/exemplars"); len(left) != 0 {
		t.Errorf("%q are left", left)
	}
}
