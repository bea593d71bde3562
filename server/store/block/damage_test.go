// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
	"github.com/fleetprof/fleetprof/server/store/block"
)

// sealed makes a block of some windows of two hosts as the store makes them, and gives its directory.
func sealed(t testing.TB, windows int) string {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(dir, store.Options{
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), MaxAge: 876_000 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Unix(1_795_353_600, 0)
	for i := range 2 * windows {
		n, host, start := i%2, []string{"a", "b"}[i%2], start.Add(time.Duration(i/2)*profiletest.Duration)
		random := profiletest.Random(uint64(n), host, start, 20)
		random.Comments = []string{"a remark"}
		p, err := columns.Read(profiletest.Gzip(t, random))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Append(t.Context(), p, [16]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Seal(t.Context()), s.Close()); err != nil {
		t.Fatal(err)
	}
	blocks, err := filepath.Glob(filepath.Join(dir, "blocks", "*"))
	if err != nil || len(blocks) != 1 {
		t.Fatalf("blocks are %q, %v", blocks, err)
	}
	return blocks[0]
}

// content opens a block and writes out all that it says.
func content(dir string) (_ string, err error) {
	b, err := block.Open(dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	var out strings.Builder
	fmt.Fprintf(&out, "%+v\n", b.Meta)
	ids, err := b.IDs()
	if err != nil {
		return "", err
	}
	index, err := b.Index()
	if err != nil {
		return "", err
	}
	pages, err := b.Symbols()
	if err != nil {
		return "", err
	}
	symbols, err := profiletest.Symbols(pages)
	if err != nil {
		return "", err
	}
	stacks, err := b.Stacks(pages.Len())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, stacks.Close()) }()
	if symbols.Stacks, err = profiletest.Nodes(stacks); err != nil {
		return "", err
	}
	fmt.Fprintf(&out, "%v\n%+v\n%+v\n%+v\n%+v\n", ids, index.Types, index.Windows, index.Series, *symbols)
	sets, err := labelSets(b)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&out, "%q\n", sets)
	rows, err := b.Rows()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for s := range index.Series.All() {
		said := func(r block.Rows) error { fmt.Fprintln(&out, r); return nil }
		if err := errors.Join(rows.Read(s, said), rows.ReadSums(s, said)); err != nil {
			return "", err
		}
	}
	return out.String(), nil
}

// labelSets gives the labels of all sets of a part, each of them sorted, and what its columns say.
func labelSets(p block.Part) (all [][]string, err error) {
	index, err := p.Index()
	if err != nil {
		return nil, err
	}
	labels, err := p.Labels(index.LabelSets)
	if err != nil {
		return nil, err
	}
	d, err := labels.Sets(nil, nil)
	if err != nil {
		return nil, err
	}
	for set := range uint32(d.LabelSets.Len()) {
		var texts []string
		for i := range d.LabelSets.Count(set) {
			l := d.LabelSets.At(set, i)
			texts = append(texts, fmt.Sprintf("%s=%s %d %s", d.Strings[l.Key], d.Strings[l.Text], l.Number, d.Strings[l.Unit]))
		}
		slices.Sort(texts)
		all = append(all, texts)
	}
	names, err := labels.Names()
	if err != nil {
		return nil, err
	}
	var columns [][]string
	for _, name := range names {
		c, err := labels.Column(name)
		if err != nil {
			return nil, err
		}
		var texts []string
		for set := range all {
			texts = append(texts, c.Text(uint32(set)))
		}
		columns = append(columns, append([]string{name}, texts...))
	}
	return append(all, columns...), nil
}

// Whichever byte of a block is damaged, what can be read of it is what was written.
func TestDamagedByte(t *testing.T) {
	dir := sealed(t, 3)
	want, err := content(dir)
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 11 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		sound, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found, tries := 0, 25
		if f.Name() == "meta.json" {
			tries = 200 // that is quick
		}
		for range tries {
			bad, at := bytes.Clone(sound), rand.IntN(len(sound))
			bad[at] ^= byte(1 + rand.IntN(255))
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := content(dir)
			if err != nil {
				found++
			} else if got != want {
				t.Errorf("%s, byte %d %q now %q: other things are read than were written", f.Name(), at, sound[max(0, at-20):min(len(sound), at+20)], bad[at])
			}
		}
		// The labels in rows.parquet are for others, and some of a header of a page says nothing.
		if found < tries/2 {
			t.Errorf("%s: %d of %d damaged bytes are found", f.Name(), found, tries)
		}
		if err := os.WriteFile(path, sound, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A file that is shorter or longer than it was, or gone, is found at once.
func TestOtherLength(t *testing.T) {
	dir := sealed(t, 3)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		sound, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]byte{nil, sound[:1], sound[:len(sound)/2], sound[:len(sound)-4], append(bytes.Clone(sound), 'x')} {
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := block.Open(dir); err == nil {
				t.Errorf("%s of %d bytes is opened with %d", f.Name(), len(sound), len(bad))
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := block.Open(dir); err == nil {
			t.Errorf("a block without %s is opened", f.Name())
		}
		if err := os.WriteFile(path, sound, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := content(dir); err != nil {
		t.Error(err)
	}
}
