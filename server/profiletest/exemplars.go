// SPDX-License-Identifier: Apache-2.0

package profiletest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// Exemplar is a request whose trace id ends in a number.
func Exemplar(id byte, start time.Time, labels map[string]string) sample.Exemplar {
	cpu := 20 * time.Millisecond
	return sample.Exemplar{
		TraceID: sample.TraceID{15: id}, SpanID: sample.SpanID{7: id}, Start: start.UTC(), Duration: 30 * time.Millisecond,
		CPU: &cpu, StatusClass: "2xx", Labels: labels,
	}
}

// Document makes the document of one window.
func Document(t testing.TB, start time.Time, all ...sample.Exemplar) []byte {
	t.Helper()
	return GzipJSON(t, sample.Exemplars{Start: start, Duration: Duration, Exemplars: all})
}

// GzipJSON compresses a value in JSON.
func GzipJSON(t testing.TB, v any) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if err := errors.Join(json.NewEncoder(w).Encode(v), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
