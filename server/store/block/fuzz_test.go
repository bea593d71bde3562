// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"encoding/json"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/fleetprof/fleetprof/server/dictionary"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store/block"
)

// FuzzOpen puts any bytes in the place of a file of a block, and lets meta.json vouch for them:
// they are an error, or can be read and merged.
func FuzzOpen(f *testing.F) {
	dir := sealed(f, 3)
	sound, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		f.Fatal(err)
	}
	var meta block.Meta
	if err := json.Unmarshal(sound, &meta); err != nil {
		f.Fatal(err)
	}
	names, files := []string{"meta.json"}, map[string][]byte{"meta.json": sound}
	for name := range meta.Files {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		if files[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), files[name], meta.Files[name].From)
		f.Add(uint8(i), files[name][:len(files[name])/2], int64(0))
		f.Add(uint8(i), []byte("PAR1PAR1"), int64(-4))
	}
	put := func(t *testing.T, name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, content []byte, from int64) {
		name := names[int(which)%len(names)]
		defer put(t, name, files[name])
		defer put(t, "meta.json", sound)
		put(t, name, content)
		if name != "meta.json" || json.Unmarshal(content, new(block.Meta)) == nil {
			put(t, "meta.json", vouch(t, meta, name, content, from))
		}
		readAndMerge(t, dir, name)
	})
}

// A file that says it has gigabytes of metadata costs no memory.
func TestHostileFooter(t *testing.T) {
	dir := sealed(t, 3)
	sound, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		t.Fatal(err)
	}
	var meta block.Meta
	if err := json.Unmarshal(sound, &meta); err != nil {
		t.Fatal(err)
	}
	evil := []byte("PAR1\xff\xff\xff\x7fPAR1")
	for name := range meta.Files {
		path := filepath.Join(dir, name)
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(os.WriteFile(path, evil, 0o600), os.WriteFile(filepath.Join(dir, "meta.json"), vouch(t, meta, name, evil, 0), 0o600))
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = content(dir)
		runtime.ReadMemStats(&after)
		if !errors.As(err, new(*block.DamagedError)) {
			t.Errorf("%s: %v", name, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
			t.Errorf("%s: %d bytes of memory are taken", name, took)
		}
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// vouch makes the meta.json that goes with a file.
func vouch(t *testing.T, m block.Meta, name string, content []byte, from int64) []byte {
	t.Helper()
	if name == "meta.json" {
		m = block.Meta{}
		if err := json.Unmarshal(content, &m); err != nil {
			t.Fatal(err)
		}
	} else {
		tail := content[max(0, min(from, int64(len(content)))):]
		files := map[string]block.File{}
		for other, file := range m.Files {
			files[other] = file
		}
		files[name] = block.File{Bytes: int64(len(content)), From: from, CRC: crc32.Checksum(tail, crc32.MakeTable(crc32.Castagnoli))}
		m.Files = files
	}
	text, err := block.EncodeMeta(m)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// readAndMerge reads first what is made of one file, which mostly is the end of it.
func readAndMerge(t *testing.T, dir, name string) {
	t.Helper()
	b, err := block.Open(dir)
	if err != nil {
		return
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	switch name {
	case "meta.json":
	case "ids.parquet":
		_, err = b.IDs()
	case "rows.parquet":
		var rows block.RowReader
		if rows, err = b.Rows(); err == nil {
			err = rows.Close()
		}
	case "windows.parquet", "series.parquet":
		_, err = b.Index()
	case "labels.parquet":
		_, err = labelSets(b)
	default:
		var pages dictionary.Symbols
		if pages, err = b.Symbols(); err == nil {
			_, err = profiletest.Symbols(pages)
		}
	}
	if err == nil {
		_, err = content(dir)
	}
	if err != nil {
		if !errors.As(err, new(*block.DamagedError)) {
			t.Errorf("it is not said that the block is damaged: %v", err)
		}
		return
	}
	merged := filepath.Join(t.TempDir(), "block")
	if err := block.Write(t.Context(), merged, block.Plan{Parts: []block.Part{b}}); err != nil {
		t.Fatalf("what was read cannot be merged: %v", err)
	}
	if _, err := content(merged); err != nil {
		t.Errorf("what was merged cannot be read: %v", err)
	}
}
