// SPDX-License-Identifier: Apache-2.0

// Package procfs reads the text of /proc, with the place where /proc is
// mounted a parameter: tests read trees of files, and an agent in a container
// reads the host's.
//
// It owns the grammar of each file, see proc(5), and nothing else: no caches,
// no policy. What bites:
//
//   - A process may end between any two calls. Every method then gives an error
//     that matches [os.ErrNotExist], whether the kernel said ENOENT (the
//     directory is gone) or ESRCH (it went while its file was open).
//   - A PID may be another process's by the next call. Who must be sure compares
//     [Stat].StartTime.
//   - The text speaks of names that the process chose itself. Every read is
//     bounded, and no name is taken for UTF-8.
//
// All functions and methods may be called concurrently.
package procfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Self is given for a PID to mean the calling process. It works also where
// /proc belongs to a PID namespace in which [os.Getpid] is not our number.
const Self uint32 = 0

// deletedSuffix is what the kernel puts behind the path of an unlinked file,
// see d_path in the kernel's fs/d_path.c. A file can bear the suffix in its
// own name; no reader can tell the two apart.
const deletedSuffix = " (deleted)"

// memfdPrefix begins the path of a file made by memfd_create(2).
const memfdPrefix = "/memfd:"

// FS is one mounted proc file system. Make it with [New].
type FS struct{ root string }

// New returns the proc file system mounted at root, usually "/proc".
func New(root string) FS {
	if trimmed := strings.TrimRight(root, "/"); trimmed != "" {
		root = trimmed
	}
	return FS{root: root}
}

// Path gives the path of a file of process pid, for instance
// Path(42, "root") for /proc/42/root. The elements are not cleaned: below
// "root" and "cwd" a ".." does not mean what it means lexically.
func (f FS) Path(pid uint32, elem ...string) string {
	var b strings.Builder
	b.WriteString(f.root)
	b.WriteByte('/')
	if pid == Self {
		b.WriteString("self")
	} else {
		b.WriteString(strconv.FormatUint(uint64(pid), 10))
	}
	for _, e := range elem {
		b.WriteByte('/')
		b.WriteString(strings.TrimPrefix(e, "/"))
	}
	return b.String()
}

// PIDs lists all processes (thread group leaders) in ascending order. Some may
// have ended when the caller looks at them.
func (f FS) PIDs() ([]uint32, error) {
	dir, err := os.Open(f.root)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	pids := make([]uint32, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.ParseUint(name, 10, 32); err == nil && pid > 0 {
			pids = append(pids, uint32(pid))
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// Comm gives the name of the process's main thread. A program sets at most 15
// bytes; the kernel adds to the names of its own threads, up to 63 bytes.
func (f FS) Comm(pid uint32) (string, error) {
	var buf [128]byte
	text, err := readShort(f.Path(pid, "comm"), buf[:])
	if err != nil {
		return "", fmt.Errorf("read name of process %d: %w", pid, err)
	}
	// Only the last newline is the kernel's: a name may contain some.
	return strings.TrimSuffix(string(text), "\n"), nil
}

// Executable gives the base name of the program the process runs, see
// [FS.ExecutablePath] and [ExecutableName].
func (f FS) Executable(pid uint32) (string, error) {
	path, err := f.ExecutablePath(pid)
	return ExecutableName(path), err
}

// ExecutablePath gives the path of the program the process runs, as it lies in the
// root of the process, without the mark of a deleted file. A process without a program
// (kernel thread, zombie) has the path "" and no error. To see what another user's
// process executes takes the right to trace it, see proc_pid_exe(5).
func (f FS) ExecutablePath(pid uint32) (string, error) {
	target, err := os.Readlink(f.Path(pid, "exe"))
	if errors.Is(err, fs.ErrNotExist) && unix.Access(f.Path(pid), unix.F_OK) == nil {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read executable of process %d: %w", pid, gone(err))
	}
	return strings.TrimSuffix(target, deletedSuffix), nil
}

// ExecutableName is the base name of a program. One run from memfd_create(2) gives
// "memfd:" and the name given there.
func ExecutableName(path string) string {
	if strings.HasPrefix(path, memfdPrefix) {
		return path[1:]
	}
	return path[strings.LastIndexByte(path, '/')+1:]
}

// Environ reads the environment that the process was started with into buf, as
// NAME=value strings that each end in NUL, see proc_pid_environ(5). It is memory of
// the process, who can have changed it, and can have replaced it by pages that are
// never delivered (FUSE, userfaultfd(2)): then the call ends when the process does.
// An environment that does not fit is an error.
func (f FS) Environ(pid uint32, buf []byte) ([]byte, error) {
	text, err := readShort(f.Path(pid, "environ"), buf)
	if err != nil {
		return nil, fmt.Errorf("read environment of process %d: %w", pid, err)
	}
	return text, nil
}
