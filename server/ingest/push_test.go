// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
	"github.com/fleetprof/fleetprof/wire"
)

// agent is one end of a session.
type agent struct {
	t *testing.T
	*wire.Encoder
}

func newAgent(t *testing.T) *agent {
	e, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	return &agent{t, e}
}

func (a *agent) encode(samples ...profiletest.Sample) []byte {
	a.t.Helper()
	var b bytes.Buffer
	if err := profiletest.New(time.Now().Add(-time.Minute), samples...).WriteUncompressed(&b); err != nil {
		a.t.Fatal(err)
	}
	p, err := columns.Decode(b.Bytes())
	if err != nil {
		a.t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	body, err := a.Encode(p, wire.ID(sum[:16]))
	if err != nil {
		a.t.Fatal(err)
	}
	return body
}

func sampleOf(host string) profiletest.Sample {
	return profiletest.Sample{Stack: "main;work", Labels: map[string]string{"host_name": host}, Count: 2}
}

// TestPush has two agents whose pushes come in turns.
func TestPush(t *testing.T) {
	s := &shelf{}
	h, r := newHandler(t, s)
	a, b := newAgent(t), newAgent(t)
	for range 3 {
		for name, x := range map[string]*agent{"a": a, "b": b} {
			if w := postTo(h, wire.Path, x.encode(sampleOf(name))); w.Code != http.StatusNoContent {
				t.Fatalf("answer is %d %s", w.Code, w.Body)
			}
			x.Commit()
		}
	}
	wantTotals(t, s, map[string]int64{
		"cpu samples/count host_name=a": 6, "cpu cpu/nanoseconds host_name=a": 6 * profiletest.Period,
		"cpu samples/count host_name=b": 6, "cpu cpu/nanoseconds host_name=b": 6 * profiletest.Period,
	})
	wantResult(t, r, "push", "stored", 6)
}

// TestPushNotStored has a store that takes nothing for a while. The session goes on after it.
func TestPushNotStored(t *testing.T) {
	s := &shelf{}
	h, r := newHandler(t, s)
	a := newAgent(t)
	for i, err := range []error{store.ErrFull, nil, store.ErrFull, nil} {
		s.err = err
		w := postTo(h, wire.Path, a.encode(sampleOf(fmt.Sprint(i))))
		if err == nil {
			a.Commit()
		} else {
			a.Rollback()
		}
		if (w.Code == http.StatusNoContent) != (err == nil) || w.Code == http.StatusConflict {
			t.Errorf("push %d: answer is %d %s", i, w.Code, w.Body)
		}
	}
	if len(s.profiles) != 2 {
		t.Errorf("%d profiles are stored", len(s.profiles))
	}
	wantResult(t, r, "push", "disk_full", 2)
}

func TestPushRefuses(t *testing.T) {
	zip, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	good := newAgent(t).encode(sampleOf("a"))
	raw, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := raw.DecodeAll(good, nil)
	if err != nil {
		t.Fatal(err)
	}
	later := bytes.Clone(plain)
	later[20]++ // the sequence number
	long := newAgent(t).encode(profiletest.Sample{Stack: "main", Labels: map[string]string{"l": strings.Repeat("x", 5000)}, Count: 1})
	for name, c := range map[string]struct {
		body []byte
		code int
		want string
	}{
		"empty":      {nil, 400, "it begins with"},
		"not zstd":   {[]byte("x"), 400, "unpack push"},
		"cut":        {good[:len(good)-3], 400, "unpack push"},
		"cut inside": {zip.EncodeAll(plain[:len(plain)-3], nil), 400, "it ends too early"},
		"more":       {zip.EncodeAll(append(bytes.Clone(plain), 1), nil), 400, "bytes follow"},
		"other":      {zip.EncodeAll([]byte("fpw\x09 and more than thirty-seven bytes of it"), nil), 400, "it begins with"},
		"bomb":       {zip.EncodeAll(make([]byte, wire.MaxBytes+1), nil), 413, "does not fit"},
		"large":      {make([]byte, wire.MaxBody+1), 413, "in the request"},
		"unknown":    {zip.EncodeAll(later, nil), 409, "this one is unknown"},
		"label":      {long, 400, "the value of l has 5000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shelf{}
			h, _ := newHandler(t, s)
			if w := postTo(h, wire.Path, c.body); w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("answer is %d %.300s, want %d %s", w.Code, w.Body, c.code, c.want)
			}
			if len(s.profiles) > 0 {
				t.Error("it is stored")
			}
		})
	}
}
