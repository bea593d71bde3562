// SPDX-License-Identifier: Apache-2.0

package gopclntab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/gopclntab/gopclntabtest"
	"github.com/fleetprof/fleetprof/internal/objfile"
)

func noModule(uint64) []byte { return nil }

func openBytes(b []byte) (*Table, error) {
	f, err := objfile.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	t, err := Open(f)
	if err != nil {
		return nil, err
	}
	return t, t.FindModule()
}

// openSelf opens the table of this very test.
func openSelf(t testing.TB) *Table {
	t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	table, err := openBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// function reads all that a reader knows of the i-th function.
func function(r *Reader, i uint64) (text string, err error) {
	var e [2]Entry
	if _, err := r.Entries(e[:], i); err != nil {
		return "", err
	}
	f, err := r.Record(e[0])
	if err != nil {
		return "", err
	}
	name, err := r.Name(f.Name, 300)
	if err != nil {
		return "", err
	}
	text = fmt.Sprintf("%s %#x-%#x %d %d", name, e[0].Start, e[1].Start, f.ID, f.Flags)
	inlined, err := r.PCData(&f, 2)
	if err != nil {
		return "", err
	}
	tree, err := r.FuncData(&f, 3)
	if err != nil {
		return "", err
	}
	last := int32(0)
	for _, table := range [...]uint32{f.Depths, f.Lines, inlined, f.Files} {
		text += " |"
		v := r.Values(table)
		for table != 0 {
			more, err := v.Next()
			if err != nil {
				return "", err
			}
			if !more {
				break
			}
			text += fmt.Sprintf(" %d:%d", v.End, v.Value)
		}
		last = v.Value
	}
	file, err := r.File(&f, last, 300)
	return fmt.Sprintf("%s %s %#x", text, file, tree), err
}

// whole keeps a section as it is.
type whole []byte

func (w whole) Bytes(off, n uint64) ([]byte, error) {
	if off > uint64(len(w)) || n > uint64(len(w))-off {
		return nil, io.ErrUnexpectedEOF
	}
	return w[off:][:n], nil
}

func (w whole) From(off uint64) ([]byte, error) {
	if off >= uint64(len(w)) {
		return nil, io.ErrUnexpectedEOF
	}
	return w[off:], nil
}

// shapes are readers of the same table through buffers of all sizes, and none.
func shapes(t testing.TB, table *Table) []*Reader {
	t.Helper()
	all := make([]byte, table.size)
	if _, err := table.content.ReadAt(all, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return []*Reader{table.ReaderThrough(whole(all)), table.Reader(1), table.Reader(100), table.Reader(64 << 10)}
}

// TestShapes reads the functions of this test, whatever stands between.
func TestShapes(t *testing.T) {
	table := openSelf(t)
	readers := shapes(t, table)
	named := 0
	for i := uint64(0); i < table.Count; i += 7 {
		want, err := function(readers[0], i)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(want, "github.com/fleetprof/fleetprof/internal/gopclntab.") && strings.Contains(want, "/gopclntab") && strings.Contains(want, ".go 0x") {
			named++
		}
		for _, r := range readers[1:] {
			if got, err := function(r, i); err != nil || got != want {
				t.Fatalf("%d: %q, error %v, want %q", i, got, err, want)
			}
		}
	}
	if named == 0 {
		t.Error("no function of this package")
	}
}

// namesOf lists what EachName shows, up to a number of bytes of each.
func namesOf(r *Reader, most int) (all []string, err error) {
	err = r.EachName(most, func(name uint32, text []byte) error {
		all = append(all, fmt.Sprintf("%d %s", name, text))
		return nil
	})
	return all, err
}

// TestEachName compares with the names of the functions, also where they are cut
// and where they lie across pieces that are read.
func TestEachName(t *testing.T) {
	table := openSelf(t)
	readers := shapes(t, table)
	for _, most := range []int{20, 1000} {
		want, err := namesOf(readers[0], most)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range readers[1:] {
			if got, err := namesOf(r, most); err != nil || !slices.Equal(got, want) {
				t.Errorf("reader %d: %d names, error %v, want %d", i, len(got), err, len(want))
			}
		}
		listed := make(map[string]bool, len(want))
		for _, s := range want {
			listed[s] = true
		}
		for i := range table.Count {
			var e [1]Entry
			if _, err := readers[0].Entries(e[:], i); err != nil {
				t.Fatal(err)
			}
			f, err := readers[0].Record(e[0])
			if err != nil {
				t.Fatal(err)
			}
			name, err := readers[0].Name(f.Name, most)
			if err != nil || !listed[fmt.Sprintf("%d %s", f.Name, name)] {
				t.Fatalf("%q is not listed, error %v", name, err)
			}
		}
	}
	stop := errors.New("stop")
	calls := 0
	if err := readers[0].EachName(10, func(uint32, []byte) error { calls++; return stop }); err != stop || calls != 1 {
		t.Errorf("%d visits, error %v", calls, err)
	}
}

// TestTextStart has tables whose header does not tell where the text starts.
func TestTextStart(t *testing.T) {
	const text = 0x401100
	names := gopclntabtest.Names()
	data := gopclntabtest.Layout(0xfffffff1, names, 0)
	table, err := openBytes(gopclntabtest.ELF(data, gopclntabtest.Module(text, len(names))))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := function(table.Reader(64), 1); err != nil || !strings.HasPrefix(got, names[1]+" 0x401110-0x401120 ") {
		t.Errorf("second function is %q, error %v", got, err)
	}
	if _, err := openBytes(gopclntabtest.ELF(data, noModule)); !errors.Is(err, ErrUnsupported) {
		t.Errorf("without moduledata: %v, want ErrUnsupported", err)
	}
	// A moduledata that disagrees with the table is not believed.
	if _, err := openBytes(gopclntabtest.ELF(data, gopclntabtest.Module(text, len(names)+1))); !errors.Is(err, ErrUnsupported) {
		t.Errorf("with a moduledata of something else: %v, want ErrUnsupported", err)
	}
}

// TestRefused has headers that cannot be right.
func TestRefused(t *testing.T) {
	good := gopclntabtest.Layout(0xfffffff1, gopclntabtest.Names(), 0x401000)
	for name, change := range map[string]func([]byte){
		"magic":           func(b []byte) { b[0] = 0xf2 },
		"big endian":      func(b []byte) { copy(b, "\xff\xff\xff\xf1") },
		"32-bit":          func(b []byte) { b[7] = 4 },
		"no functions":    func(b []byte) { binary.LittleEndian.PutUint64(b[8:], 0) },
		"many functions":  func(b []byte) { binary.LittleEndian.PutUint64(b[8:], 1<<40) },
		"table outside":   func(b []byte) { binary.LittleEndian.PutUint64(b[8+7*8:], 1<<63) },
		"no quantum":      func(b []byte) { b[6] = 0 },
		"functab cut off": func(b []byte) { binary.LittleEndian.PutUint64(b[8:], 100000) },
	} {
		b := bytes.Clone(good)
		change(b)
		_, err := openBytes(gopclntabtest.ELF(b, noModule))
		if unsupported := name == "magic" || name == "big endian" || name == "32-bit"; errors.Is(err, ErrUnsupported) != unsupported ||
			errors.Is(err, ErrDamaged) == unsupported {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, n := range []int{12, 60, 71} {
		if _, err := openBytes(gopclntabtest.ELF(good[:n], noModule)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes of a header: %v", n, err)
		}
	}
}

// values is a pc-value table: 7 for one byte, 3 for
// two, 300 for 128.
var values = []byte("\x10\x01\x07\x02\xd2\x04\x80\x01\x00")

func TestValues(t *testing.T) {
	data := gopclntabtest.Layout(0xfffffff1, []string{"f"}, 0x401000)
	table, err := openBytes(gopclntabtest.ELF(append(data, values...), noModule))
	if err != nil {
		t.Fatal(err)
	}
	at := uint32(uint64(len(data)) - table.values)
	for i, r := range shapes(t, table) {
		var got []Values
		v := r.Values(at)
		for {
			more, err := v.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				break
			}
			got = append(got, Values{Value: v.Value, Start: v.Start, End: v.End})
		}
		want := []Values{{Value: 7, Start: 0, End: 1}, {Value: 3, Start: 1, End: 3}, {Value: 300, Start: 3, End: 131}}
		if !slices.EqualFunc(got, want, func(a, b Values) bool { return a.Value == b.Value && a.Start == b.Start && a.End == b.End }) {
			t.Errorf("reader %d: %v, want %v", i, got, want)
		}
		// Without its end the table runs into that of the section.
		v = r.Values(at + uint32(len(values)) - 1)
		if more, err := v.Next(); more || err != io.ErrUnexpectedEOF {
			t.Errorf("reader %d: cut off: %v, %v", i, more, err)
		}
	}
}

// FuzzReader reads damaged tables. What stands between must not matter, and
// walks end.
func FuzzReader(f *testing.F) {
	names := gopclntabtest.Names()
	for _, magic := range []uint32{0xfffffffb, 0xfffffffa, 0xfffffff0, 0xfffffff1} {
		f.Add(gopclntabtest.Layout(magic, names, 0x401000), []byte(nil))
		f.Add(gopclntabtest.Layout(magic, names[:3], 0), gopclntabtest.Module(0x401000, 3)(0x402000))
	}
	f.Fuzz(func(t *testing.T, data, module []byte) {
		table, err := openBytes(gopclntabtest.ELF(data, func(uint64) []byte { return module }))
		if err != nil {
			return
		}
		if table.Count*table.width*2 > uint64(len(data)) {
			t.Fatalf("%d functions in %d bytes", table.Count, len(data))
		}
		readers := shapes(t, table)
		for i := uint64(0); i < table.Count; i += 1 + table.Count/20 {
			want, wantErr := function(readers[0], i)
			for _, r := range readers[1:] {
				if got, err := function(r, i); got != want || (err == nil) != (wantErr == nil) {
					t.Fatalf("%d: %q, error %v, want %q, %v", i, got, err, want, wantErr)
				}
			}
		}
		want, wantErr := namesOf(readers[0], 40)
		for _, r := range readers[1:] {
			if got, err := namesOf(r, 40); !slices.Equal(got, want) || (err == nil) != (wantErr == nil) {
				t.Fatalf("%d names, error %v, want %d, %v", len(got), err, len(want), wantErr)
			}
		}
	})
}
