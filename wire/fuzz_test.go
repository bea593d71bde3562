// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/wire"
)

// FuzzDecode has any bytes come as a push between two sound ones of a session. They are refused,
// or are a profile that goes through a session of its own unchanged; and once they are
// forgotten the next push is read as if they had never come.
func FuzzDecode(f *testing.F) {
	zip, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		f.Fatal(err)
	}
	unzip, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		f.Fatal(err)
	}
	x := newPair(f)
	encode := func(p *columns.Profile) *wire.Push {
		f.Helper()
		body, err := x.e.Encode(p, id(1))
		if err != nil {
			f.Fatal(err)
		}
		raw, err := unzip.DecodeAll(body, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(raw[:len(raw)/2])
		push, err := x.u.Unpack(body)
		if err != nil {
			f.Fatal(err)
		}
		return push
	}
	before := encode(decode(f, everything()))
	x.e.Commit()
	for _, p := range []*columns.Profile{decode(f, heap()), decode(f, profiletest.New(start)), decode(f, profiletest.Random(1, "a", start, 3))} {
		encode(p)
		x.e.Rollback()
	}
	want := decode(f, profiletest.Random(2, "a", start, 3))
	after := encode(want)
	f.Add([]byte("fpw\x01"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var s wire.Session
		if _, err := s.Decode(before); err != nil {
			t.Fatal(err)
		}
		s.Commit()
		if push, err := x.u.Unpack(zip.EncodeAll(raw, nil)); err == nil {
			if p, err := s.Decode(push); err == nil {
				got, _ := newPair(t).send(p, 1)
				wantSame(t, got, p)
			}
			s.Rollback()
		}
		got, err := s.Decode(after)
		if err != nil {
			t.Fatalf("the next push is refused: %v", err)
		}
		wantSame(t, got, want)
	})
}

// FuzzUnpack has any bytes come as the body of a push: they are refused, or all that
// they say is there, and the session stays within its limits.
func FuzzUnpack(f *testing.F) {
	x := newPair(f)
	body, err := x.e.Encode(decode(f, everything()), id(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add(body[:len(body)-1])
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		push, err := x.u.Unpack(body)
		if err != nil {
			return
		}
		var s wire.Session
		if p, err := s.Decode(push); err == nil {
			render(p)
		}
		if s.Size() > 3*wire.MaxSessionBytes {
			t.Errorf("the session takes %d bytes", s.Size())
		}
	})
}
