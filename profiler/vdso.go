// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"fmt"
	"os"

	"github.com/fleetprof/fleetprof/internal/procfs"
)

// maxVDSO bounds the image: it is two to four pages on every architecture.
const maxVDSO = 1 << 20

// VDSO copies the ELF image that the kernel maps into every process, see
// vdso(7), out of this process's own memory. All 64-bit processes of a host
// have the same.
func VDSO(proc procfs.FS) ([]byte, error) {
	self := uint32(os.Getpid())
	var image []byte
	var readErr error
	err := proc.ExecutableMaps(self, func(m procfs.Mapping) bool {
		if m.Backing() != procfs.VDSO || m.Limit-m.Start > maxVDSO {
			return true
		}
		var mem *os.File
		if mem, readErr = os.Open(proc.Path(self, "mem")); readErr != nil {
			return false
		}
		defer mem.Close()
		image = make([]byte, m.Limit-m.Start)
		_, readErr = mem.ReadAt(image, int64(m.Start))
		return false
	})
	if err = errors.Join(err, readErr); err != nil {
		return nil, fmt.Errorf("read vDSO: %w", err)
	}
	return image, nil
}
