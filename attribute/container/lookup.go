// SPDX-License-Identifier: Apache-2.0

package container

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/fleetprof/fleetprof/internal/procfs"
	"golang.org/x/sys/unix"
)

// fileidKernfs is the type of a kernfs file handle, the eight bytes of the id:
// FILEID_KERNFS of the kernel's include/linux/exportfs.h, since Linux 5.5.
const fileidKernfs = 0xfe

var (
	errHidden = errors.New("cgroup lies outside of what we see mounted")
	errMoved  = errors.New("process is in another cgroup")
)

// pathOf gives the path of a cgroup from its id alone, see
// open_by_handle_at(2): no process needs to be in it any more. It needs
// CAP_DAC_READ_SEARCH in the initial user namespace.
func pathOf(f procfs.FS, h Hierarchy, id uint64) (string, error) {
	mount, err := unix.Open(h.MountPoint, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", h, err)
	}
	defer unix.Close(mount)
	handle := unix.NewFileHandle(fileidKernfs, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(mount, handle, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("open cgroup %d by handle in %s: %w", id, h, err)
	}
	defer unix.Close(fd)
	path, err := os.Readlink(f.Path(procfs.Self, "fd", strconv.Itoa(fd)))
	if err != nil {
		return "", fmt.Errorf("read path of cgroup %d: %w", id, err)
	}
	path, inside := strings.CutPrefix(path, h.MountPoint)
	if !inside {
		return "", fmt.Errorf("read path of cgroup %d in %s: %w", id, h, errHidden)
	}
	return path, nil
}

// pathOfProcess gives the path of the cgroup that a living process is in, if
// that is the cgroup with the given id. The process may have moved since the
// sample was taken, or its PID may be another's by now.
func pathOfProcess(f procfs.FS, h Hierarchy, id uint64, pid uint32) (string, error) {
	path, now, err := currentCgroup(f, h, pid)
	if err == nil && now != id {
		err = fmt.Errorf("look for cgroup %d at process %d: %w", id, pid, errMoved)
	}
	if err != nil {
		return "", err
	}
	return path, nil
}

// currentCgroup gives path and id of the cgroup that a living process is in.
func currentCgroup(f procfs.FS, h Hierarchy, pid uint32) (path string, id uint64, err error) {
	cgroups, err := f.Cgroups(pid)
	if err != nil {
		return "", 0, err
	}
	for _, c := range cgroups {
		if !h.has(c) {
			continue
		}
		if strings.HasPrefix(c.Path, "/..") {
			return "", 0, fmt.Errorf("locate cgroup %s of process %d: %w", c.Path, pid, errHidden)
		}
		var st unix.Stat_t
		if err := unix.Stat(h.MountPoint+c.Path, &st); err != nil {
			return "", 0, fmt.Errorf("stat cgroup %s in %s: %w", c.Path, h, err)
		}
		return c.Path, st.Ino, nil
	}
	return "", 0, fmt.Errorf("look for process %d in %s: %w", pid, h, errMoved)
}
