// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize"
	"github.com/fleetprof/fleetprof/symbolize/debugfile"
)

// pageSize is what addresses of mappings are multiples of.
const pageSize = 4096

// Known reports whether there is debug information of a build ID.
func (k *Keeper) Known(buildID string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.files[buildID] != nil
}

// Name names code of a build ID by its address as linked. start is where its mapping begins, path is
// that of the mapped file. Code that no symbol is of is called by path and address, as on the host. It is
// false if there is no debug information, none that can be read, or if the mapping is not where the
// file was linked to be, as in profiles of others, whose addresses are those of one process.
func (k *Keeper) Name(buildID, path string, start, address uint64) (frames []sample.Frame, ok bool) {
	o, starts := k.use(buildID)
	if o == nil {
		return nil, false
	}
	if !slices.Contains(starts, start) {
		k.metrics.misplaced.Inc()
		return nil, false
	}
	frames, err := k.symbolizer.Linked(o, address)
	if !k.keeps(buildID, o) { // it was removed meanwhile, and must not stay open
		k.symbolizer.Forget(o)
	}
	if err != nil {
		k.metrics.unreadable.Inc()
		return nil, false
	}
	if len(frames) == 0 {
		frames = []sample.Frame{{Function: symbolize.OffsetName(path, address)}}
	}
	return frames, true
}

// use gives the object of a build ID and where its segments begin; nil if there is none.
func (k *Keeper) use(id string) (o *sample.Object, starts []uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.files[id]
	if f == nil {
		return nil, nil
	}
	f.used = k.now()
	if f.starts == nil {
		elf, err := openELF(k.path(id, wholeSuffix), id)
		if err != nil {
			k.metrics.unreadable.Inc()
			if !outOfFiles(err) { // it has been damaged since it was checked
				k.log.Warn("debug information is removed, as it cannot be read", "build_id", id, "error", err)
				k.remove(id, f)
			}
			return nil, nil
		}
		f.starts = startsOf(elf)
	}
	return f.object, f.starts
}

// keeps reports whether the file of an object is there still.
func (k *Keeper) keeps(id string, o *sample.Object) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.files[id]
	return f != nil && f.object == o
}

// startsOf gives the pages at which the segments with code begin. Debug files have the addresses, too.
func startsOf(f *objfile.File) []uint64 {
	starts := []uint64{}
	for _, s := range f.Segments {
		if s.Flags&elf.PF_X != 0 {
			starts = append(starts, s.Address&^(pageSize-1))
		}
	}
	return starts
}

// errNotOfIt says that a file is not the one of its build ID.
var errNotOfIt = errors.New("it has another build ID, or one that many programs have")

// outOfFiles reports an error that is none of the file: the process or the host has no more files or memory.
func outOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// openELF reads the headers of the file at a path, which must be an ELF file of that build ID.
func openELF(path, id string) (*objfile.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	elf, err := objfile.Open(file, info.Size())
	if err != nil {
		return nil, fmt.Errorf("read ELF file: %w", err)
	}
	if !debugfile.Is(elf, id) {
		return nil, fmt.Errorf("read ELF file: %w: %q", errNotOfIt, elf.BuildID())
	}
	return elf, nil
}
