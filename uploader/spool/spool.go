// SPDX-License-Identifier: Apache-2.0

// Package spool keeps profiles on disk until they are sent: one file for each in a
// directory of their destination, see FORMAT.md. It knows neither bounds nor
// destinations; who uses it decides what goes.
//
// A process that is killed loses nothing that Write has returned for. What a loss of
// power may take is what was not given to Sync.
package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/sample"
)

// ErrCorrupt says that a record cannot be read and never will be: its bytes are not
// those that were written, the disk does not give them, or its file is gone.
var ErrCorrupt = errors.New("the record is damaged")

// Record is what is known of a profile in the spool without reading it.
type Record struct {
	// Sequence orders the records: those written later have higher ones.
	Sequence uint64
	// Written is the wall-clock time of Write, in milliseconds.
	Written time.Time
	// Samples is that of the profile.
	Samples int64
	// Bytes is the size of the file.
	Bytes int64
}

const (
	suffix    = ".profile"
	temporary = ".tmp"
	// maxSequence bounds what is taken for a sequence, so that there is always a next one.
	maxSequence = 1 << 62
)

// name has all of the record but the size, so that it can be accounted for if its
// bytes are damaged. Names sort by sequence.
func (r Record) name() string {
	return fmt.Sprintf("%016x-%d-%d%s", r.Sequence, r.Written.UnixMilli(), r.Samples, suffix)
}

// parseName reads what name has written. It takes no other spelling.
func parseName(name string) (r Record, ok bool) {
	fields := strings.Split(strings.TrimSuffix(name, suffix), "-")
	if len(fields) != 3 {
		return Record{}, false
	}
	sequence, err1 := strconv.ParseUint(fields[0], 16, 64)
	written, err2 := strconv.ParseInt(fields[1], 10, 64)
	samples, err3 := strconv.ParseInt(fields[2], 10, 64)
	r = Record{Sequence: sequence, Written: time.UnixMilli(written), Samples: samples}
	ok = errors.Join(err1, err2, err3) == nil && sequence < maxSequence && samples >= 0 && r.name() == name
	return r, ok
}

// Spool is one directory. Write, Remove and Sync are for one goroutine, Read is for any.
type Spool struct {
	path string
	next uint64
}

// Open gives a spool and the records that are in it, in their order. A directory that
// does not exist is an empty spool; it is made with the first record. What a process
// that was killed had begun to write is removed, other files are left alone.
func Open(path string) (*Spool, []Record, error) {
	files, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("open spool: %w", err)
	}
	s := &Spool{path: path}
	var records []Record
	for _, f := range files {
		if _, ours := parseName(strings.TrimSuffix(f.Name(), temporary)); ours && strings.HasSuffix(f.Name(), temporary) {
			if err := os.Remove(filepath.Join(path, f.Name())); err != nil {
				return nil, nil, fmt.Errorf("open spool: %w", err)
			}
		}
		r, ok := parseName(f.Name())
		if !ok || !f.Type().IsRegular() {
			continue
		}
		if info, err := f.Info(); err == nil { // else it is gone, or cannot be read either
			r.Bytes = info.Size()
		}
		records = append(records, r)
		s.next = r.Sequence + 1
	}
	return s, records, nil
}

// Write adds a profile. After an error nothing of it is left.
func (s *Spool) Write(p sample.Profile) (Record, error) {
	content := encode(p)
	r := Record{Sequence: s.next, Written: time.UnixMilli(time.Now().UnixMilli()), Samples: p.Samples, Bytes: int64(len(content))}
	temp := s.file(r) + temporary
	err := os.WriteFile(temp, content, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(s.path, 0o700); err == nil {
			err = os.WriteFile(temp, content, 0o600)
		}
	}
	if err == nil {
		err = os.Rename(temp, s.file(r))
	}
	if err != nil {
		_ = os.Remove(temp) // it may not be there; Open removes what stays
		return Record{}, fmt.Errorf("write to spool: %w", err)
	}
	s.next++
	return r, nil
}

// Read gives a profile back. An error that wraps ErrCorrupt is final.
func (s *Spool) Read(r Record) (sample.Profile, error) {
	p, err := s.read(r)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EIO) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return sample.Profile{}, fmt.Errorf("read from spool: %s: %w", r.name(), err)
	}
	return p, nil
}

func (s *Spool) read(r Record) (sample.Profile, error) {
	f, err := os.Open(s.file(r))
	if err != nil {
		return sample.Profile{}, err
	}
	defer f.Close()
	content := make([]byte, min(r.Bytes, maxBytes)+1) // one more, so that a longer file is not taken for r
	n, err := io.ReadFull(f, content)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return sample.Profile{}, err
	}
	p, err := decode(content[:n])
	p.Samples = r.Samples
	return p, err
}

// Remove takes a record out. One that is not there is no error.
func (s *Spool) Remove(r Record) error {
	if err := os.Remove(s.file(r)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove from spool: %w", err)
	}
	return nil
}

// Sync makes records outlive a loss of power; see fsync(2) for why the directory
// is synced as well. One that is not there is no error.
func (s *Spool) Sync(records []Record) error {
	paths := make([]string, 0, len(records)+1)
	for _, r := range records {
		paths = append(paths, s.file(r))
	}
	var errs []error
	for _, path := range append(paths, s.path) {
		f, err := os.Open(path)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("sync spool: %w", err)
	}
	return nil
}

func (s *Spool) file(r Record) string { return filepath.Join(s.path, r.name()) }
