// SPDX-License-Identifier: Apache-2.0

// Package dir writes profiles as files into a directory, one gzip pprof file
// for each, for go tool pprof or another program to pick up; beside it its
// exemplars, gzip JSON, if there are any. It never removes any.
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

const (
	profileSuffix   = ".pb.gz"
	exemplarsSuffix = ".exemplars.json.gz"
)

// Send writes <start>-<n>.pb.gz, where n is the first number that is free, and
// then <start>-<n>.exemplars.json.gz. A file appears whole or not at all, and is on
// disk when Send returns nil.
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
	profile, err := d.writeTemp(p.PProf)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(profile)) }()
	var exemplars string
	if p.Exemplars != nil {
		if exemplars, err = d.writeTemp(p.Exemplars); err != nil {
			return err
		}
		defer os.Remove(exemplars) // unless it has got its name
	}
	name, err := d.publish(profile, p.Start)
	if err == nil && exemplars != "" {
		err = os.Rename(exemplars, filepath.Join(d.path, name+exemplarsSuffix))
	}
	if err != nil {
		return err
	}
	return d.sync()
}

// writeTemp writes a new file, down to the disk, and gives its path.
func (d *Destination) writeTemp(content []byte) (path string, err error) {
	f, err := os.CreateTemp(d.path, ".fleetprof-*.tmp")
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// publish links a profile to the first free name, which it gives without the suffix:
// unlike a rename, a link never replaces another file, see link(2).
func (d *Destination) publish(temp string, start time.Time) (name string, err error) {
	for n := 0; ; n++ {
		name = fmt.Sprintf("%s-%d", start.UTC().Format(timeLayout), n)
		err = os.Link(temp, filepath.Join(d.path, name+profileSuffix))
		if !errors.Is(err, fs.ErrExist) {
			return name, err
		}
	}
}

// sync makes new names durable.
func (d *Destination) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
