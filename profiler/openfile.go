// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/sample"
)

// open tries the link that leads to the mapped file itself whatever has become
// of its name (proc_pid_map_files(5)); then the path in the root of each task,
// then in ours, if the file found there proves to be the same.
func (f *Files) open(tasks []uint32, r *region) (*os.File, error) {
	var errs []error
	for _, task := range tasks {
		exact := f.proc.Path(task, "map_files", fmt.Sprintf("%x-%x", r.start, r.limit))
		path, err := openPath(unix.AT_FDCWD, exact, 0)
		if err == nil {
			return readable(path)
		}
		errs = append(errs, fmt.Errorf("%s: %w", exact, err))
	}
	for _, task := range tasks {
		file, err := openIn(f.proc.Path(task, "root"), r.object)
		if err == nil {
			return file, nil
		}
		errs = append(errs, err)
	}
	file, err := openIn("/", r.object)
	if err == nil {
		return file, nil
	}
	return nil, errors.Join(append(errs, err)...)
}

// openIn opens the path of an object inside a root directory, which nothing on
// the way can lead out of.
func openIn(root string, o *sample.Object) (*os.File, error) {
	dir, err := openPath(unix.AT_FDCWD, root, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", root, err)
	}
	defer unix.Close(dir)
	path, err := openPath(dir, o.Path, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", o.Path, root, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(path, &st); err != nil || (o.BuildID == "" && (st.Ino != o.Inode || st.Dev != o.Device)) {
		unix.Close(path)
		return nil, fmt.Errorf("%s in %s: %w", o.Path, root, errors.Join(errOtherFile, err))
	}
	file, err := readable(path)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", o.Path, root, err)
	}
	if o.BuildID != "" {
		if elf, err := objfile.Open(file, st.Size); err != nil || elf.BuildID() != o.BuildID {
			file.Close()
			return nil, fmt.Errorf("%s in %s: %w", o.Path, root, errors.Join(errOtherFile, err))
		}
	}
	return file, nil
}

// errOtherFile reports a file under the name of an object that is not it. File
// systems that show different devices in maps and stat (overlayfs, btrfs) give
// it too: no name is better than a wrong one.
var errOtherFile = errors.New("not the file that was mapped")

// openPath gets a handle on a file without opening it, so that nothing happens
// to what it is: a FIFO's writer stays blocked, a device unopened.
func openPath(dir int, name string, resolve uint64) (fd int, err error) {
	return unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve})
}

// readable opens for reading what a handle from openPath refers to, if it is a
// regular file of a file system that stores files. It closes the handle.
func readable(path int) (*os.File, error) {
	defer unix.Close(path)
	var st unix.Stat_t
	if err := unix.Fstat(path, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("not a regular file")
	}
	var system unix.Statfs_t
	if err := unix.Fstatfs(path, &system); err != nil {
		return nil, err
	}
	if isKernelInterface(system.Type) {
		return nil, errors.New("not a stored file")
	}
	return os.OpenFile("/proc/self/fd/"+strconv.Itoa(path), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
}

// isKernelInterface tells file systems whose files are questions to the kernel:
// reading one may have effects. See include/uapi/linux/magic.h.
func isKernelInterface(magic int64) bool {
	switch magic {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.TRACEFS_MAGIC, unix.DEBUGFS_MAGIC,
		unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC:
		return true
	}
	return false
}
