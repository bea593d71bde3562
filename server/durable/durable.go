// SPDX-License-Identifier: Apache-2.0

// Package durable makes what is on disk outlive a crash of the machine.
package durable

import (
	"errors"
	"os"
)

// SyncDir makes the names in a directory durable, see fsync(2).
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
