// SPDX-License-Identifier: Apache-2.0

// Package dir writes profiles as files into a directory, one gzip pprof file
// for each, for go tool pprof or another program to pick up. It never removes
// any.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// Destination is one directory. It is safe for concurrent use, also by several
// processes.
type Destination struct{ path string }

// New takes the path of a directory that exists.
func New(path string) (*Destination, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open profile directory: %w; make it first", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("open profile directory %s: it is not a directory", path)
	}
	return &Destination{path}, nil
}

// String gives dir: and the path.
func (d *Destination) String() string { return "dir:" + d.path }

// timeLayout is the start of a window in UTC, so that names sort by time and
// suit every file system.
const timeLayout = "20060102T150405.000Z"

// Send writes <start>-<n>.pb.gz, where n is the first number that is free. The
// file appears whole or not at all, and is on disk when Send returns nil.
func (d *Destination) Send(ctx context.Context, p sample.Profile) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.write(p); err != nil {
		return fmt.Errorf("write profile to %v: %w", d, err)
	}
	return nil
}

func (d *Destination) write(p sample.Profile) (err error) {
	f, err := os.CreateTemp(d.path, ".fleetprof-*.tmp")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(p.PProf)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return d.publish(f.Name(), p.Start)
}

// publish links the file to the first free name: unlike a rename, a link never
// replaces another file, see link(2).
func (d *Destination) publish(temp string, start time.Time) error {
	for n := 0; ; n++ {
		name := fmt.Sprintf("%s-%d.pb.gz", start.UTC().Format(timeLayout), n)
		err := os.Link(temp, filepath.Join(d.path, name))
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		return d.sync()
	}
}

// sync makes the new name durable.
func (d *Destination) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
