// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/sample"
)

// label is one of a program, of which so much as there is room for is in the record.
func label(key, value string) (l bpf.Label) {
	l.KeyLength, l.ValueLength = uint32(len(key)), uint32(len(value))
	copy(l.Key[:], key)
	copy(l.Value[:], value)
	return l
}

// labelsRecord has only as many labels as there are.
func labelsRecord(t *testing.T, all ...bpf.Label) []byte {
	t.Helper()
	h := bpf.Labels{Kind: bpf.RecordLabels, Cpu: 5, TimeNs: 1, Count: uint16(len(all))}
	return encode(t, encode(t, h)[:bpf.LabelsBytes], all)
}

// Labels come before their tick; those that are not whole, or empty, are none.
func TestDecodeLabels(t *testing.T) {
	record := labelsRecord(t,
		label("http.route", "/a"), label("cut", strings.Repeat("v", 129)), label(strings.Repeat("k", 33), "cut"),
		label("", "no key"), label("no value", ""), label(strings.Repeat("k", 32), strings.Repeat("v", 128)))
	got := decodeAll(t, newDecoder(), record, encode(t, testTick(0), testFrames))
	want := []sample.Attribute{{Key: "http.route", Value: "/a"}, {Key: strings.Repeat("k", 32), Value: strings.Repeat("v", 128)}}
	if !slices.Equal(got.Published, want) {
		t.Errorf("got %v, want %v", got.Published, want)
	}
	later := testTick(0)
	later.TimeNs++
	if got := decodeAll(t, newDecoder(), record, encode(t, later, testFrames)); got.Published != nil {
		t.Errorf("another tick has %v", got.Published)
	}
}

func TestDecodeContext(t *testing.T) {
	h := bpf.Attributes{Kind: bpf.RecordContext, Cpu: 5, TimeNs: 1, Named: 9, Bytes: 4}
	record := encode(t, encode(t, h)[:bpf.AttributesBytes], []byte("abcd"))
	if got := decodeAll(t, newDecoder(), record, encode(t, testTick(0), testFrames)); string(got.attributes.data) != "abcd" || got.attributes.named != 9 {
		t.Errorf("got %v", got.attributes)
	}
	whole := labelsRecord(t, label("a", "b"), label("c", "d"))
	for name, record := range map[string][]byte{
		"cut attributes": record[:len(record)-1], "cut head of attributes": record[:bpf.AttributesBytes-1],
		"cut labels": whole[:len(whole)-1], "cut head of labels": whole[:bpf.LabelsBytes-1],
	} {
		if _, ok, err := newDecoder().decode(record); ok || !errors.As(err, new(malformed)) {
			t.Errorf("%s: error %v, want malformed", name, err)
		}
	}
}
