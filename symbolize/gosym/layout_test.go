// SPDX-License-Identifier: Apache-2.0

package gosym

import (
	"bytes"
	"compress/gzip"
	stdgosym "debug/gosym"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/gopclntab/gopclntabtest"
	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
)

func noModule(uint64) []byte { return nil }

func openBytes(b []byte) (*Table, error) {
	f, err := objfile.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	return Open(f)
}

// TestGo115 reads a table of Go 1.15 that comes with the tests of debug/gosym,
// with that package as the witness.
func TestGo115(t *testing.T) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	z, err := os.Open(filepath.Join(strings.TrimSpace(string(root)), "src/debug/gosym/testdata/pcln115.gz"))
	if err != nil {
		t.Skip("this Go installation comes without its tests")
	}
	defer z.Close()
	r, err := gzip.NewReader(z)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	table, err := openBytes(gopclntabtest.ELF(data, noModule))
	if err != nil {
		t.Fatal(err)
	}
	witness, err := stdgosym.NewTable(nil, stdgosym.NewLineTable(data, table.index[0]))
	if err != nil {
		t.Fatal(err)
	}
	if len(witness.Funcs) != int(table.Count) {
		t.Fatalf("%d functions, debug/gosym knows %d", table.Count, len(witness.Funcs))
	}
	for _, fn := range witness.Funcs {
		for _, addr := range []uint64{fn.Entry, fn.End - 1} {
			if got := lookup(t, table, addr); got[0].Function != fn.Name {
				t.Fatalf("%#x is %v, debug/gosym says %s", addr, got, fn.Name)
			}
		}
	}
}

func TestLayouts(t *testing.T) {
	const text = 0x401000
	names := gopclntabtest.Names()
	for _, magic := range []uint32{0xfffffffa, 0xfffffff0, 0xfffffff1} {
		data := gopclntabtest.Layout(magic, names, text)
		table, err := openBytes(gopclntabtest.ELF(data, noModule))
		if err != nil {
			t.Errorf("%#x: %v", magic, err)
			continue
		}
		witness, err := stdgosym.NewTable(nil, stdgosym.NewLineTable(data, text))
		if err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			addr := text + uint64(i)*16 + 15
			if fn := witness.PCToFunc(addr); fn == nil || fn.Name != name {
				t.Fatalf("%#x: the test's table is wrong: %v", magic, fn)
			}
			if got := lookup(t, table, addr); len(got) != 1 || got[0].Function != name {
				t.Fatalf("%#x: %#x is %v, want %s", magic, addr, got, name)
			}
		}
	}
}

func FuzzTable(f *testing.F) {
	names := gopclntabtest.Names()
	for _, magic := range []uint32{0xfffffffb, 0xfffffffa, 0xfffffff0, 0xfffffff1} {
		f.Add(gopclntabtest.Layout(magic, names, 0x401000), []byte(nil), uint64(0x401010))
		f.Add(gopclntabtest.Layout(magic, names[:3], 0), gopclntabtest.Module(0x401000, 3)(0x402000), uint64(0x401010))
	}
	path := build(f, "plain", "-ldflags=-s -w")
	file := objfiletest.Open(f, path)
	s, _ := file.Section(".gopclntab")
	whole, err := io.ReadAll(file.Reader(s))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[:16<<10], []byte(nil), uint64(0x401010))
	f.Fuzz(func(t *testing.T, data, module []byte, addr uint64) {
		table, err := openBytes(gopclntabtest.ELF(data, func(uint64) []byte { return module }))
		if err != nil {
			return
		}
		if table.Bytes() > int64(len(data)) {
			t.Errorf("table of %d bytes takes %d bytes", len(data), table.Bytes())
		}
		addrs := append(every(table, 50), addr, table.end-1)
		for _, a := range append(addrs, table.index...) {
			frames, err := table.Lookup(a)
			if err == nil && len(frames) == 0 && table.Contains(a) {
				t.Errorf("%#x is in Go code but has no frame", a)
			}
			if len(frames) > maxInlined+1 {
				t.Errorf("%d frames", len(frames))
			}
		}
	})
}
