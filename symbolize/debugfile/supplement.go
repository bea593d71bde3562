// SPDX-License-Identifier: Apache-2.0

package debugfile

import (
	"fmt"
	"os"
	"path"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// OpenSupplement finds the supplementary file of f, which was found at a path (empty if it was at none), by means of
// open: where f says; in the directory for such files; and by its build ID. The caller closes the file.
func OpenSupplement(f *objfile.File, at string, open func(path string) (*os.File, error)) (Found, error) {
	named, id, ok := f.Supplement()
	if !ok || !has(f, ".debug_info") { // stripped programs still say where it is
		return Found{}, ErrNone
	}
	var places []string
	switch {
	case path.IsAbs(named):
		places = append(places, path.Clean(named))
	case at != "":
		places = append(places, path.Join(path.Dir(path.Clean("/"+at)), named))
	}
	places = append(places, path.Join(directory, ".dwz", path.Base(named)))
	if len(id) > 2 {
		places = append(places, byID(id))
	}
	none := fmt.Errorf("supplementary file %s: %w", named, os.ErrNotExist)
	return first(places, none, open, func(d *objfile.File, _ *os.File, _ int64) error {
		if d.SupplementID() != id {
			return errNotOfIt
		}
		return nil
	})
}
