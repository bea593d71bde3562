// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
)

// at makes a rule that is unlike any with another number.
func at(n int) Rule { return Rule{Kind: Offset, CFA: int32(n), RA: AtCFA, RAOffset: -1} }

func newTable(regions ...extent) *Table {
	t := &Table{Machine: elf.EM_X86_64}
	for _, r := range regions {
		t.Regions = append(t.Regions, Region{r.start, r.end, make([]uint32, (r.end-r.start)/pageSize)})
	}
	return t
}

// TestPages adds rows at random, from none to one per byte, and looks up every
// address in what they were encoded to.
func TestPages(t *testing.T) {
	regions := []extent{{0x1000, 0x2000}, {0x2000, 0x2100}, {0x8000, 0xa000}}
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		dense := 1 + random.IntN(1<<(1+random.IntN(10)))
		table := newTable(regions...)
		p := newPages(table)
		p.limit = MaxRows
		want := make([]Rule, 0xb000)
		rule := Rule{}
		for addr := range want {
			if random.IntN(dense) == 0 {
				rule = at(random.IntN(40) - 1)
				if rule.CFA == -1 {
					rule = Rule{}
				}
				if err := p.add(uint64(addr), rule); err != nil {
					t.Fatal(err)
				}
			}
			want[addr] = rule
		}
		if err := p.finish(); err != nil {
			t.Fatal(err)
		}
		checkTable(t, table)
		wrong := 0
		for addr, want := range want {
			inside := false
			for _, r := range regions {
				inside = inside || uint64(addr) >= r.start && uint64(addr) < r.end
			}
			if !inside {
				want = Rule{}
			}
			if got := table.Lookup(uint64(addr)); got != want {
				if wrong++; got.Kind != Unsupported || table.Stats.Cut == 0 {
					t.Fatalf("seed %d: at %#x got %v, want %v", seed, addr, got, want)
				}
			}
		}
		// At most 64 rows are in a quarter, so that 2 of them make way for the one
		// that says so.
		if cut := table.Stats.Cut; cut > 0 && (dense > 1 || wrong > 2*cut) {
			t.Errorf("seed %d: %d quarters cut, %d bytes lost", seed, cut, wrong)
		}
	}
}

// checkTable checks what FORMAT.md promises.
func checkTable(t testing.TB, table *Table) {
	t.Helper()
	if len(table.Rules) == 0 || table.Rules[0] != (Rule{}) || len(table.Rules) > MaxRules {
		t.Fatalf("%d rules", len(table.Rules))
	}
	seen := make(map[Rule]bool)
	for _, r := range table.Rules {
		if seen[r] {
			t.Fatalf("two rules are %v", r)
		}
		seen[r] = true
	}
	last := uint64(0)
	for _, r := range table.Regions {
		if r.Start < last || r.Limit <= r.Start || r.Start%pageSize != 0 || r.Limit%pageSize != 0 {
			t.Fatalf("region %#x to %#x", r.Start, r.Limit)
		}
		last = r.Limit
		pages := (r.Limit - r.Start) / pageSize
		for i, entry := range r.Index {
			if entry>>26 == 0 {
				if uint64(i) >= pages || uint64(entry) < pages || int(entry)+4 > len(r.Index) {
					t.Fatalf("entry %d of %d pages has quarters at %d of %d", i, pages, entry, len(r.Index))
				}
				continue
			}
			rows := table.rows(entry)
			for j, row := range rows {
				if int(row>>PageBits) >= len(table.Rules) || j > 1 && row%pageSize <= rows[j-1]%pageSize {
					t.Fatalf("entry %d has rows %x", i, rows)
				}
			}
		}
	}
}

// TestAllAgreesWithLookup compares the two ways to read a table.
func TestAllAgreesWithLookup(t *testing.T) {
	table := build(t, compile(t, "gcc", framesSource, "-shared", "-fPIC", "-O2"))
	compareAll(t, table)
}

func compareAll(t testing.TB, table *Table) {
	t.Helper()
	type row struct {
		addr uint64
		rule Rule
	}
	var rows []row
	table.all(func(addr uint64, r Rule) bool {
		rows = append(rows, row{addr, r})
		return true
	})
	for i, r := range rows {
		if i > 0 && r.addr <= rows[i-1].addr {
			t.Fatalf("row at %#x behind the one at %#x", r.addr, rows[i-1].addr)
		}
		if got := table.Lookup(r.addr); got != r.rule {
			t.Fatalf("at %#x: %v, but the row says %v", r.addr, got, r.rule)
		}
		if i > 0 {
			if got := table.Lookup(r.addr - 1); got != rows[i-1].rule {
				t.Fatalf("at %#x: %v, but the row says %v", r.addr-1, got, rows[i-1].rule)
			}
		}
	}
}

// TestSharing: code of one rule costs four bytes a page.
func TestSharing(t *testing.T) {
	table := newTable(extent{0, 1 << 20})
	p := newPages(table)
	if err := errors.Join(p.add(0, at(1)), p.finish()); err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != 1 || table.Bytes() != 4+2*RuleSize+4<<12 {
		t.Errorf("%d rows, %d bytes", len(table.Rows), table.Bytes())
	}
}

func TestRuleLimit(t *testing.T) {
	table := newTable(extent{0, 1 << 20})
	p := newPages(table)
	for i := range MaxRules + 100 {
		if err := p.add(uint64(i)*8, at(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.finish(); err != nil {
		t.Fatal(err)
	}
	checkTable(t, table)
	if got := table.Lookup((MaxRules + 50) * 8); got.Kind != Unsupported || table.Stats.ExcessRules != 102 {
		t.Errorf("rule behind the limit is %v, %d in excess", got, table.Stats.ExcessRules)
	}
	if got := table.Lookup(8 * 1000); got != at(1001) {
		t.Errorf("rule below the limit is %v", got)
	}
}

// TestRowLimit: a table with a row for every byte of code is none.
func TestRowLimit(t *testing.T) {
	p := newPages(newTable(extent{0, 1 << 16}))
	var err error
	for addr := uint64(0); addr < 1<<16 && err == nil; addr++ {
		err = p.add(addr, at(1+int(addr%2)))
	}
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("error is %v", err)
	}
}

// TestEncoding fixes the bytes that the kernel side reads.
func TestEncoding(t *testing.T) {
	r := Rule{
		Kind: Deref, Base: Other + 10, RA: AtCFA | Signed, FP: AtFP, BX: Lost,
		BXOffset: -5, Add: -2, CFA: 0x01020304, RAOffset: -1, FPOffset: 0x0506,
	}
	if got, want := hex.EncodeToString(unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r))), "042a810203fbfeff04030201ffff0605"; got != want {
		t.Errorf("rule is %s, want %s", got, want)
	}
}

// TestRegions covers two executable segments and leaves out what is not backed.
func TestRegions(t *testing.T) {
	b := image(elf.EM_X86_64, ".eh_frame", ehFrame([]byte{}, []byte{}))
	table := buildImage(t, b)
	if len(table.Regions) != 1 || table.Regions[0].Start != imageText || table.Regions[0].Limit != imageText+512 {
		t.Errorf("regions are %+v", table.Regions)
	}
	huge := bytes.Clone(b)
	copy(huge[64+32:], "\x00\x00\x00\x00\x00\x10") // p_filesz
	if table := buildImage(t, huge); len(table.Regions) != 0 {
		t.Errorf("regions of a segment that is not in the file are %+v", table.Regions)
	}
	if table := buildImage(t, image(elf.EM_X86_64, ".data", []byte("data"))); len(table.Regions) != 0 || table.Lookup(imageText).Kind != None {
		t.Errorf("regions of a file without information are %+v", table.Regions)
	}
}

func TestUnsupportedMachine(t *testing.T) {
	f := objfiletest.Open(t, compile(t, "gcc", framesSource, "-shared", "-fPIC"))
	f.Machine = elf.EM_RISCV
	if _, err := Build(f); !errors.Is(err, ErrUnsupported) {
		t.Errorf("error is %v", err)
	}
}

// all calls f for every row in order of addresses, with runs of equal rules
// joined, until f returns false. What follows a region is of kind None.
func (t *Table) all(f func(addr uint64, r Rule) bool) {
	last := uint32(0) // None
	visit := func(addr uint64, id uint32) bool {
		changed := id != last
		last = id
		return !changed || f(addr, t.Rules[id])
	}
	for _, r := range t.Regions {
		for start := r.Start; start < r.Limit; start += pageSize {
			entry := r.Index[(start-r.Start)>>PageBits]
			entries, size := []uint32{entry}, uint64(pageSize)
			if entry>>rowBits == 0 {
				entries, size = r.Index[entry:entry+4], quarterSize
			}
			for i, entry := range entries {
				first := start + uint64(i)*size
				for j, row := range t.rows(entry) {
					addr := first
					if j > 0 {
						addr = start + uint64(row%pageSize)
					}
					if !visit(addr, row>>PageBits) {
						return
					}
				}
			}
		}
		if !visit(r.Limit, 0) {
			return
		}
	}
}
