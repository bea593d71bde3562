// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/query"
)

// exemplars asks for some and gives the last bytes of their trace ids.
func (f *fixture) exemplars(params ...string) (ids []byte, more bool, skipped int) {
	f.t.Helper()
	resp, body := f.get("/api/v1/exemplars", params...)
	var answer struct {
		Status  string
		Data    []sample.Exemplar
		More    bool
		Skipped int
	}
	if err := json.Unmarshal(body, &answer); err != nil || resp.StatusCode != http.StatusOK || answer.Status != "success" || answer.Data == nil {
		f.t.Fatalf("%v: %s %s: %v", params, resp.Status, body, err)
	}
	for _, e := range answer.Data {
		ids = append(ids, e.TraceID[15])
	}
	return ids, answer.More, answer.Skipped
}

func TestExemplars(t *testing.T) {
	f := newFixture(t, query.Options{})
	base := time.Now().Add(-time.Hour).Truncate(time.Second)
	put := func(start time.Time, gz []byte) {
		t.Helper()
		if err := f.store.PutExemplars(t.Context(), start, start.Add(profiletest.Duration), gz); err != nil {
			t.Fatal(err)
		}
	}
	for window := range 3 {
		start := base.Add(time.Duration(window) * time.Minute)
		put(start, profiletest.Document(t, start,
			profiletest.Exemplar(byte(10*window+1), start, map[string]string{"service_name": "shop", "http_route": "/cart"}),
			profiletest.Exemplar(byte(10*window+2), start.Add(time.Second), map[string]string{"service_name": "shop", "http_route": "/item"})))
	}
	from, to := fmt.Sprint(base.Unix()), fmt.Sprint(base.Add(time.Hour).Unix())
	for _, c := range []struct {
		params []string
		want   string
		more   bool
	}{
		{nil, "[22 21 12 11 2 1]", false},
		{[]string{"query", `{http_route="/item"}`}, "[22 12 2]", false},
		{[]string{"query", `{service_name!="shop"}`}, "[]", false},
		{[]string{"query", `{http_route="/cart"}`, "limit", "2"}, "[21 11]", true},
		{[]string{"limit", "3"}, "[22 21 12]", true},
		{[]string{"from", fmt.Sprint(base.Add(50 * time.Second).Unix()), "to", fmt.Sprint(base.Add(90 * time.Second).Unix())}, "[12 11]", false},
	} {
		ids, more, skipped := f.exemplars(append([]string{"from", from, "to", to}, c.params...)...)
		if got := fmt.Sprint(ids); got != c.want || more != c.more || skipped != 0 {
			t.Errorf("%v: %s, more %v, %d skipped; want %s, %v", c.params, got, more, skipped, c.want, c.more)
		}
	}
	put(base.Add(10*time.Minute), []byte("damaged"))
	for _, want := range []int{1, 0} { // it is not selected again
		if ids, _, skipped := f.exemplars("from", from, "to", to); len(ids) != 6 || skipped != want {
			t.Errorf("%d exemplars, %d skipped, want %d", len(ids), skipped, want)
		}
	}
	if resp, _ := f.get("/api/v1/pprof", "from", from, "to", to); resp.StatusCode != http.StatusNotFound {
		t.Errorf("exemplars count as profiles: %s", resp.Status)
	}
	for _, bad := range [][]string{{"limit", "0"}, {"limit", "10001"}, {"query", "{"}, {"last", "x"}} {
		if resp, body := f.get("/api/v1/exemplars", bad...); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%v: %s %s", bad, resp.Status, body)
		}
	}
}
