// SPDX-License-Identifier: Apache-2.0

package strip

import (
	"errors"
	"fmt"
	"os"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/debugfile"
)

// Files opens the bytes of an object, as symbolize.Files does.
type Files interface {
	Open(o *sample.Object) (*os.File, error)
	OpenBeside(o *sample.Object, path string) (*os.File, error)
}

// Held is the file of an object that is kept open, so that it can be stripped when its process has
// ended. It is not safe for concurrent use, but what Names gives is.
type Held struct {
	files       Files
	object      *sample.Object
	buildID     string
	file, debug *os.File
}

// Hold opens the file of an object, and nothing else. The build ID is that of debugfile.ID.
func Hold(files Files, o *sample.Object, buildID string) (*Held, error) {
	file, err := files.Open(o)
	if err != nil {
		return nil, err
	}
	return &Held{files: files, object: o, buildID: buildID, file: file}, nil
}

// Close closes the files, which were opened for reading: nothing can be lost.
func (h *Held) Close() error {
	h.file.Close()
	if h.debug != nil {
		h.debug.Close()
	}
	return nil
}

// errOther reports a file that is not the one that was sampled.
var errOther = errors.New("it has another build ID")

// Names strips the file, together with its debug file if there is one that is its own. It is called once, and
// the result is valid until Close.
func (h *Held) Names(limit int64) (*File, error) {
	info, err := h.file.Stat()
	if err != nil {
		return nil, err
	}
	object, err := objfile.Open(h.file, info.Size())
	if err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	if id := debugfile.ID(object); id != h.buildID {
		return nil, fmt.Errorf("read object: %w: %q", errOther, id)
	}
	debug, err := debugfile.Open(object, h.object.Path, func(path string) (*os.File, error) {
		return h.files.OpenBeside(h.object, path)
	})
	if err != nil { // there is none, or it is not of this file: the object's own names are what there is
		return New(object, nil, limit)
	}
	h.debug = debug.File
	return New(object, debug.ELF, limit)
}
