// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

func TestHuffman(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 100_000 {
		raw := make([]byte, random.IntN(40))
		for i := range raw {
			if raw[i] = byte(random.Uint32()); random.IntN(4) > 0 {
				raw[i] = "abcxyz/0129%"[random.IntN(12)]
			}
		}
		coded := hpack.AppendHuffmanString(nil, string(raw))
		if random.IntN(2) == 0 && len(coded) > 0 {
			coded[random.IntN(len(coded))] ^= 1 << random.IntN(8)
		}
		want, err := hpack.HuffmanDecodeToString(coded)
		got, n, ok := huffman(make([]byte, 0, 2*len(coded)), coded)
		if ok != (err == nil) || ok && (string(got) != want || n != len(want)) {
			t.Fatalf("%x: %q %d %v, want %q %v", coded, got, n, ok, want, err)
		}
		if none, counted, _ := huffman(nil, coded); len(none) > 0 || counted != n {
			t.Fatalf("%x: counted %d bytes, want %d", coded, counted, n)
		}
	}
}

// fieldsOf reads a block to its end.
func fieldsOf(table *table, block []byte) (all []entry, err error) {
	r := blockReader{table: table, rest: block}
	for {
		e, err := r.next()
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
}

// want is what should be kept of a field.
func wanted(f hpack.HeaderField) entry {
	k := kindOf(f.Name)
	return entry{k.value([]byte(f.Value)), uint32(len(f.Name)), uint32(len(f.Value)), k}
}

// The encoder and decoder of golang.org/x/net agree with ours, with tables of
// all sizes, and where blocks are damaged.
func TestHPACKAgreesWithAnother(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	refused := 0
	for range 500 {
		var block bytes.Buffer
		encoder, decoder := hpack.NewEncoder(&block), hpack.NewDecoder(4096, nil)
		encoder.SetMaxDynamicTableSizeLimit(maxTableSize)
		decoder.SetAllowedMaxDynamicTableSize(maxTableSize)
		var ours table
		ours.reset()
		for range 50 {
			block.Reset()
			if random.IntN(20) == 0 {
				encoder.SetMaxDynamicTableSize([]uint32{0, 40, 100, 500, 4096, 60000, maxTableSize}[random.IntN(7)])
			}
			for range 1 + random.IntN(12) {
				if err := encoder.WriteField(randomField(random)); err != nil {
					t.Fatal(err)
				}
			}
			raw := block.Bytes()
			if random.IntN(100) == 0 {
				raw[random.IntN(len(raw))] ^= 1 << random.IntN(8)
			}
			want, err := decoder.DecodeFull(raw)
			got, ourErr := fieldsOf(&ours, raw)
			if err != nil {
				refused++
				break // the two may see another error first
			}
			if ourErr != io.EOF || len(got) != len(want) {
				t.Fatalf("%x: %d fields, %v, want %d", raw, len(got), ourErr, len(want))
			}
			for i, f := range want {
				if got[i] != wanted(f) {
					t.Fatalf("%x: field %d is %+v, want %+v", raw, i, got[i], f)
				}
			}
		}
	}
	if refused < 20 {
		t.Errorf("%d damaged blocks were refused: the test tests nothing", refused)
	}
}

func randomField(random *rand.Rand) hpack.HeaderField {
	names := []string{":method", ":path", ":scheme", ":status", "content-type", "traceparent", "grpc-status", "x-long-name-of-a-header", "cookie", "a"}
	f := hpack.HeaderField{Name: names[random.IntN(len(names))], Sensitive: random.IntN(10) == 0}
	switch random.IntN(10) {
	case 0:
		f.Value = strings.Repeat("v", random.IntN(5000))
	case 1:
		f.Value = string([]byte{byte(random.Uint32()), byte(random.Uint32())})
	case 2:
		f.Name += fmt.Sprint("-", random.IntN(100))
	default:
		f.Value = fmt.Sprintf("/items/%d?q=%d", random.IntN(20), random.IntN(3))
	}
	return f
}

// After a gap every field is right or unknown, and more and more are right.
func TestHPACKAfterGap(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	known, unknown := 0, 0
	for range 200 {
		var block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		encoder.SetMaxDynamicTableSizeLimit(maxTableSize)
		var ours table
		ours.reset()
		gap := random.IntN(30)
		for n := range 60 {
			block.Reset()
			if random.IntN(20) == 0 {
				encoder.SetMaxDynamicTableSize([]uint32{40, 100, 500, 4096, maxTableSize}[random.IntN(5)])
			}
			var want []hpack.HeaderField
			for range 1 + random.IntN(12) {
				want = append(want, randomField(random))
				if err := encoder.WriteField(want[len(want)-1]); err != nil {
					t.Fatal(err)
				}
			}
			if n < gap {
				continue
			}
			if n == gap {
				ours.forget()
			}
			got, err := fieldsOf(&ours, block.Bytes())
			if err != io.EOF || len(got) != len(want) {
				t.Fatalf("%d fields, %v, want %d", len(got), err, len(want))
			}
			for i := range want {
				switch {
				case got[i].kind == unknownKind:
					unknown++
				case got[i] != wanted(want[i]):
					t.Fatalf("field is %+v, want %+v", got[i], want[i])
				default:
					known++
				}
			}
		}
	}
	t.Logf("%d fields known, %d unknown", known, unknown)
	if unknown == 0 || known < 10*unknown {
		t.Errorf("%d fields known, %d unknown", known, unknown)
	}
}

// A table is whole again after an update to size 0: then an index that is not
// there is an error, not unknown.
func TestHPACKEmptied(t *testing.T) {
	var ours table
	ours.forget()
	for _, step := range []struct {
		block string
		err   error
	}{
		{"\xbe", io.EOF},             // index 62: before the gap
		{"\x20\x3f\xe1\x1f", io.EOF}, // sizes 0 and 4096
		{"\xbe", errInvalid},
		{"\x40\x01a\x01b", io.EOF},
		{"\xbe", io.EOF},
		{"\xbf", errInvalid},
		{"\xbe\x20", errInvalid}, // a size after a field
		{"\x80", errInvalid},
		{"\x7f", errCut},
		{"\x40\x05a", errCut},
		{"\xff\xff\xff\xff\xff\xff\x01", errInvalid},
	} {
		if _, err := fieldsOf(&ours, []byte(step.block)); err != step.err {
			t.Errorf("%x: %v, want %v", step.block, err, step.err)
		}
	}
}

// A block that refers to a large entry again and again is read only so far.
func TestHPACKBomb(t *testing.T) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for range 100_000 {
		if err := encoder.WriteField(hpack.HeaderField{Name: ":path", Value: "/" + strings.Repeat("a", 3000)}); err != nil {
			t.Fatal(err)
		}
	}
	var ours table
	ours.reset()
	var list fields
	if !list.read(&ours, block.Bytes(), true) || !list.partial || ours.n != 0 || !ours.older {
		t.Errorf("%+v, table of %d", list.partial, ours.n)
	}
}

func TestTableBounded(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 4))
	var ours table
	ours.resize(1 << 30)
	for range 100_000 {
		value := strings.Repeat("v", random.IntN(100)*random.IntN(100))
		ours.insert(entry{value: value, valueLen: uint32(len(value)), kind: pathKind})
		sum := 0
		for i := range ours.n {
			sum += ours.at(i).size()
		}
		if sum != ours.size || sum > maxTableSize || ours.bytes() > 2*maxTableSize {
			t.Fatalf("%d entries of %d, said to be %d", ours.n, sum, ours.size)
		}
	}
	if !ours.older {
		t.Error("what was dropped is said never to have been")
	}
}
