// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/sample"
)

// open tries the link that leads to the mapped file itself whatever has become
// of its name (proc_pid_map_files(5)); then the path in the root of each task,
// then in ours, if the file found there proves to be the same.
func (f *Files) open(tasks []uint32, r *region) (*os.File, error) {
	if r.isPerfMap() {
		return f.openPerfMap(tasks[0], r.object.Path)
	}
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

// OpenBeside opens a regular file at an absolute path, which nothing on the way can lead
// out of the root it is in: the host's, or else that of a process that has run the object, which
// must have been sampled in the current window or in one not yet closed. The caller closes it.
func (f *Files) OpenBeside(o *sample.Object, path string) (*os.File, error) {
	f.mu.Lock()
	h := f.held[o]
	var tasks []uint32
	if h != nil {
		tasks = h.tasks
	}
	f.mu.Unlock()
	type opened struct {
		file *os.File
		err  error
	}
	done := make(chan opened, 1)
	go func() { // it may hang
		f.opening <- struct{}{}
		var o opened
		o.file, o.err = f.openBeside(tasks, path)
		<-f.opening
		done <- o
	}()
	select {
	case o := <-done:
		return o.file, o.err
	case <-time.After(openWait):
		go func() {
			if o := <-done; o.file != nil {
				o.file.Close()
			}
		}()
		return nil, fmt.Errorf("open %s: %w", path, os.ErrDeadlineExceeded)
	}
}

// openBeside looks in the root of the first process, which is the host's if we see the host's
// processes; in ours; and in those of tasks.
func (f *Files) openBeside(tasks []uint32, path string) (*os.File, error) {
	roots := []string{f.proc.Path(1, "root"), "/"}
	for _, task := range tasks {
		roots = append(roots, f.proc.Path(task, "root"))
	}
	refused := fmt.Errorf("%s: %w", path, os.ErrNotExist)
	for _, root := range roots {
		file, err := openUnder(root, path)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errNoRoot) {
			refused = err
		}
	}
	return nil, refused
}

// errNoRoot reports that the root of a process cannot be reached: it has ended, or is not ours to see.
var errNoRoot = errors.New("no way in")

// openUnder opens a regular file by its path inside a root directory, which nothing on
// the way can lead out of.
func openUnder(root, path string) (*os.File, error) {
	dir, err := openPath(unix.AT_FDCWD, root, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", root, errNoRoot, err)
	}
	defer unix.Close(dir)
	handle, err := openPath(dir, path, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", path, root, err)
	}
	file, err := readable(handle)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", path, root, err)
	}
	return file, nil
}

// openIn opens the path of an object inside a root directory, if the file there is that object.
func openIn(root string, o *sample.Object) (*os.File, error) {
	file, err := openUnder(root, o.Path)
	if err != nil {
		return nil, err
	}
	if err := prove(file, o); err != nil {
		file.Close()
		return nil, fmt.Errorf("%s in %s: %w", o.Path, root, err)
	}
	return file, nil
}

// prove reports errOtherFile for a file that is not an object.
func prove(file *os.File, o *sample.Object) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return err
	}
	if o.BuildID == "" {
		if st.Ino != o.Inode || st.Dev != o.Device {
			return errOtherFile
		}
		return nil
	}
	if elf, err := objfile.Open(file, st.Size); err != nil || elf.BuildID() != o.BuildID {
		return errors.Join(errOtherFile, err)
	}
	return nil
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
