// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
	"github.com/fleetprof/fleetprof/server/store/block"
)

// services is a part with stacks of several services, none of which two have in common: each
// service has one series for each of several hosts. Stacks of all are mixed, as they come.
type services struct {
	services, hosts, stacks int    // stacks of each series
	name                    string // that of the services, before their numbers
	first                   uint64 // address: parts with different ones have no stack in common
	read                    func() // called before a series is read, if there is one
}

func (p services) series() int { return p.services * p.hosts }

func (p services) Index() (*block.Index, error) {
	x := &block.Index{
		Types:   []block.Type{{Name: "cpu", Sample: "cpu", Unit: "nanoseconds"}},
		Windows: []block.Window{{Start: 0, End: int64(time.Second), Profiles: 1}}, LabelSets: p.series(),
	}
	for i := range p.series() {
		x.Series.Add(0, uint32(i), int64(p.stacks), 0)
	}
	return x, nil
}

func (p services) Labels(int) (block.Labels, error) {
	d := &dictionary.Dictionary{Strings: []string{"", "host_name", "service_name"}}
	for h := range p.hosts {
		for s := range p.services {
			d.Strings = append(d.Strings, fmt.Sprint("host", h), fmt.Sprint(p.name, s))
			n := uint32(len(d.Strings))
			d.LabelSets.Add(nil, columns.Label{Key: 1, Text: n - 2}, columns.Label{Key: 2, Text: n - 1})
		}
	}
	return block.LabelsOf(d), nil
}

func (p services) Symbols() (dictionary.Symbols, error) {
	d := &dictionary.Dictionary{Strings: []string{"", "main"}, Functions: []columns.Function{{Name: 1}}}
	for i := range uint64(1000) {
		d.Locations = append(d.Locations, dictionary.Location{Address: p.first + i, Lines: []columns.Line{{}}})
	}
	return dictionary.AllSymbols{Dictionary: d}, nil
}

// Stacks gives each series as many stacks, of two frames: a root for each service, and what lies
// on top of it.
func (p services) Stacks(int) (block.StackReader, error) {
	n := p.series()
	all := make(dictionary.AllNodes, 1, 1+n*(1+p.stacks))
	for s := range n {
		all = append(all, dictionary.Node{Location: uint32(s)})
	}
	for i := range p.stacks {
		for s := range n {
			parent := uint32(1 + s)
			if i >= 1000 {
				parent = uint32(len(all) - 1000*n)
			}
			all = append(all, dictionary.Node{Parent: parent, Location: uint32(i % 1000)})
		}
	}
	return stacks{all}, nil
}

func (p services) Rows() (block.RowReader, error) { return p, nil }
func (p services) Close() error                   { return nil }

func (p services) ReadSums(block.Series, func(block.Rows) error) error { return nil } // it has none

func (p services) Read(s block.Series, f func(block.Rows) error) error {
	if p.read != nil {
		p.read()
	}
	var r block.Rows
	for i := range p.stacks {
		r.Stack, r.Window = append(r.Stack, uint32(1+p.series()*(1+i))+s.LabelSet), append(r.Window, 0)
		r.Value, r.Count = append(r.Value, 1), append(r.Count, 1)
	}
	return f(r)
}

func write(t testing.TB, parts ...block.Part) *block.Block {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "block")
	if err := block.Write(t.Context(), dir, block.Plan{Parts: parts}); err != nil {
		t.Fatal(err)
	}
	return open(t, dir)
}

// open opens a block until the test ends.
func open(t testing.TB, dir string) *block.Block {
	t.Helper()
	b, err := block.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// What was mixed when it came lies together in a block: the stacks of a service are in few pages.
func TestStacksLieTogether(t *testing.T) {
	const n = 20
	b := write(t, services{services: n, hosts: 5, stacks: 2000})
	index, err := b.Index()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := b.Rows()
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	labels, err := b.Labels(index.LabelSets)
	if err != nil {
		t.Fatal(err)
	}
	of, err := labels.Column("service_name")
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]map[uint32]bool{}
	for s := range index.Series.All() {
		service := of.Text(s.LabelSet)
		if pages[service] == nil {
			pages[service] = map[uint32]bool{}
		}
		err := rows.Read(s, func(r block.Rows) error {
			for _, stack := range r.Stack {
				pages[service][stack/dictionary.PageNodes] = true
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(pages) != n {
		t.Errorf("%d services", len(pages))
	}
	for service, p := range pages {
		// 10,005 nodes lie in four pages at most.
		if len(p) > 4 {
			t.Errorf("stacks of %s are in %d pages of %d", service, len(p), b.Meta.Stacks/dictionary.PageNodes+1)
		}
	}
}

// A page of stacks is one page of the file, in each of its columns: reading it reads no other.
func TestPagesOfStacks(t *testing.T) {
	b := write(t, services{services: 3, hosts: 3, stacks: 1500})
	file, err := os.Open(filepath.Join(b.Dir(), "stacks.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p, err := parquet.OpenFile(file, b.Files["stacks.parquet"].Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range p.RowGroups()[0].ColumnChunks() {
		index, err := c.OffsetIndex()
		if err != nil {
			t.Fatal(err)
		}
		if want := b.Meta.Stacks/dictionary.PageNodes + 1; index.NumPages() != want || want < 3 {
			t.Errorf("%d pages, want %d", index.NumPages(), want)
		}
		for i := range index.NumPages() {
			if got := index.FirstRowIndex(i); got != int64(i*dictionary.PageNodes) {
				t.Errorf("page %d begins with node %d", i, got)
			}
		}
	}
}

// TestMemoryOfMerging: see stackBytes of the store.
func TestMemoryOfMerging(t *testing.T) {
	const parts = 4
	live := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what lies in a sync.Pool outlives one
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var inputs []block.Part
	stacks := 0
	for i := range parts {
		in := write(t, services{services: 20, hosts: 5, stacks: 1500, first: uint64(i) * 1000})
		stacks += in.Meta.Stacks
		inputs = append(inputs, in)
	}
	before, most := live(), int64(0)
	inputs = append(inputs, services{services: 1, hosts: 1, stacks: 1, name: "the last", first: 1 << 20, read: func() { most = live() - before }})
	b := write(t, inputs...)
	if b.Meta.Stacks < stacks-parts { // each has an empty one
		t.Errorf("%d stacks, want %d", b.Meta.Stacks, stacks)
	}
	each := float64(most) / float64(stacks)
	t.Logf("%d stacks, %.1f bytes each", stacks, each)
	if each > 30 {
		t.Errorf("%d stacks of %d blocks are merged in %d bytes, %.1f each; want at most 30", stacks, parts, most, each)
	}
}
