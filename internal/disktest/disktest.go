// SPDX-License-Identifier: Apache-2.0

// Package disktest has disks for tests.
package disktest

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// Tiny mounts a file system of so many bytes for as long as a test takes, or skips the test where
// that is not allowed.
func Tiny(t testing.TB, bytes int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes))
	if errors.Is(err, unix.EPERM) {
		t.Skip("mounting a file system is not permitted")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil { // nothing in it is open any more
			t.Error(err)
		}
	})
	return dir
}
