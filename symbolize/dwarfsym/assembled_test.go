// SPDX-License-Identifier: Apache-2.0

package dwarfsym_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
)

// TestManyAttributes gives up a unit that would take minutes to read for its size.
func TestManyAttributes(t *testing.T) {
	for number, fails := range map[string]bool{"3": false, "200": true, "300": true} {
		path := filepath.Join(t.TempDir(), "program")
		run(t, "gcc", "-nostdlib", "-shared", "-Wa,--defsym,N="+number, "-o", path, "testdata/attributes.s")
		text, ok := objfiletest.Open(t, path).Section(".text")
		if !ok {
			t.Fatal("no code")
		}
		o := options(t, path)
		table, err := dwarfsym.Open(o.Code, o)
		if err == nil {
			_, err = table.Lookup(text.Address)
			table.Close()
		}
		if (err != nil) != fails {
			t.Errorf("%s attributes: error %v", number, err)
		}
	}
}

// TestSignatures names functions that are in type units.
func TestSignatures(t *testing.T) {
	for _, version := range []string{"4", "5"} {
		path := filepath.Join(t.TempDir(), "program")
		run(t, "gcc", "-nostdlib", "-shared", "-Wa,--defsym,V="+version, "-o", path, "testdata/signature.s")
		text, ok := objfiletest.Open(t, path).Section(".text")
		if !ok {
			t.Fatal("no code")
		}
		o, missing := options(t, path), 0
		o.Problem = func(error) { missing++ }
		table, err := dwarfsym.Open(o.Code, o)
		if err != nil {
			t.Fatal(err)
		}
		defer table.Close()
		outer := dwarfsym.Frame{Function: "outer"}
		at := func(line int) dwarfsym.Frame {
			f := outer
			f.Line = line
			return f
		}
		for offset, want := range map[uint64][]dwarfsym.Frame{
			0:  {outer},
			16: {{Function: "inner", Linkage: "_Z5innerv"}, at(7)},
			32: {{}, at(8)},
			48: {{}, at(9)},
		} {
			if got := lookup(t, table, text.Address+offset); !slices.Equal(got, want) {
				t.Errorf("DWARF %s: %d is %+v, want %+v", version, offset, got, want)
			}
		}
		if missing != 1 {
			t.Errorf("%d type units are told to be missing, want 1", missing)
		}
	}
}
