// SPDX-License-Identifier: Apache-2.0

// Package debugfile finds the file that has the symbols and the debug information of a stripped one:
// distributions ship them in packages of their own, such as libc6-dbg.
// https://sourceware.org/gdb/current/onlinedocs/gdb.html/Separate-Debug-Files.html
package debugfile

import (
	"debug/elf"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"slices"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

const (
	// directory is where debug files are, by build ID and by the path of what they belong to.
	directory = "/usr/lib/debug"
	// maxSummed bounds a file of which the sum is computed, in bytes.
	maxSummed = 256 << 20
)

var (
	// ErrNone reports that there is no debug file, or none is needed.
	ErrNone     = errors.New("no debug file")
	errNotOfIt  = errors.New("belongs to another file")
	errTooLarge = errors.New("too large to be summed")
)

// Found is a file that was found, open.
type Found struct {
	File *os.File
	ELF  *objfile.File
	// Path is where it was found, empty if it is not of this host.
	Path string
}

// Open finds the debug file of f, which has been mapped from a path, by means of open, which opens
// an absolute path. The caller closes the file.
func Open(f *objfile.File, mapped string, open func(path string) (*os.File, error)) (Found, error) {
	if _, _, whole := f.SymbolTable(elf.SHT_SYMTAB); whole {
		return Found{}, ErrNone
	}
	err := ErrNone
	id := f.BuildID()
	if len(id) > 2 {
		var found Found
		if found, err = first([]string{byID(id)}, err, open, func(d *objfile.File, _ *os.File, _ int64) error {
			return sameBuildID(d, id)
		}); err == nil {
			return found, nil
		}
	}
	name, crc, ok := f.DebugLink()
	if !ok {
		return Found{}, err
	}
	dir := path.Dir(path.Clean("/" + mapped))
	places := []string{path.Join(dir, name), path.Join(dir, ".debug", name), path.Join(directory, dir, name)}
	return first(places, err, open, func(d *objfile.File, content *os.File, size int64) error {
		if id != "" && d.BuildID() != "" {
			return sameBuildID(d, id)
		}
		return sameSum(content, size, crc)
	})
}

// byID is where a file is by its build ID, which has more than 2 digits.
func byID(id string) string { return path.Join(directory, ".build-id", id[:2], id[2:]+".debug") }

// has tells whether a file has a section, compressed or not.
func has(f *objfile.File, name string) bool {
	return slices.ContainsFunc(f.Sections, func(s objfile.Section) bool { return s.Name == name && s.Type != elf.SHT_NOBITS })
}

// worse is the error to tell of: that a file is not there is none.
func worse(err, next error) error {
	if errors.Is(next, os.ErrNotExist) {
		return err
	}
	return next
}

// first opens the first of the files at some paths that proves to be the right one. Else the error is none, or what is
// worse.
func first(paths []string, none error, open func(path string) (*os.File, error), right func(*objfile.File, *os.File, int64) error) (Found, error) {
	for _, at := range paths {
		found, cause := try(at, open, right)
		if cause == nil {
			return found, nil
		}
		none = worse(none, cause)
	}
	return Found{}, none
}

// try opens the file at a path, if it proves to be the right one.
func try(path string, open func(path string) (*os.File, error), right func(*objfile.File, *os.File, int64) error) (Found, error) {
	file, err := open(path)
	if err != nil {
		return Found{}, err
	}
	info, err := file.Stat()
	var opened *objfile.File
	if err == nil {
		opened, err = objfile.Open(file, info.Size())
	}
	if err == nil {
		err = right(opened, file, info.Size())
	}
	if err != nil {
		file.Close()
		return Found{}, fmt.Errorf("debug file %s: %w", path, err)
	}
	return Found{file, opened, path}, nil
}

func sameBuildID(d *objfile.File, id string) error {
	if d.BuildID() != id {
		return errNotOfIt
	}
	return nil
}

func sameSum(content io.ReaderAt, size int64, want uint32) error {
	if size > maxSummed {
		return errTooLarge
	}
	sum := crc32.NewIEEE()
	if _, err := io.Copy(sum, io.NewSectionReader(content, 0, size)); err != nil {
		return err
	}
	if sum.Sum32() != want {
		return errNotOfIt
	}
	return nil
}
