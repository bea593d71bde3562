// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/wire"
)

var start = time.Date(2026, 11, 22, 13, 0, 0, 123456789, time.UTC)

func decode(t testing.TB, p *profile.Profile) *columns.Profile {
	t.Helper()
	var b bytes.Buffer
	if err := p.WriteUncompressed(&b); err != nil {
		t.Fatal(err)
	}
	c, err := columns.Decode(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func id(n int) wire.ID {
	sum := sha256.Sum256(fmt.Append(nil, n))
	return wire.ID(sum[:16])
}

// render writes each sample as text, with all that its locations say, and sums up equal
// ones.
func render(p *columns.Profile) map[string][]int64 {
	sums := map[string][]int64{}
	for i := range p.Len() {
		var b strings.Builder
		for _, l := range p.Stack(i) {
			loc := p.Locations[l]
			if loc.Mapping != 0 {
				m := p.Mappings[loc.Mapping-1]
				fmt.Fprintf(&b, "[%x %x %x %s %s %04b]", m.Start, m.Limit, m.Offset, p.Strings[m.File], p.Strings[m.BuildID], m.Resolved)
			}
			fmt.Fprintf(&b, "%x %v", loc.Address, loc.Folded)
			for _, line := range p.LocationLines(int(l)) {
				f := p.Functions[line.Function]
				fmt.Fprintf(&b, " %s|%s|%s|%d:%d:%d", p.Strings[f.Name], p.Strings[f.SystemName], p.Strings[f.File], f.StartLine, line.Line, line.Column)
			}
			b.WriteByte('\n')
		}
		for _, l := range p.Labels(int(p.LabelSet[i])) {
			fmt.Fprintf(&b, " %s=%s%d%s", p.Strings[l.Key], p.Strings[l.Text], l.Number, p.Strings[l.Unit])
		}
		sum := sums[b.String()]
		for t, column := range p.Values {
			if sum == nil {
				sum = make([]int64, len(p.Values))
			}
			sum[t] += column[i]
		}
		sums[b.String()] = sum
	}
	return sums
}

func wantSame(t testing.TB, got, want *columns.Profile) {
	t.Helper()
	if g, w := render(got), render(want); !maps.EqualFunc(g, w, slices.Equal[[]int64]) {
		t.Fatalf("samples differ:\n got %v\nwant %v", g, w)
	}
	types := func(p *columns.Profile) (s string) {
		for _, v := range append([]columns.ValueType{p.PeriodType}, p.Types...) {
			s += p.Strings[v.Type] + "/" + p.Strings[v.Unit] + " "
		}
		for _, c := range p.Comments {
			s += p.Strings[c]
		}
		return fmt.Sprint(s, p.Name, p.Start, p.Duration, p.Period)
	}
	if types(got) != types(want) {
		t.Fatalf("head is %s, want %s", types(got), types(want))
	}
}

// everything has each field that columns.Profile keeps.
func everything() *profile.Profile {
	p := profiletest.New(start,
		profiletest.Sample{Stack: "main;libc.so.6!work", Labels: map[string]string{"host_name": "a", "thread_name": "größe", "empty": ""}, Count: 3},
		profiletest.Sample{Stack: "main", Count: 0},
		profiletest.Sample{Stack: "main", Count: 1 << 20},
	)
	p.Comments = []string{"a remark"}
	inlined := p.Location[0]
	inlined.Line = append(inlined.Line, profile.Line{Function: p.Function[1], Line: -7, Column: 9})
	inlined.IsFolded = true
	bare := &profile.Location{ID: 99, Address: math.MaxUint64}
	p.Location = append(p.Location, bare)
	p.Sample = append(p.Sample, &profile.Sample{
		Location: []*profile.Location{bare}, Value: []int64{1, 1},
		NumLabel: map[string][]int64{"bytes": {-5}}, NumUnit: map[string][]string{"bytes": {"bytes"}},
	}, &profile.Sample{Value: []int64{1, 2}})
	return p
}

func heap() *profile.Profile {
	p := profiletest.New(start, profiletest.Sample{Stack: "main;alloc", Count: 3}, profiletest.Sample{Stack: "main", Count: 5})
	p.SampleType = []*profile.ValueType{{Type: "inuse_objects", Unit: "count"}, {Type: "inuse_space", Unit: "bytes"}}
	p.PeriodType, p.Period, p.DurationNanos = &profile.ValueType{Type: "space", Unit: "bytes"}, 524288, 0
	return p
}

// pair is both ends of a session.
type pair struct {
	t testing.TB
	e *wire.Encoder
	u *wire.Unpacker
	s wire.Session
}

func newPair(t testing.TB) *pair {
	e, err := wire.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	u, err := wire.NewUnpacker()
	if err != nil {
		t.Fatal(err)
	}
	return &pair{t: t, e: e, u: u}
}

// send takes a profile from one end to the other, and gives the bytes it took.
func (x *pair) send(p *columns.Profile, n int) (got *columns.Profile, size int) {
	x.t.Helper()
	body, err := x.e.Encode(p, id(n))
	if err != nil {
		x.t.Fatal(err)
	}
	push, err := x.u.Unpack(body)
	if err != nil {
		x.t.Fatal(err)
	}
	if push.Profile != id(n) {
		x.t.Fatalf("the profile is called %x", push.Profile)
	}
	if push.Sequence == 0 {
		x.s = wire.Session{}
	}
	if got, err = x.s.Decode(push); err != nil {
		x.t.Fatal(err)
	}
	x.e.Commit()
	x.s.Commit()
	return got, len(body)
}

func TestRoundTrip(t *testing.T) {
	x := newPair(t)
	for n, p := range []*profile.Profile{
		everything(), heap(), profiletest.New(start), profiletest.Random(1, "a", start, 200), everything(), profiletest.Random(1, "a", start.Add(time.Minute), 200),
		profiletest.Random(2, "a", start, 200),
	} {
		want := decode(t, p)
		got, _ := x.send(want, n)
		wantSame(t, got, want)
	}
}

// What was sent before is not sent again, in whatever order it comes.
func TestKnownIsSmall(t *testing.T) {
	x := newPair(t)
	first := profiletest.Random(1, "a", start, 2000)
	_, whole := x.send(decode(t, first), 1)
	again := profiletest.Random(1, "a", start.Add(10*time.Second), 2000)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(again.Sample), func(i, j int) { again.Sample[i], again.Sample[j] = again.Sample[j], again.Sample[i] })
	_, known := x.send(decode(t, again), 2)
	if known > 15*2000 || known*5 > whole {
		t.Errorf("2,000 known samples take %d bytes, new ones %d", known, whole)
	}
	t.Logf("2,000 samples: %d bytes at first, then %d; gzip %d", whole, known, len(profiletest.Gzip(t, first)))
}

func TestRollback(t *testing.T) {
	x := newPair(t)
	one, two := decode(t, profiletest.Random(1, "a", start, 50)), decode(t, profiletest.Random(2, "a", start, 50))
	x.send(one, 1)
	for range 3 {
		body, err := x.e.Encode(two, id(2))
		if err != nil {
			t.Fatal(err)
		}
		push, err := x.u.Unpack(body)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.s.Decode(push); err != nil {
			t.Fatal(err)
		}
		x.s.Rollback()
		x.e.Rollback()
	}
	got, _ := x.send(two, 2)
	wantSame(t, got, two)
	// Taken, but the answer is lost.
	body, _ := x.e.Encode(one, id(3))
	push, _ := x.u.Unpack(body)
	if _, err := x.s.Decode(push); err != nil {
		t.Fatal(err)
	}
	x.s.Commit()
	x.e.Rollback()
	body, _ = x.e.Encode(one, id(3))
	push, _ = x.u.Unpack(body)
	if _, err := x.s.Decode(push); !errors.Is(err, wire.ErrSequence) {
		t.Fatalf("error is %v, want that of a wrong sequence", err)
	}
	x.e.Rollback()
	x.e.Reset()
	got, _ = x.send(one, 3)
	wantSame(t, got, one)
}

// A session that is full ends, and the next begins with the same profile.
func TestFullSessionBeginsAnew(t *testing.T) {
	x := newPair(t)
	sessions := map[wire.ID]bool{}
	for n := range 6 {
		long := strings.Repeat(string(rune('a'+n)), wire.MaxSessionBytes/3)
		want := decode(t, profiletest.New(start, profiletest.Sample{Stack: "main", Labels: map[string]string{"long": long}, Count: 1}))
		body, err := x.e.Encode(want, id(n))
		if err != nil {
			t.Fatal(err)
		}
		push, err := x.u.Unpack(body)
		if err != nil {
			t.Fatal(err)
		}
		sessions[push.Session] = true
		x.e.Rollback()
		got, _ := x.send(want, n)
		wantSame(t, got, want)
	}
	if len(sessions) != 3 {
		t.Errorf("%d sessions, want 3", len(sessions))
	}
}

func TestTooLarge(t *testing.T) {
	x := newPair(t)
	p := profiletest.New(start, profiletest.Sample{Stack: strings.Repeat("x", wire.MaxSessionBytes), Count: 1})
	if _, err := x.e.Encode(decode(t, p), id(1)); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("error is %v", err)
	}
	want := decode(t, everything())
	got, _ := x.send(want, 1)
	wantSame(t, got, want)
}
