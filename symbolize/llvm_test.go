// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"cmp"
	"debug/elf"
	"errors"
	"flag"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/llvmtest"
)

var addresses = flag.Int("addresses", 1000, "addresses of each file that TestAgainstLLVM draws; more than its default asks for large files, too")

// TestAgainstLLVM compares names, inlined calls, files and lines.
func TestAgainstLLVM(t *testing.T) {
	for _, c := range []struct {
		name  string
		path  func(*testing.T) string
		large bool
	}{
		{"C", compiled("gcc", "-O3", "-g", "dwarfsym/testdata/inline.c", "-lm"), false},
		{"C++", compiled("g++", "-O2", "-g", "dwarfsym/testdata/templates.cc"), false},
		{"Rust", compiled("rustc", "-O", "-g", "dwarfsym/testdata/closures.rs"), false},
		{"libc", func(t *testing.T) string { return loaded(t, "libc.so.6") }, false},
		{"libcrypto", installed("/usr/lib/*/libcrypto.so.3"), false},
		{"node", installed("/usr/bin/node"), true},
		{"libLLVM", installed("/usr/lib/*/libLLVM-16.so.1"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.large && *addresses == 1000 {
				t.Skip("large: asked for by -addresses")
			}
			againstLLVM(t, c.path(t))
		})
	}
}

func compiled(compiler string, args ...string) func(*testing.T) string {
	return func(t *testing.T) string { return compile(t, compiler, args...) }
}

func installed(pattern string) func(*testing.T) string {
	return func(t *testing.T) string {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Skipf("no %s: %v", pattern, err)
		}
		return found[0]
	}
}

// clone is what compilers put behind the names of copies of a function, and of parts of it. We have
// that from the symbols of a debug file, which llvm-symbolizer does not look at.
var clone = regexp.MustCompile(`(\.(constprop|part|isra|cold|lto_priv)(\.\d+)?)+$`)

func againstLLVM(t *testing.T, path string) {
	p := openProgram(t, path)
	s := newSymbolizer(t, Options{TableBytes: 256 << 20, Demangle: DemangleNone})
	s.cache.loading.units = dwarfsym.NewUnits(256<<20/unitShare, 100, time.Hour) // all the time it takes
	addrs := llvmtest.Draw(p.File, *addresses)
	alias, symbols := aliases(t, p), symbolsByAddress(t, p)
	names, lines, asked, shown, data := 0, 0, 0, 0, 0
	for i, want := range llvmtest.Ask(t, path, addrs, "--no-demangle") {
		if len(want) == 0 || want[0].FunctionName == "" || isPLT(p, addrs[i]) {
			continue // llvm-symbolizer names entries of the PLT by what is before it
		}
		if symbols.isData(addrs[i]) {
			data++
			continue
		}
		asked++
		got := s.Symbolize(p.at(t, addrs[i])).Frames
		same, placed := len(got) == len(want), len(got) == len(want)
		for j := range got {
			if !same {
				break
			}
			name := got[j].SystemName
			if name == "" {
				name = got[j].Function
			}
			same = name == want[j].FunctionName ||
				j == len(got)-1 && (alias(name, want[j].FunctionName) || clone.ReplaceAllString(name, "") == want[j].FunctionName ||
					symbols.isLabelIn(want[j].FunctionName, name, addrs[i]))
			placed = placed && (got[j].Line == want[j].Line && (got[j].File == want[j].FileName || got[j].Line == 0))
		}
		if same {
			names++
		}
		if placed {
			lines++
		}
		if !same || !placed {
			if shown++; shown <= 10 {
				t.Logf("%#x is\n\t%v\nwant\n\t%v", addrs[i], got, want)
			}
		}
	}
	t.Logf("%d addresses that llvm-symbolizer names, %d of data left out: functions agree %.3f %%, lines %.3f %%", asked, data, 100*float64(names)/float64(asked), 100*float64(lines)/float64(asked))
	if asked < *addresses/10 || float64(names) < 0.999*float64(asked) || float64(lines) < 0.995*float64(asked) {
		t.Error("fewer agree than must")
	}
}

// symbolsAt are the symbols of a program in sections with code, by address.
type symbolsAt []elf.Symbol

func symbolsByAddress(t *testing.T, p *program) (all symbolsAt) {
	t.Helper()
	symbols, err := p.Symbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if int(s.Section) < len(p.Sections) && p.Sections[s.Section].Flags&elf.SHF_EXECINSTR != 0 {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b elf.Symbol) int { return cmp.Compare(a.Value, b.Value) })
	return all
}

// upTo are those at an address and below.
func (all symbolsAt) upTo(addr uint64) symbolsAt {
	return all[:sort.Search(len(all), func(i int) bool { return all[i].Value > addr })]
}

// isData tells that an address is in an object, or behind one that has no size. llvm-symbolizer names it by that.
func (all symbolsAt) isData(addr uint64) bool {
	before := all.upTo(addr)
	for i := len(before) - 1; i >= 0; i-- {
		kind, isNext := elf.ST_TYPE(before[i].Info), before[i].Value == before[len(before)-1].Value
		switch {
		case kind == elf.STT_OBJECT && (addr < before[i].Value+before[i].Size || isNext && before[i].Size == 0):
			return true
		case kind == elf.STT_FUNC && before[i].Size > 0:
			return false // functions do not overlap objects
		}
	}
	return false
}

// isLabelIn tells that a name is that of a place in a function, by which llvm-symbolizer calls what is behind it.
func (all symbolsAt) isLabelIn(label, function string, addr uint64) bool {
	isLabel, isWithin := false, false
	for _, s := range all.upTo(addr) {
		switch kind := elf.ST_TYPE(s.Info); {
		case kind == elf.STT_NOTYPE && s.Size == 0 && s.Name == label:
			isLabel = isWithin
		case kind == elf.STT_FUNC && s.Name == function && addr < s.Value+s.Size:
			isWithin = true
		}
	}
	return isLabel
}

func isPLT(p *program, addr uint64) bool {
	for _, s := range p.Sections {
		if strings.HasPrefix(s.Name, ".plt") && addr >= s.Addr && addr < s.Addr+s.Size {
			return true
		}
	}
	return false
}

// aliases tells whether two names of the linker are of one address.
func aliases(t *testing.T, p *program) func(a, b string) bool {
	t.Helper()
	at := make(map[string]map[uint64]bool)
	add := func(symbols []elf.Symbol, err error) {
		if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
			t.Fatal(err)
		}
		for _, s := range symbols {
			name, _, _ := strings.Cut(s.Name, "@")
			if at[name] == nil {
				at[name] = make(map[uint64]bool)
			}
			at[name][s.Value] = true
		}
	}
	add(p.Symbols())
	add(p.DynamicSymbols())
	if note := p.Section(".note.gnu.build-id"); note != nil {
		id := buildIDOf(t, p)
		if debug, err := elf.Open("/usr/lib/debug/.build-id/" + id[:2] + "/" + id[2:] + ".debug"); err == nil {
			defer debug.Close()
			add(debug.Symbols())
		}
	}
	return func(a, b string) bool {
		for addr := range at[a] {
			if at[b][addr] {
				return true
			}
		}
		return false
	}
}
