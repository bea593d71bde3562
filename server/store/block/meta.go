// SPDX-License-Identifier: Apache-2.0

package block

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/parquet-go/parquet-go"
)

// The files of a block.
const (
	metaFile      = "meta.json"
	rowsFile      = "rows.parquet"
	sumsFile      = "sums.parquet"
	windowsFile   = "windows.parquet"
	seriesFile    = "series.parquet"
	labelsFile    = "labels.parquet"
	stacksFile    = "stacks.parquet"
	locationsFile = "locations.parquet"
	functionsFile = "functions.parquet"
	mappingsFile  = "mappings.parquet"
	idsFile       = "ids.parquet"

	// formatVersion is that of the files of a block.
	formatVersion = 4
	// maxMeta bounds meta.json, in bytes.
	maxMeta = 4 << 20
	// diskBlock is what a file occupies in multiples of, in bytes.
	diskBlock = 4096
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Meta is meta.json. It is written last: a block without it is none.
type Meta struct {
	Version int `json:"version"`
	// Start and End are the bounds of all windows, in nanoseconds since the epoch.
	Start int64 `json:"start"`
	End   int64 `json:"end"`
	// Resolution is what windows have been folded to, in nanoseconds; 0 if they are
	// as they came.
	Resolution time.Duration `json:"resolution"`
	Profiles   int64         `json:"profiles"`
	Rows       int64         `json:"rows"`
	// Sums is how many sums of rows there are.
	Sums   int64 `json:"sums,omitempty"`
	Stacks int   `json:"stacks"`
	// Locations and Functions are how many there are; 0 in version 2.
	Locations int `json:"locations,omitempty"`
	Functions int `json:"functions,omitempty"`
	// Fingerprints says that locations have them.
	Fingerprints bool `json:"fingerprints,omitempty"`
	// Processes says that rows have their processes.
	Processes bool `json:"processes,omitempty"`
	Windows   int  `json:"windows"`
	// Series is how many there are; 0 in blocks that were written before this was counted.
	Series int `json:"series,omitempty"`
	// LabelSets is how many there are, OtherLabels how many labels are not in columns of their own; 0 in
	// version 2.
	LabelSets   int    `json:"label_sets,omitempty"`
	OtherLabels int    `json:"other_labels,omitempty"`
	Types       []Type `json:"types"`
	// Log is the number of the last log that went into the block.
	Log uint64 `json:"log"`
	// Replaces are the names of the blocks that this one was made from.
	Replaces []string `json:"replaces,omitempty"`
	// Files are all others.
	Files map[string]File `json:"files"`
	// CRC is the CRC-32C of meta.json up to this field, which is the last one.
	CRC uint32 `json:"crc32c"`
}

// checksum is what CRC must be in a meta.json.
func checksum(text []byte) uint32 {
	return crc32.Checksum(text[:max(0, bytes.LastIndex(text, []byte(`"crc32c"`)))], castagnoli)
}

// encode makes meta.json.
func (m Meta) encode() ([]byte, error) {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	m.CRC = checksum(text)
	text, err = json.MarshalIndent(m, "", "  ")
	return append(text, '\n'), err
}

// File is what a file of a block must be.
type File struct {
	Bytes int64 `json:"bytes"`
	// CRC is the CRC-32C of the file from byte From on. The pages of rows.parquet, sums.parquet, stacks.parquet,
	// labels.parquet, locations.parquet and functions.parquet, which lie before, have checksums of their own.
	CRC  uint32 `json:"crc32c"`
	From int64  `json:"from,omitempty"`
}

// OnDisk is the space the block takes, in bytes.
func (m *Meta) OnDisk() int64 {
	total := int64(2 * diskBlock) // the directory and meta.json
	for _, f := range m.Files {
		total += (f.Bytes + diskBlock - 1) / diskBlock * diskBlock
	}
	return total
}

// Block is a block on disk. It is safe for concurrent use.
type Block struct {
	Meta
	dir string

	mu sync.Mutex
	// Once somebody has asked for them:
	rows, sums, stacks, labels, locations, functions *pagedFile
}

// Open reads meta.json, and looks for the other files.
func Open(dir string) (*Block, error) {
	text, err := readBounded(filepath.Join(dir, metaFile), maxMeta)
	if err != nil {
		return nil, fmt.Errorf("open block: %w", err)
	}
	b := &Block{dir: dir}
	if err := json.Unmarshal(text, &b.Meta); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, metaFile), err)
	}
	if b.Version < version2 || b.Version > formatVersion {
		return nil, fmt.Errorf("open block %s: it is of version %d and this fleetprof reads %d to %d", dir, b.Version, version2, formatVersion)
	}
	if b.CRC != checksum(text) {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, metaFile), errChecksum)
	}
	b.Processes = b.Processes && b.Version > version3
	if b.Version != version2 && b.Locations > b.Meta.Stacks { // each has a stack
		return nil, fmt.Errorf("open block %s: it has %d locations and %d stacks", dir, b.Locations, b.Meta.Stacks)
	}
	names := tables
	if b.Version > version3 {
		names = append(names, sumsFile)
	}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("open block: %w", err)
		}
		if want := b.Files[name].Bytes; info.Size() != want {
			return nil, fmt.Errorf("open block: %s has %d bytes, want %d", filepath.Join(dir, name), info.Size(), want)
		}
	}
	return b, nil
}

// tables are the files that blocks of all versions have.
var tables = []string{rowsFile, windowsFile, seriesFile, labelsFile, stacksFile, locationsFile, functionsFile, mappingsFile, idsFile}

// Name is the name of the block's directory.
func (b *Block) Name() string { return filepath.Base(b.dir) }

// Dir is the block's directory.
func (b *Block) Dir() string { return b.dir }

// Move gives the directory another path. Nobody else may use the block yet.
func (b *Block) Move(dir string) error {
	err := os.Rename(b.dir, dir)
	if err == nil {
		b.dir = dir
	}
	return err
}

// Close closes what is open of the block. Its readers must have been closed.
func (b *Block) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, f := range []**pagedFile{&b.rows, &b.sums, &b.stacks, &b.labels, &b.locations, &b.functions} {
		errs = append(errs, (*f).close())
		*f = nil
	}
	return errors.Join(errs...)
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("read %s: more than %d bytes", path, limit)
	}
	return text, err
}

// DamagedError says that a file of a block is not what was written.
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("read %s: %v", e.Path, e.Err) }
func (e *DamagedError) Unwrap() error { return e.Err }

var errChecksum = errors.New("its checksum is wrong")

// readTable reads a whole file of a block, whose checksum must be right.
func readTable[T any](b *Block, name string) (all []T, err error) {
	path := filepath.Join(b.dir, name)
	in, err := b.readWhole(name)
	if err != nil {
		return nil, &DamagedError{path, err}
	}
	defer guard(path, &err)
	if all, err = parquet.Read[T](in, in.Size()); err != nil {
		return nil, &DamagedError{path, err}
	}
	return all, nil
}

// readWhole reads a file, and checks it as far as pages have no checksums of their own.
func (b *Block) readWhole(name string) (*bytes.Reader, error) {
	want := b.Files[name]
	text, err := readBounded(filepath.Join(b.dir, name), want.Bytes)
	if err != nil {
		return nil, err
	}
	if want.From < 0 || want.From > int64(len(text)) || crc32.Checksum(text[want.From:], castagnoli) != want.CRC {
		return nil, errChecksum
	}
	in := bytes.NewReader(text)
	return in, checkFooter(in, in.Size())
}

// checkFooter refuses a Parquet file that says its metadata are longer than itself: the
// library takes memory for them before it finds out.
func checkFooter(r io.ReaderAt, size int64) error {
	var end [8]byte // the length, and the magic
	if _, err := r.ReadAt(end[:], size-int64(len(end))); err != nil {
		return fmt.Errorf("read footer: %w", err)
	}
	if n := int64(binary.LittleEndian.Uint32(end[:])); n > size {
		return fmt.Errorf("read footer: %d bytes of metadata in %d", n, size)
	}
	return nil
}

// guard makes errors of panics: the Parquet library has some for files that it did
// not write, and a damaged file must cost no more than itself.
func guard(path string, err *error) {
	if r := recover(); r != nil {
		*err = &DamagedError{path, fmt.Errorf("decode Parquet: %v", r)}
	}
}
