// SPDX-License-Identifier: Apache-2.0

package exemplars_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/exemplars"
	"github.com/fleetprof/fleetprof/server/profiletest"
)

var start = time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)

func TestDecode(t *testing.T) {
	want := []sample.Exemplar{
		profiletest.Exemplar(1, start, map[string]string{"service_name": "shop", "url_template": "/{id}"}),
		profiletest.Exemplar(2, start.Add(time.Second), nil),
	}
	want[1].CPU, want[1].StatusClass, want[1].Sampled = nil, "", true
	d, err := exemplars.Decode(profiletest.Document(t, start, want...))
	if err != nil || d.Duration != profiletest.Duration || !d.Start.Equal(start) || !reflect.DeepEqual(d.Exemplars, want) {
		t.Errorf("%v %+v, want %+v", err, d, want)
	}
}

// A full window of long labels is within the bounds.
func TestDecodeLargest(t *testing.T) {
	long := map[string]string{
		"host_name": strings.Repeat("h", 64), "service_name": strings.Repeat("s", 255),
		"http_request_method": "DELETE", "http_route": strings.Repeat("/{segment}", 12), "url_template": strings.Repeat("x", 512),
	}
	all := make([]sample.Exemplar, sample.MaxExemplars)
	for i := range all {
		all[i] = profiletest.Exemplar(1, start, long)
	}
	if _, err := exemplars.Decode(profiletest.Document(t, start, all...)); err != nil {
		t.Error(err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	changed := func(f func(e *sample.Exemplar)) []byte {
		e := profiletest.Exemplar(1, start, map[string]string{})
		f(&e)
		return profiletest.Document(t, start, e)
	}
	negative := -time.Second
	raw := func(text string) []byte { return profiletest.GzipJSON(t, json.RawMessage(text)) }
	const id = `"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7"`
	window := func(one string) []byte { return raw(`{"duration_ns":1,"exemplars":[` + one + `]}`) }
	if _, err := exemplars.Decode(window("{" + id + "}")); err != nil {
		t.Error(err)
	}
	for name, gz := range map[string][]byte{
		"no gzip":         []byte("{}"),
		"truncated":       raw("{}")[:12],
		"no JSON":         raw(`"text"`),
		"no duration":     raw(`{"exemplars":[]}`),
		"no ids":          window("{}"),
		"zero id":         window(`{"trace_id":"00000000000000000000000000000000","span_id":"00f067aa0ba902b7"}`),
		"upper case":      window("{" + strings.ToUpper(id) + "}"),
		"short id":        window("{" + strings.Replace(id, "4bf9", "", 1) + "}"),
		"negative time":   changed(func(e *sample.Exemplar) { e.Duration = negative }),
		"negative CPU":    changed(func(e *sample.Exemplar) { e.CPU = &negative }),
		"too many":        window(strings.Repeat("{"+id+"},", sample.MaxExemplars) + "{" + id + "}"),
		"too many values": window(strings.Repeat("{},", 100_000) + "{}"),
		"bomb":            raw(`"` + strings.Repeat("0", 4<<20) + `"`),
		"too many labels": changed(func(e *sample.Exemplar) {
			for i := range 33 {
				e.Labels[fmt.Sprint(i)] = ""
			}
		}),
	} {
		if d, err := exemplars.Decode(gz); err == nil {
			t.Errorf("%s is accepted as %+v", name, d)
		}
	}
}

// Whatever is accepted can be encoded and is then accepted as the same.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"start":"2026-11-22T13:00:00Z","duration_ns":1,"exemplars":[{"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","cpu_ns":1,"labels":{"a":"b"}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var gz bytes.Buffer
		w := gzip.NewWriter(&gz)
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		d, err := exemplars.Decode(gz.Bytes())
		if err != nil {
			return
		}
		again, err := exemplars.Decode(profiletest.GzipJSON(t, d))
		if err != nil || len(again.Exemplars) != len(d.Exemplars) {
			t.Errorf("%+v is read as %+v: %v", d, again, err)
		}
	})
}
