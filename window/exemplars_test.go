// SPDX-License-Identifier: Apache-2.0

package window

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// The document is what docs/requests.md says it is.
func TestExemplars(t *testing.T) {
	e := Encoding{Host: "a\xffb"}
	c := NewCollector(start)
	w := c.Cut(start.Add(10 * time.Second))
	if gz, err := e.Exemplars(w, nil); gz != nil || err != nil {
		t.Errorf("no exemplars are %q, %v", gz, err)
	}
	cpu := 20 * time.Millisecond
	later := sample.Exemplar{TraceID: sample.TraceID{15: 2}, SpanID: sample.SpanID{7: 0xb}, Start: start.Add(time.Second), Duration: 3, Labels: map[string]string{}}
	first := sample.Exemplar{
		TraceID: sample.TraceID{0xa, 15: 1}, SpanID: sample.SpanID{1}, Sampled: true, Start: start.Add(time.Millisecond), Duration: time.Second,
		CPU: &cpu, StatusClass: "5xx", Labels: map[string]string{"service_name": "shop", "http_route": "/cart"},
	}
	gz, err := e.Exemplars(w, []sample.Exemplar{later, first})
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(gz))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	at := func(d time.Duration) string {
		text, err := json.Marshal(start.Add(d))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	want := `{"start":` + at(0) + `,"duration_ns":10000000000,"exemplars":[` +
		`{"trace_id":"0a000000000000000000000000000001","span_id":"0100000000000000","sampled":true,"start":` + at(time.Millisecond) +
		`,"duration_ns":1000000000,"cpu_ns":20000000,"status_class":"5xx","labels":{"host_name":"a�b","http_route":"/cart","service_name":"shop"}},` +
		`{"trace_id":"00000000000000000000000000000002","span_id":"000000000000000b","sampled":false,"start":` + at(time.Second) +
		`,"duration_ns":3,"labels":{"host_name":"a�b"}}]}` + "\n"
	if string(text) != want {
		t.Errorf("the document is\n%swant\n%s", text, want)
	}
}
