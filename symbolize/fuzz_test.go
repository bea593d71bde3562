// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"bytes"
	"debug/elf"
	"os"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
)

func TestReadable(t *testing.T) {
	long := "_Z" + string(bytes.Repeat([]byte("P"), 100000)) + "v"
	for _, c := range []struct{ name, want string }{
		{"main", "main"},
		{"_start", "_start"},
		{"_Z3fooi", "foo"},
		{"_ZN3foo3barEv.cold", "foo::bar"},
		{"_ZNSt6vectorIiSaIiEE9push_backEOi", "std::vector::push_back"},
		{"_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "core::fmt::Write::write_fmt"},
		{"_RNvC6_123foo3bar", "123foo::bar"},
		{"main.(*T).Method[...]", "main.(*T).Method[...]"},
		{"_Znot_mangled", "_Znot_mangled"},
		{"_RC0", "_RC0"}, // an empty name
		{"bad\xffutf8", "bad\uFFFDutf8"},
		{long, long[:1<<maxNameBits] + "…"},
	} {
		if got, _ := (&demangler{known: newReadableNames(DemangleSimplified, 1<<20)}).readable(c.name); got != c.want {
			t.Errorf("%.60q reads %.60q, want %.60q", c.name, got, c.want)
		}
	}
	for _, bad := range []string{"_Znot_mangled", long} {
		if _, err := (&demangler{known: newReadableNames(DemangleSimplified, 1<<20)}).readable(bad); err == nil {
			t.Errorf("no error for %.40q", bad)
		}
	}
	late := demangler{known: newReadableNames(DemangleSimplified, 1<<20)}
	late.spent.Store(int64(demangleTime) + 1)
	if got, err := late.readable("_Z3fooi"); got != "_Z3fooi" || err == nil {
		t.Errorf("%q, %v after the time is spent", got, err)
	}
}

func TestSourceNames(t *testing.T) {
	for name, want := range map[string]string{
		"sort<int*, main()::<lambda(int)> >": "sort", "operator()<int>": "operator()", "operator<": "operator<", "operator<<int>": "operator<<int>",
		"main": "main", "<impl>": "<impl>", "operator->": "operator->", "a<b": "a<b",
	} {
		if got := DemangleSimplified.source(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
		if got := DemangleFull.source(name); got != name {
			t.Errorf("%s is %s in full", name, got)
		}
	}
}

func FuzzReadable(f *testing.F) {
	for _, s := range []string{
		"main", "_Z3fooi", "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "_RNvC6_123foo3bar",
		"_ZZN1a1bIJDpT_EE1cEvENKUlvE_clEv", "_RINvNtC3std3mem8align_ofdE", "_ZcvT_IiE", "_ZN1AIXadL_Z1fvEEE1BE",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, err := (&demangler{known: newReadableNames(DemangleSimplified, 1<<20)}).readable(name)
		if !utf8.ValidString(got) {
			t.Errorf("%q is not UTF-8", got)
		}
		if len(got) > 3<<maxNameBits+len("…") { // an invalid byte grows to three
			t.Errorf("name of %d bytes", len(got))
		}
		if name != "" && got == "" && err == nil {
			t.Errorf("%q has no name", name)
		}
	})
}

// FuzzTable symbolizes in files of any content.
func FuzzTable(f *testing.F) {
	for _, flags := range [][]string{{"-s", "-rdynamic"}, {"-no-pie"}, {"-g", "-O2"}, {"-g", "-O2", "-gdwarf-4", "-gz"}, {"-g", "-gsplit-dwarf"}, {"-g", "-fdebug-types-section"}} {
		path := compile(f, "gcc", append(flags, "-Wl,-z,noseparate-code", "elfsym/testdata/zoo.c")...)
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		o, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, o.Section(".text").Offset+64)
	}
	f.Fuzz(func(t *testing.T, b []byte, offset uint64) {
		const limit = 1 << 20
		l := loading{limit: limit, names: newReadableNames(DemangleSimplified, limit), units: dwarfsym.NewUnits(limit, 1, time.Hour)}
		table, _, err := l.openTable(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		defer table.close()
		x := indexOf(t, &l, table)
		s := &Symbolizer{vdso: table, metrics: newMetrics(defaultPrefix, nil)}
		for i := range uint64(64) {
			loc := sample.Location{Object: &sample.Object{Kind: sample.VDSO, Path: "x"}, Offset: offset + i*113}
			got, err := s.lookup(loc)
			if _, _, placed := table.file.Locate(loc.Offset); x != nil && err == nil && placed {
				indexed, err := x.Lookup(got.Address)
				if err == nil && len(indexed) > 0 && !reflect.DeepEqual(indexed, got.Frames) {
					t.Errorf("by index %#x is %+v, want %+v", got.Address, indexed, got.Frames)
				}
			}
			if len(got.Frames) == 0 {
				t.Fatal("no frames")
			}
			for _, frame := range got.Frames {
				if !utf8.ValidString(frame.Function + frame.SystemName + frame.File) {
					t.Errorf("%+v is not UTF-8", frame)
				}
			}
		}
	})
}
