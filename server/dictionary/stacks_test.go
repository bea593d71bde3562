// SPDX-License-Identifier: Apache-2.0

package dictionary_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fleetprof/fleetprof/server/dictionary"
	"github.com/fleetprof/fleetprof/server/profiletest"
)

// counted are nodes whose pages are counted when they are read.
type counted struct {
	dictionary.AllNodes
	pages map[int]int
	err   error // of page 1
}

func (c *counted) Page(i int) ([]dictionary.Node, error) {
	c.pages[i]++
	if i == 1 && c.err != nil {
		return nil, c.err
	}
	return c.AllNodes.Page(i)
}

// tree makes a dictionary with so many stacks, each of which goes on from one of the stacks
// shortly before it, or from any.
func tree(r *rand.Rand, stacks int) *dictionary.Dictionary {
	d := &dictionary.Dictionary{Strings: []string{""}, Stacks: make([]dictionary.Node, 1, stacks)}
	for i := range 50 {
		d.Locations = append(d.Locations, dictionary.Location{Address: uint64(i)})
	}
	for i := 1; i < stacks; i++ {
		parent := uint32(max(0, i-1-r.IntN(20)))
		if r.IntN(100) == 0 {
			parent = uint32(r.IntN(i))
		}
		d.Stacks = append(d.Stacks, dictionary.Node{Parent: parent, Location: uint32(r.IntN(50))})
	}
	return d
}

func addresses(d *dictionary.Dictionary, stack uint32) (all []uint64) {
	for _, l := range profiletest.Frames(d, stack) {
		all = append(all, d.Locations[l].Address)
	}
	return all
}

// Stacks of more pages than are held at a time become the same stacks, in whatever order they are
// asked for, and equal stacks one.
func TestStacksByPages(t *testing.T) {
	const stacks = 100*dictionary.PageNodes + 17
	r := rand.New(rand.NewPCG(1, 2))
	from := tree(r, stacks)
	to := dictionary.New()
	nodes := &counted{AllNodes: from.Stacks, pages: map[int]int{}}
	translation := to.TranslateStacks(dictionary.AllSymbols{from}, nodes)
	got := map[uint32]string{}
	for i := range 20_000 {
		stack := uint32(r.IntN(stacks))
		if i == 0 {
			stack = stacks - 1
		}
		want, became := addresses(from, stack), translation.Stack(stack)
		if have := addresses(&to.Dictionary, became); !slices.Equal(have, want) {
			t.Fatalf("stack %d is %d now, want %d", stack, have, want)
		}
		key := string(encode(want))
		if before, ok := got[became]; ok && before != key {
			t.Fatalf("two stacks have become %d", became)
		}
		got[became] = key
	}
	distinct := map[string]bool{}
	for _, key := range got {
		distinct[key] = true
	}
	if len(distinct) != len(got) {
		t.Errorf("%d stacks have become %d", len(distinct), len(got))
	}
	if err := translation.Err(); err != nil || len(nodes.pages) != 101 {
		t.Errorf("%d pages were read, %v", len(nodes.pages), err)
	}
	if size := translation.Size(); size < 4*stacks || size > 6*stacks {
		t.Errorf("%d stacks take %d bytes", stacks, size)
	}
}

func encode(addresses []uint64) (b []byte) {
	for _, a := range addresses {
		b = append(b, byte(a))
	}
	return b
}

// Only pages that a stack goes through are read.
func TestStacksOfOnePage(t *testing.T) {
	from := tree(rand.New(rand.NewPCG(1, 2)), 10*dictionary.PageNodes)
	for i := 5 * dictionary.PageNodes; i < 6*dictionary.PageNodes; i++ { // stacks of their own
		from.Stacks[i].Parent = 0
		if i > 5*dictionary.PageNodes {
			from.Stacks[i].Parent = uint32(i - 1)
		}
	}
	nodes := &counted{AllNodes: from.Stacks, pages: map[int]int{}}
	translation := dictionary.New().TranslateStacks(dictionary.AllSymbols{from}, nodes)
	for i := 5 * dictionary.PageNodes; i < 6*dictionary.PageNodes; i++ {
		translation.Stack(uint32(i))
	}
	if len(nodes.pages) != 1 || nodes.pages[5] != 1 {
		t.Errorf("pages read, and how often: %v", nodes.pages)
	}
}

// A page that cannot be read is an error, which stays.
func TestStacksUnreadable(t *testing.T) {
	from := tree(rand.New(rand.NewPCG(1, 2)), 2*dictionary.PageNodes)
	bad := errors.New("bad")
	translation := dictionary.New().TranslateStacks(dictionary.AllSymbols{from}, &counted{from.Stacks, map[int]int{}, bad})
	if translation.Stack(7); translation.Err() != nil {
		t.Fatal(translation.Err())
	}
	for range 2 {
		if got := translation.Stack(dictionary.PageNodes + 1); got != 0 || !errors.Is(translation.Err(), bad) {
			t.Errorf("stack %d, error %v", got, translation.Err())
		}
	}
}

// BenchmarkChild prints the time for a node that is there and for a new one, and the memory of
// each by the account of the dictionary.
func BenchmarkChild(b *testing.B) {
	from := tree(rand.New(rand.NewPCG(1, 2)), 1<<20)
	for b.Loop() {
		d := dictionary.New()
		t := d.TranslateStacks(dictionary.AllSymbols{from}, dictionary.AllNodes(from.Stacks))
		for i := range from.Stacks {
			t.Stack(uint32(i))
		}
		b.ReportMetric(float64(d.Bytes)/float64(len(d.Stacks)), "B/stack")
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N<<20), "ns/stack")
}
