// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
	"github.com/fleetprof/fleetprof/server/store/block"
)

// opened is a store with what can be observed of it.
type opened struct {
	*store.Store
	t        testing.TB
	registry *prometheus.Registry
	logs     *bytes.Buffer
}

func open(t testing.TB, dir string, o store.Options) *opened {
	t.Helper()
	s, err := tryOpen(t, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func tryOpen(t testing.TB, dir string, o store.Options) (*opened, error) {
	r, logs := prometheus.NewRegistry(), &bytes.Buffer{}
	o.Registerer, o.Logger = r, slog.New(slog.NewTextHandler(logs, nil))
	s, err := store.Open(dir, o)
	return &opened{s, t, r, logs}, err
}

// metric sums a metric over those of its series that have the label value.
func (s *opened) metric(name, value string) float64 {
	s.t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	sum, found := 0.0, false
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() != "fleetprof_store_"+name || value != "" && m.Label[0].GetValue() != value {
				continue
			}
			found = true
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	if !found {
		s.t.Fatalf("no metric %s %s", name, value)
	}
	return sum
}

// append stores a profile under the hash of its bytes.
func (s *opened) append(p *profile.Profile) error {
	var b bytes.Buffer
	if err := p.WriteUncompressed(&b); err != nil {
		return err
	}
	c, err := columns.Decode(b.Bytes())
	if err != nil {
		return err
	}
	return s.Append(context.Background(), c, store.IDOf(b.Bytes()))
}

func (s *opened) mustAppend(all ...*profile.Profile) {
	s.t.Helper()
	for _, p := range all {
		if err := s.append(p); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *opened) mustSeal() {
	s.t.Helper()
	if err := s.Seal(context.Background()); err != nil {
		s.t.Fatal(err)
	}
}

// sums are what rows with the same labels and the same stack add up to: count and value.
type sums map[string][2]int64

func (s sums) add(labels map[string]string, stack []string, count, value int64) {
	var key strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&key, "%s=%s ", name, labels[name])
	}
	key.WriteString(strings.Join(stack, ";"))
	old := s[key.String()]
	s[key.String()] = [2]int64{old[0] + count, old[1] + value}
}

// truth sums up profiles as they were made.
func truth(all ...*profile.Profile) sums {
	t := sums{}
	for _, p := range all {
		for _, sm := range p.Sample {
			labels := map[string]string{}
			for name, values := range sm.Label {
				labels[name] = values[0]
			}
			var stack []string
			for _, l := range sm.Location {
				stack = append(stack, l.Line[0].Function.Name)
			}
			t.add(labels, stack, sm.Value[0], sm.Value[1])
		}
	}
	return t
}

// stored sums up what is stored of a range. What cannot be read is told to the store.
func (s *opened) stored(from, to time.Time) sums {
	s.t.Helper()
	found := sums{}
	view := s.View(from, to)
	defer view.Close()
	for _, p := range view.Parts {
		part := sums{}
		if err := readPart(p, from, to, part); err != nil {
			view.Failed(p, err)
			continue
		}
		for key, v := range part {
			old := found[key]
			found[key] = [2]int64{old[0] + v[0], old[1] + v[1]}
		}
	}
	return found
}

func readPart(p store.ViewPart, from, to time.Time, into sums) error {
	index, err := p.Index()
	if err != nil {
		return err
	}
	all, err := p.Labels(index.LabelSets)
	if err != nil {
		return err
	}
	sets, err := all.Sets(nil, nil)
	if err != nil {
		return err
	}
	pages, err := p.Symbols()
	if err != nil {
		return err
	}
	symbols, err := profiletest.Symbols(pages)
	if err != nil {
		return err
	}
	stacks, err := p.Stacks(pages.Len())
	if err != nil {
		return err
	}
	defer stacks.Close()
	read := *symbols
	if read.Stacks, err = profiletest.Nodes(stacks); err != nil {
		return err
	}
	rows, err := p.Rows()
	if err != nil {
		return err
	}
	defer rows.Close()
	for series := range index.Series.All() {
		labels := map[string]string{}
		for i := range sets.LabelSets.Count(series.LabelSet) {
			l := sets.LabelSets.At(series.LabelSet, i)
			labels[sets.Strings[l.Key]] = sets.Strings[l.Text]
		}
		err := rows.Read(series, func(r block.Rows) error {
			for process, r := range r.Processes() {
				of := labels
				if process != 0 {
					of = maps.Clone(labels)
					of["process_pid"] = block.ProcessText(process)
				}
				for i, w := range r.Window {
					if index.Windows[w].Overlaps(from.UnixNano(), to.UnixNano()) {
						into.add(of, names(&read, r.Stack[i]), r.Count[i], r.Value[i])
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// names gives the functions of a stack, innermost first.
func names(d *dictionary.Dictionary, stack uint32) (all []string) {
	for _, l := range profiletest.Frames(d, stack) {
		for _, line := range d.Locations[l].Lines {
			all = append(all, d.Strings[d.Functions[line.Function].Name])
		}
	}
	return all
}

func (s *opened) all() sums { return s.stored(time.Unix(0, 0), time.Now().Add(time.Hour)) }

func (s *opened) want(want sums) {
	s.t.Helper()
	got := s.all()
	if maps.Equal(got, want) {
		return
	}
	for key, v := range want {
		if got[key] != v {
			s.t.Errorf("%.200s: stored are %v, want %v", key, got[key], v)
		}
	}
	for key, v := range got {
		if _, ok := want[key]; !ok {
			s.t.Errorf("%.200s: stored are %v that nobody appended", key, v)
		}
	}
}

// files lists everything below dir that is not a directory.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// fleet is some windows of two hosts, the last of which ends now.
func fleet(windows int, now time.Time) (all []*profile.Profile) {
	for i := range windows {
		start := now.Add(-time.Duration(windows-i) * profiletest.Duration)
		for h := range 2 {
			all = append(all, profiletest.Random(uint64(h), fmt.Sprint("host", h), start, 20))
		}
	}
	return all
}

// Whatever becomes of rows, they add up to what was appended: in memory, from the log, in a
// block, folded and merged, and after a restart each time.
func TestRowsAddUp(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{MaxAge: 1000 * time.Hour})
	now := time.Now()
	profiles := fleet(12, now)
	want := truth(profiles...)
	reopen := func() {
		t.Helper()
		s.want(want)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, store.Options{MaxAge: 1000 * time.Hour})
		s.want(want)
	}
	for i, p := range profiles {
		s.mustAppend(p)
		if i%9 == 8 {
			s.mustSeal()
		}
	}
	reopen()
	s.mustSeal()
	reopen()
	before := s.metric("bytes", "")
	for _, later := range []time.Duration{4 * time.Hour, 40 * time.Hour} {
		s.Compact(t.Context(), now.Add(later))
		reopen()
	}
	if got := len(files(t, filepath.Join(dir, "tmp"))); got != 0 {
		t.Errorf("%d files are left over", got)
	}
	if after := s.metric("bytes", ""); after > before/2 {
		t.Errorf("folded are %v bytes of %v", after, before)
	}
	if n := s.metric("profiles", ""); n != float64(len(profiles)) {
		t.Errorf("%v profiles, want %d", n, len(profiles))
	}
}

// A range has the windows that overlap it, whole, and each once while all moves underneath.
func TestView(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	if _, _, ok := s.Bounds(); ok {
		t.Error("an empty store has bounds")
	}
	base := time.Now().Add(-time.Hour).Truncate(time.Second)
	at := func(seconds int) time.Time { return base.Add(time.Duration(seconds) * time.Second) }
	var all []*profile.Profile
	for i, seconds := range []int{20, 0, 10, 30} { // out of order
		p := profiletest.New(at(seconds), profiletest.Sample{Stack: "main", Labels: map[string]string{"n": fmt.Sprint(seconds)}, Count: 1})
		all = append(all, p)
		s.mustAppend(p)
		if i == 1 {
			s.mustSeal()
		}
	}
	for _, c := range []struct{ from, to, want int }{
		{0, 40, 4}, {10, 20, 1}, {9, 21, 3}, {15, 16, 1}, {-10, 0, 0}, {40, 50, 0},
	} {
		if got := s.stored(at(c.from), at(c.to)); len(got) != c.want {
			t.Errorf("from %d to %d: %v", c.from, c.to, got)
		}
	}
	if oldest, newest, ok := s.Bounds(); !ok || !oldest.Equal(at(0)) || !newest.Equal(at(40)) {
		t.Errorf("bounds are %v %v %v", oldest, newest, ok)
	}
	view := s.View(at(0), at(40))
	s.mustSeal()
	s.Compact(t.Context(), time.Now().Add(100*time.Hour))
	s.Trim(time.Now().Add(10_000 * time.Hour))
	found := sums{}
	for _, p := range view.Parts {
		if err := readPart(p, at(0), at(40), found); err != nil {
			t.Error(err)
		}
	}
	if want := truth(all...); !maps.Equal(found, want) {
		t.Errorf("a view has %v, want %v", found, want)
	}
	view.Close()
	s.want(sums{})
}

// Young blocks become one for each quarter of an hour once that is over, in which windows are as
// they came; and the ids of what is in them stay known.
func TestYoungBlocks(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	const quarter = 15 * time.Minute
	end := time.Now().Add(-time.Hour).Truncate(quarter)
	var all []*profile.Profile
	for i := range 3 {
		all = append(all, fleet(3, end.Add(-time.Duration(3-i)*time.Minute))...)
	}
	late := fleet(3, end.Add(time.Minute))
	for _, p := range slices.Concat(all, late) {
		s.mustAppend(p)
		s.mustSeal()
	}
	blocks := func() int { return int(s.metric("blocks", "")) }
	before := blocks()
	s.Compact(t.Context(), end.Add(-time.Second))
	if got := blocks(); got != before {
		t.Errorf("%d blocks of %d are left before the quarter is over", got, before)
	}
	s.Compact(t.Context(), end)
	if got := blocks(); got != 1+len(late) {
		t.Errorf("%d blocks are left, want one of the quarter that is over and %d others", got, len(late))
	}
	s.Compact(t.Context(), end.Add(quarter))
	if got := blocks(); got != 2 {
		t.Errorf("%d blocks are left of two quarters", got)
	}
	for range 2 {
		s.want(truth(slices.Concat(all, late)...))
		for i := range 3 {
			from, to := end.Add(-time.Duration(3-i)*time.Minute-profiletest.Duration), end.Add(-time.Duration(3-i)*time.Minute)
			if got, want := s.stored(from, to), truth(all[6*i+4:6*i+6]...); !maps.Equal(got, want) {
				t.Errorf("the last window of minute %d has %v, want %v", i, got, want)
			}
		}
		s.mustAppend(all...)
		s.Compact(t.Context(), end.Add(quarter))
		if got := blocks(); got != 2 {
			t.Errorf("%d blocks are left when nothing has come", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, store.Options{})
	}
}

// Blocks of an hour become one for each six hours, with minutes as they are, and so does what comes late.
func TestBlocksOfHours(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	const span = 6 * time.Hour
	end := time.Now().Add(-4 * time.Hour).Truncate(span)
	var all []*profile.Profile
	put := func(start time.Time) {
		for _, p := range fleet(1, start) {
			all = append(all, p)
			s.mustAppend(p)
		}
		s.mustSeal()
	}
	for i := range 12 {
		put(end.Add(-span + time.Duration(i)*30*time.Minute + time.Minute))
	}
	blocks := func() []string {
		all, err := filepath.Glob(filepath.Join(dir, "blocks", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	for _, c := range []struct {
		later time.Duration
		want  int
	}{
		{-2 * time.Hour, 10}, // two of the hours are over for two hours
		{2*time.Hour - time.Second, 7},
		{2 * time.Hour, 1},
	} {
		s.Compact(t.Context(), end.Add(c.later))
		if got := blocks(); len(got) != c.want {
			t.Errorf("%v after the six hours %d blocks are left, want %d", c.later, len(got), c.want)
		}
		s.want(truth(all...))
	}
	last := all[len(all)-2:]
	from := time.Unix(0, last[0].TimeNanos).Truncate(time.Minute)
	if got, want := s.stored(from, from.Add(time.Minute)), truth(last...); !maps.Equal(got, want) {
		t.Errorf("the last minute has %v, want %v", got, want)
	}
	put(end.Add(-span/2 + 5*time.Minute))
	s.Compact(t.Context(), end.Add(2*time.Hour))
	once := blocks()
	s.Compact(t.Context(), end.Add(2*time.Hour))
	if again := blocks(); len(once) != 1 || !slices.Equal(once, again) {
		t.Errorf("with what came late there are %q, and then %q", once, again)
	}
	s.want(truth(all...))
}

func TestAppendTwiceIsOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	now := time.Now()
	p := fleet(1, now)[0]
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { s.mustAppend(p) })
	}
	wg.Wait()
	if s.metric("profiles", "") != 1 || s.metric("duplicates_total", "") != 9 {
		t.Errorf("metrics are %v and %v", s.metric("profiles", ""), s.metric("duplicates_total", ""))
	}
	again := func() {
		t.Helper()
		s.mustAppend(p)
		s.want(truth(p))
	}
	for _, step := range []func(){
		func() {}, func() { s.mustSeal() }, func() { s.Compact(t.Context(), now.Add(4*time.Hour)) },
	} {
		step()
		again()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, store.Options{})
		again()
	}
}

// One damaged byte in a log costs at most the record it is in.
func TestDamagedLog(t *testing.T) {
	base := t.TempDir()
	s := open(t, base, store.Options{})
	now := time.Now()
	var want sums
	var all []*profile.Profile
	for i := range 20 {
		all = append(all, profiletest.New(now.Add(-time.Minute), profiletest.Sample{Stack: "a;b", Labels: map[string]string{"n": fmt.Sprint(i)}, Count: 1}))
	}
	want = truth(all...)
	s.mustAppend(all...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	logs := files(t, filepath.Join(base, "wal"))
	if len(logs) != 1 {
		t.Fatalf("logs are %q", logs)
	}
	sound, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 15 {
		bad := bytes.Clone(sound)
		at := r.IntN(len(bad))
		bad[at] ^= byte(1 + r.IntN(255))
		if err := os.WriteFile(logs[0], bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, base, store.Options{})
		got := s.all()
		for key, v := range got {
			if want[key] != v {
				t.Errorf("byte %d: %s is %v", at, key, v)
			}
		}
		counted := s.metric("damaged_total", "") + s.metric("torn_total", "")
		if len(got) != len(want)-1 || counted != 1 {
			t.Errorf("byte %d of %d: %d of %d profiles are there, %v counted", at, len(bad), len(got), len(want), counted)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A damaged block is found out and passed over, and nothing else suffers.
func TestDamagedBlock(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	damaged, sound := fleet(1, now), fleet(1, now.Add(-time.Minute))
	s := open(t, dir, store.Options{})
	s.mustAppend(damaged...)
	s.mustSeal()
	inside := files(t, filepath.Join(dir, "blocks"))
	s.mustAppend(sound...)
	s.mustSeal()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	some, all := truth(sound...), truth(append(damaged, sound...)...)
	for _, path := range inside {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		flipped := bytes.Clone(content)
		flipped[rand.IntN(len(content))] ^= byte(1 + rand.IntN(255))
		for _, bad := range [][]byte{flipped, content[:rand.IntN(len(content))], {}} {
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir, store.Options{})
			got := s.all()
			counted := s.metric("damaged_total", "")
			switch {
			case maps.Equal(got, some) && counted == 1:
			case maps.Equal(got, all) && counted == 0 && len(bad) == len(content): // no byte that matters
			default:
				t.Errorf("%s of %d bytes, now %d: %d sums are there of %d or %d, %v counted", filepath.Base(path), len(content), len(bad), len(got), len(some), len(all), counted)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir, store.Options{})
	s.want(all)
}

// What a crash amid a merge leaves behind is never counted twice.
func TestMergeInterrupted(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	now := time.Now()
	profiles := fleet(6, now)
	s.mustAppend(profiles[:6]...)
	s.mustSeal()
	s.mustAppend(profiles[6:]...)
	s.mustSeal()
	kept := t.TempDir()
	if err := os.CopyFS(kept, os.DirFS(filepath.Join(dir, "blocks"))); err != nil {
		t.Fatal(err)
	}
	s.Compact(t.Context(), now.Add(5*time.Hour))
	s.want(truth(profiles...))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// The blocks that were merged are back, as if they had not been removed yet.
	if err := os.CopyFS(filepath.Join(dir, "blocks"), os.DirFS(kept)); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, store.Options{})
	s.want(truth(profiles...))
}

func TestRetention(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{MaxBytes: 256 << 10})
	now := time.Now()
	var all []*profile.Profile
	for i := range 12 {
		p := profiletest.New(now.Add(time.Duration(i-20)*time.Minute), profiletest.Sample{Stack: fmt.Sprint("main;", i), Count: 1})
		all = append(all, p)
		s.mustAppend(p)
		s.mustSeal()
		s.Trim(now)
		if got := s.metric("bytes", ""); got > 256<<10 {
			t.Fatalf("%v bytes are stored", got)
		}
	}
	removed := int(s.metric("removed_total", "bytes"))
	if removed == 0 || removed == len(all) {
		t.Fatalf("%d blocks of %d were removed", removed, len(all))
	}
	s.want(truth(all[removed:]...))
	s.Trim(now.Add(7*24*time.Hour - 9*time.Minute - 30*time.Second))
	s.want(truth(all[11:]...))
	if s.metric("removed_total", "age") != float64(len(all)-removed-1) {
		t.Errorf("metric is %v", s.metric("removed_total", "age"))
	}
	old := profiletest.Random(1, "host", now.Add(-8*24*time.Hour), 1)
	if err := s.append(old); !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "keeps 168h") {
		t.Errorf("a profile that is too old gives %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.append(fleet(1, now)[0]); !errors.Is(err, store.ErrClosed) {
		t.Errorf("append after close gives %v", err)
	}
}

// A directory of version 2 or 3 is one of this version from the first start on, with all that is in it.
func TestEarlierVersions(t *testing.T) {
	for version, name := range map[int]string{2: "long-labels", 3: "processes-in-labels"} {
		t.Run(strconv.Itoa(version), func(t *testing.T) { testEarlierVersion(t, version, name) })
	}
}

func testEarlierVersion(t *testing.T, was int, name string) {
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "blocks", "old"), os.DirFS(filepath.Join("block", "testdata", name))); err != nil {
		t.Fatal(err)
	}
	version := filepath.Join(dir, "VERSION")
	if err := os.WriteFile(version, fmt.Appendf(nil, "fleetprof store %d\n", was), 0o600); err != nil {
		t.Fatal(err)
	}
	var want []*profile.Profile // see sealed of package block
	for n, host := range []string{"a", "b"} {
		want = append(want, profiletest.Random(uint64(n), host, time.Unix(1_795_353_600, 0), 20))
	}
	s := open(t, dir, store.Options{MaxAge: 876_000 * time.Hour})
	s.want(truth(want...))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(version); err != nil || string(got) != "fleetprof store 4\n" {
		t.Errorf("VERSION is %q, %v", got, err)
	}
}

// A directory of version 1 is taken over once, whatever was interrupted.
func TestTakeOver(t *testing.T) {
	dir := t.TempDir()
	profiles := fleet(3, time.Now().Add(-time.Minute))
	if err := os.WriteFile(filepath.Join(dir, "VERSION"), []byte("fleetprof store 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range profiles {
		gz := profiletest.Gzip(t, p)
		start := time.Unix(0, p.TimeNanos)
		day := filepath.Join(dir, "profiles", start.UTC().Format("2006-01-02"))
		if err := os.MkdirAll(day, 0o700); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%013d-%013d-%x.pb.gz", start.UnixMilli(), start.Add(profiletest.Duration).Add(time.Millisecond-1).UnixMilli(), store.IDOf(gz))
		if err := os.WriteFile(filepath.Join(day, name), gz, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 2 {
		s := open(t, dir, store.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		done := func() bool {
			_, err := os.Stat(filepath.Join(dir, "profiles"))
			return s.metric("profiles", "") == 6 && (round == 0 || errors.Is(err, fs.ErrNotExist))
		}
		for deadline := time.Now().Add(10 * time.Second); !done() && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		s.want(truth(profiles...))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "profiles")); round == 1 && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the old directory is still there: %v", err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	in := func(names ...string) string {
		dir := t.TempDir()
		for i := 0; i < len(names); i += 2 {
			if err := os.WriteFile(filepath.Join(dir, names[i]), []byte(names[i+1]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	used := in()
	open(t, used, store.Options{})
	for _, c := range []struct{ name, dir, want string }{
		{"foreign", in("letter.txt", "dear"), `it holds other files ("letter.txt")`},
		{"other version", in("VERSION", "fleetprof store 5\n"), `it says "fleetprof store 5"`},
		{"no text", in("VERSION", strings.Repeat("\x00", 1<<20)), `it says`},
		{"a file", filepath.Join(in("file", ""), "file"), `--data`},
		{"in use", used, `another fleetprof server uses it`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := tryOpen(t, c.dir, store.Options{})
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			text := err.Error()
			if !strings.Contains(text, c.want) || !strings.Contains(text, c.dir) || !strings.Contains(text, "--data") || strings.Contains(text, "\n") {
				t.Errorf("error is %q", text)
			}
		})
	}
	for _, dir := range []string{in("LOCK", ""), in("LOCK", "", "VERSION.tmp", "flee"), filepath.Join(in(), "new", "deep")} {
		open(t, dir, store.Options{}) // a first start that was interrupted
	}
	if _, err := tryOpen(t, in(), store.Options{MaxBytes: -1}); err == nil {
		t.Error("a negative bound is accepted")
	}
}

func TestRunEnds(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}
