// SPDX-License-Identifier: Apache-2.0

// Package statedir is the directory in which an agent keeps what must outlive a restart.
// It belongs to one agent: nobody else may read it (mode 0700), and a second agent is
// refused as long as the first one runs. Each part of the agent has names of its own in
// it, see docs/policy.md.
package statedir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Dir is an open directory. It is safe for concurrent use.
type Dir struct {
	root *os.Root
	lock *os.File // the directory itself, flock(2)
	mu   sync.Mutex
}

// Open makes a directory if need be, and takes it for this process until Close.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	d := &Dir{root: root}
	if err := d.take(); err != nil {
		return nil, errors.Join(fmt.Errorf("take state directory %s: %w", path, err), d.Close())
	}
	return d, nil
}

// take refuses a directory of others, and closes it to them.
func (d *Dir) take() (err error) {
	if d.lock, err = d.root.Open("."); err != nil {
		return err
	}
	var stat unix.Stat_t
	if err := unix.Fstat(int(d.lock.Fd()), &stat); err != nil {
		return err
	}
	if int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d", stat.Uid)
	}
	if err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("is another agent running with it? lock: %w", err)
	}
	return d.lock.Chmod(0o700)
}

// Close is idempotent.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.root.Close()
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
		d.lock = nil
	}
	return err
}

// temporary is the suffix of a file that is being written.
const temporary = ".tmp"

// Write puts a file in the place of the one of its name: after a crash there is one of
// the two, whole.
func (d *Dir) Write(name string, text []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, err := d.root.OpenFile(name+temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.Write(text)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err == nil {
		err = d.root.Rename(name+temporary, name)
	}
	if err == nil {
		err = d.lock.Sync() // makes the name durable, fsync(2)
	}
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// Read gives a file of at most so many bytes. The error is fs.ErrNotExist if there is none.
func (d *Dir) Read(name string, most int) ([]byte, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // no pipe holds it up
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if len(text) > most {
		return nil, fmt.Errorf("read state: %s has more than %d bytes", name, most)
	}
	return text, nil
}
