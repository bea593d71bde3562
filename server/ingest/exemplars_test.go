// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/server/exemplars"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
)

func TestExemplars(t *testing.T) {
	s := new(shelf)
	h, r := newHandler(t, s)
	start := time.Now().Add(-time.Minute)
	good := profiletest.Document(t, start, profiletest.Exemplar(1, start, nil))
	late := start.Add(3 * time.Hour)
	for _, c := range []struct {
		name string
		body []byte
		err  error
		code int
		want string
	}{
		{"good", good, nil, 204, ""},
		{"empty", nil, nil, 400, "unpack gzip"},
		{"another thing", profiletest.GzipJSON(t, []int{1}), nil, 400, "decode exemplars"},
		{"large", make([]byte, exemplars.MaxCompressed+1), nil, 413, "in the request"},
		{"future", profiletest.Document(t, late, profiletest.Exemplar(1, late, nil)), nil, 400, "set the clocks"},
		{"refused", good, store.ErrRefused, 400, "refused"},
		{"full", good, store.ErrFull, 507, "no space"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.err = c.err
			w := postTo(h, "/api/v1/exemplars", c.body)
			if w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("answer is %d %q, want %d and %q", w.Code, w.Body, c.code, c.want)
			}
		})
	}
	if len(s.exemplars) != 1 || !bytes.Equal(s.exemplars[0].gz, good) || !s.exemplars[0].start.Equal(start) || s.exemplars[0].end.Sub(start) != profiletest.Duration || len(s.profiles) > 0 {
		t.Errorf("%d documents are stored, %d profiles", len(s.exemplars), len(s.profiles))
	}
	expect := `# HELP fleetprof_ingest_exemplars_total Documents of exemplars that arrived, by what became of them.
# TYPE fleetprof_ingest_exemplars_total counter
fleetprof_ingest_exemplars_total{result="disk_full"} 1
fleetprof_ingest_exemplars_total{result="invalid"} 4
fleetprof_ingest_exemplars_total{result="stored"} 1
fleetprof_ingest_exemplars_total{result="too_large"} 1
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(expect), "fleetprof_ingest_exemplars_total"); err != nil {
		t.Error(err)
	}
}
