// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/sync/semaphore"
)

// Bodies that say how long they are take no more memory than that, wait for it as a whole,
// and give it back.
func TestGateHoldsBodies(t *testing.T) {
	const size = 100_000
	g := &gate{bodies: semaphore.NewWeighted(2 * size), unpacking: semaphore.NewWeighted(1)}
	post := func() *http.Request {
		return httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(make([]byte, size)))
	}
	read := func(ctx context.Context, r *http.Request) (func(), error) {
		body, leave, err := g.read(ctx, httptest.NewRecorder(), r, 10*size)
		if err == nil && len(body) != size {
			t.Errorf("the body has %d bytes, want %d", len(body), size)
		}
		return leave, err
	}
	var leaves []func()
	for range 2 {
		leave, err := read(t.Context(), post())
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leave)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	third, err := read(ended, post())
	if !errors.Is(err, errBusy) {
		t.Errorf("a third body is answered with %v, want %v", err, errBusy)
	}
	third()
	leaves[0]()
	chunked := post() // which does not say its length
	chunked.ContentLength = -1
	if leave, err := read(ended, chunked); !errors.Is(err, errBusy) {
		t.Errorf("a body that grows is answered with %v, want %v", err, errBusy)
	} else {
		leave()
	}
	short := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("short"))
	short.ContentLength = size
	leave, err := read(t.Context(), short)
	if !errors.Is(err, errCutOff) {
		t.Errorf("a body that ends early is answered with %v, want %v", err, errCutOff)
	}
	leave()
	leaves[1]()
	if !g.bodies.TryAcquire(2 * size) {
		t.Error("memory has not been given back")
	}
}
