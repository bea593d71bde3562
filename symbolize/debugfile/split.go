// SPDX-License-Identifier: Apache-2.0

package debugfile

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// OpenPackage finds the package with the split units of f, whose code was mapped from a path: beside the program,
// or f itself, if that was found at a path. The caller closes the file.
func OpenPackage(f *objfile.File, mapped, at string, open func(path string) (*os.File, error)) (Found, error) {
	// Split units have their addresses in this section, which few others have.
	if !has(f, ".debug_addr") {
		return Found{}, ErrNone
	}
	places := []string{path.Clean("/"+mapped) + ".dwp"}
	if at != "" && at != mapped {
		places = append(places, at+".dwp", strings.TrimSuffix(at, ".debug")+".dwp")
	}
	return first(places, ErrNone, open, func(*objfile.File, *os.File, int64) error { return nil })
}

// Split calls use with the files that may have a split unit by its name, compiled in a directory, until use takes one
// by returning nil: where the compiler has put it, and beside the program, which was mapped from a path. The
// last error tells most; it wraps os.ErrNotExist if there is no such file.
func Split(directory, name, mapped string, open func(path string) (*os.File, error), use func(*objfile.File) error) error {
	beside := path.Dir(path.Clean("/" + mapped))
	var places []string
	if path.IsAbs(name) {
		places = append(places, path.Clean(name))
	} else {
		places = append(places, path.Join("/", directory, name), path.Join(beside, name))
	}
	places = append(places, path.Join(beside, path.Base(name)))
	none := fmt.Errorf("split unit %s: %w", name, os.ErrNotExist)
	found, err := first(slices.Compact(places), none, open, func(f *objfile.File, _ *os.File, _ int64) error { return use(f) })
	if err == nil {
		found.File.Close()
	}
	return err
}
