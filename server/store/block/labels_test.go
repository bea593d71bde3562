// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
	"github.com/fleetprof/fleetprof/server/store/block"
)

// labelled is a part with one row for each of its label sets.
type labelled struct {
	part
	dict *dictionary.Dictionary
}

func (p labelled) Index() (*block.Index, error) {
	x, err := part{[]int64{1}, []int64{1}}.Index()
	x.Series, x.LabelSets = block.SeriesList{}, p.dict.LabelSets.Len()
	for set := range uint32(p.dict.LabelSets.Len()) {
		x.Series.Add(0, set, 1, 0)
	}
	return x, err
}

func (p labelled) Labels(int) (block.Labels, error) { return block.LabelsOf(p.dict), nil }
func (p labelled) Rows() (block.RowReader, error) {
	return part{[]int64{1}, []int64{1}}.Rows()
}

// labelTexts makes sets of labels of all kinds there may be: more names than there are columns, names that are none for a
// column, numbers with and without a unit, several labels of one name, and texts that differ in nearly all sets.
func labelTexts(sets int) *dictionary.Dictionary {
	d := &dictionary.Dictionary{Strings: []string{""}}
	numbers := map[string]uint32{"": 0}
	text := func(s string) uint32 {
		n, ok := numbers[s]
		if !ok {
			n = uint32(len(d.Strings))
			numbers[s], d.Strings = n, append(d.Strings, s)
		}
		return n
	}
	known := map[columns.Label]uint32{}
	random := rand.New(rand.NewPCG(1, 2))
	odd := []string{"id", "others", "label", "a.b", "a b", strings.Repeat("long", 100), "\xff\xfe", "名前"}
	for i := range sets {
		set := []columns.Label{{Key: text("number"), Number: int64(i)}} // so that no two are equal
		add := func(name, value string) { set = append(set, columns.Label{Key: text(name), Text: text(value)}) }
		if i%10 > 0 {
			add("service_name", fmt.Sprint("service ", i%7))
			add("thread_id", fmt.Sprint(random.IntN(1<<22)))
		}
		if i%3 == 0 {
			add(odd[random.IntN(len(odd))], "odd")
			add(fmt.Sprint("rare ", random.IntN(100)), "rare")
		}
		if i%50 == 0 {
			add("service_name", "the second, or the first")
			set = append(set, columns.Label{Key: text("thread_id"), Number: -5, Unit: text("bytes")})
		}
		d.LabelSets.Add(known, set...)
	}
	return d
}

// setTexts gives what sets say, of the names only if there are some.
func setTexts(d *dictionary.Dictionary, selected []bool, names []string) (all []string) {
	for set := range uint32(d.LabelSets.Len()) {
		var texts []string
		for i := range d.LabelSets.Count(set) {
			l := d.LabelSets.At(set, i)
			if selected[set] && (names == nil || slices.Contains(names, d.Strings[l.Key])) {
				texts = append(texts, fmt.Sprintf("%q=%q %d %q", d.Strings[l.Key], d.Strings[l.Text], l.Number, d.Strings[l.Unit]))
			}
		}
		slices.Sort(texts)
		all = append(all, strings.Join(texts, " "))
	}
	return all
}

// A block says of its label sets what was written, whichever of it is asked for.
func TestLabels(t *testing.T) {
	const sets = 10_000 // several pages
	dict := labelTexts(sets)
	b := write(t, labelled{dict: dict})
	if b.LabelSets != sets || b.OtherLabels < sets || b.OtherLabels > 2*sets {
		t.Errorf("%d sets, %d other labels", b.LabelSets, b.OtherLabels)
	}
	labels, err := b.Labels(sets)
	if err != nil {
		t.Fatal(err)
	}
	every := slices.Repeat([]bool{true}, sets)
	all, err := labels.Sets(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, want := setTexts(all, every, nil), setTexts(dict, every, nil)
	if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Fatal("other sets are read than were written")
	}
	wantNames, _ := block.LabelsOf(dict).Names()
	if names, err := labels.Names(); err != nil || !slices.Equal(names, wantNames) {
		t.Errorf("names are %q, want %q; %v", names, wantNames, err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		selected, chance := make([]bool, sets), random.IntN(100)
		for i := range selected {
			selected[i] = random.IntN(100) < chance || i/1000 == chance%10
		}
		names := []string{wantNames[random.IntN(len(wantNames))], "thread_id"}
		some, err := labels.Sets(selected, names)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(setTexts(some, selected, names), setTexts(all, selected, names)) {
			t.Errorf("of the labels %q of some sets others are read than were written", names)
		}
	}
	for _, name := range append(wantNames, "none") {
		testColumn(t, labels, all, name)
	}
}

// testColumn compares a column with what the sets say.
func testColumn(t *testing.T, labels block.Labels, all *dictionary.Dictionary, name string) {
	t.Helper()
	c, err := labels.Column(name)
	if err != nil {
		t.Fatal(err)
	}
	next := uint32(0)
	for run := range c.Runs() {
		if run.First != next || run.End <= run.First {
			t.Fatalf("%q: a run is %+v, want one from %d on", name, run, next)
		}
		for set := run.First; set < run.End; set++ {
			want := slices.Sorted(slices.Values(texts(all, set, name)))
			if len(want) == 0 {
				want = []string{""}
			}
			// Of several, any may be the first: sets have no order.
			if got := c.Texts[run.Text]; !slices.Contains(want, got) || c.Text(set) != got {
				t.Fatalf("%q of set %d is %q and %q, want one of %q", name, set, got, c.Text(set), want)
			}
		}
		next = run.End
	}
	if int(next) != labels.Len() {
		t.Errorf("%q: runs have %d sets", name, next)
	}
}

func texts(d *dictionary.Dictionary, set uint32, name string) (all []string) {
	for i := range d.LabelSets.Count(set) {
		if l := d.LabelSets.At(set, i); l.Text != 0 && d.Strings[l.Key] == name {
			all = append(all, d.Strings[l.Text])
		}
	}
	return all
}

// A block of an earlier version says what the same profiles say in one of today, and so does one that is made from it.
func TestEarlierVersions(t *testing.T) {
	want := said(t, write(t, open(t, sealed(t, 1))).Dir())
	for version, name := range map[int]string{2: "long-labels", 3: "processes-in-labels"} {
		old := filepath.Join(t.TempDir(), name) // nothing is written below testdata
		if err := os.CopyFS(old, os.DirFS(filepath.Join("testdata", name))); err != nil {
			t.Fatal(err)
		}
		was := open(t, old)
		made := write(t, was)
		if was.Version != version || made.Version != 4 {
			t.Errorf("%s: versions are %d and %d", name, was.Version, made.Version)
		}
		if got := said(t, made.Dir()); got != want {
			t.Errorf("%s says\n%s\nwant\n%s", name, got, want)
		}
	}
}

// said is the content of a block without the lines of its metadata and ids, which tell when it was made.
func said(t *testing.T, dir string) string {
	t.Helper()
	text, err := content(dir)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitN(text, "\n", 3)
	return lines[2]
}
