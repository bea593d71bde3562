// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/server/durable"
)

// What a data directory holds, see FORMAT.md.
const (
	versionFile  = "VERSION"
	versionTemp  = "VERSION.tmp"
	lockFile     = "LOCK"
	tmpDir       = "tmp"
	blocksDir    = "blocks"
	logsDir      = "wal"
	exemplarsDir = "exemplars"
	// oldDir is that of the profiles of version 1.
	oldDir = "profiles"

	version       = "fleetprof store 4\n"
	firstVersion  = "fleetprof store 1\n"
	secondVersion = "fleetprof store 2\n"
	thirdVersion  = "fleetprof store 3\n"
)

// claim makes dir ours: it checks what is there, makes what is missing, and
// locks it. Closing the file gives it up.
func claim(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory %s: %w: choose another with --data", dir, err)
	}
	if err := checkForeign(dir); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of data directory %s: %w", dir, err)
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = fmt.Errorf("lock data directory %s: another fleetprof server uses it: stop that one, or choose another directory with --data", dir)
	case err != nil:
		err = fmt.Errorf("lock data directory %s: %w", dir, err)
	default:
		err = checkVersion(dir)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// checkForeign refuses a directory with a stranger's files in it. What a first
// start leaves behind when it is interrupted is not strange, nor is what mkfs
// puts at the top of a new file system.
func checkForeign(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read data directory %s: %w", dir, err)
	}
	foreign := ""
	for _, f := range files {
		switch f.Name() {
		case versionFile:
			return nil
		case lockFile, versionTemp, "lost+found":
		default:
			foreign = f.Name()
		}
	}
	if foreign != "" {
		return fmt.Errorf("open data directory %s: it holds other files (%q) and no fleetprof data: choose an empty or a new directory with --data", dir, foreign)
	}
	return nil
}

// checkVersion compares the version, or writes it into a new directory, or one of an earlier version, of which
// everything is still read: profiles of the first are taken over by takeOver, blocks of the others are read as they are.
func checkVersion(dir string) error {
	path := filepath.Join(dir, versionFile)
	got, err := readHead(path)
	if errors.Is(err, os.ErrNotExist) || got == firstVersion || got == secondVersion || got == thirdVersion {
		return writeVersion(dir, path)
	}
	if err != nil {
		return fmt.Errorf("read version of data directory %s: %w", dir, err)
	}
	if got != version {
		return fmt.Errorf("open data directory %s: it says %q and this fleetprof reads %q: use the fleetprof that wrote it, or choose another directory with --data",
			dir, strings.TrimSpace(got), strings.TrimSpace(version))
	}
	return nil
}

// readHead reads the first 64 bytes of a file.
func readHead(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64))
	return string(b), err
}

func writeVersion(dir, path string) error {
	temp := filepath.Join(dir, versionTemp)
	f, err := os.Create(temp)
	if err == nil {
		_, err = f.WriteString(version)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err == nil {
		err = durable.SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write version of data directory %s: %w", dir, err)
	}
	return nil
}
