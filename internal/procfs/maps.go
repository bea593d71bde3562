// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// maxMappings bounds the lines read of one maps file. It is the largest
// vm.max_map_count that distributions set; the kernel's own default is 65,530.
const maxMappings = 1 << 20

// Perm is a set of permissions of a mapping.
type Perm uint8

// The permissions of a mapping, in the order of the text "rwxs".
const (
	Read Perm = 1 << iota
	Write
	Exec
	Shared // changes are seen by other processes and by the file
)

// Mapping is one line of /proc/PID/maps: addresses [Start, Limit) of a process,
// backed by a file from byte Offset on.
type Mapping struct {
	Start, Limit, Offset uint64
	Perm                 Perm
	// Deleted says that the file has been unlinked, so that Path no longer
	// leads to it.
	Deleted bool
	// Device is encoded as by makedev(3). Device and Inode are 0 for memory
	// without a file. The file systems overlayfs and btrfs show a device here
	// that stat(2) does not give for the same file.
	Device, Inode uint64
	// Path is the file's path in the mount namespace of the process; or what
	// the kernel shows instead, like "[vdso]", "[stack]", "[anon:NAME]",
	// "anon_inode:[io_uring]" or "/memfd:NAME"; or empty. It is empty too if
	// it has more than some 20,000 bytes.
	Path string
}

// Backing tells what kind of thing a mapping's memory comes from.
type Backing uint8

const (
	// Anonymous is memory that no named file backs, under whatever label the
	// kernel shows it: heap, stack, shared memory, buffers of the kernel.
	Anonymous Backing = iota
	// File is a file that has, or had, a path.
	File
	// Memfd is a file made by memfd_create(2): no path leads to it. Programs
	// run from there, and JIT compilers write to it.
	Memfd
	// VDSO is the code the kernel maps into every process, see vdso(7).
	VDSO
)

// Backing tells what kind of thing the mapping's memory comes from.
func (m *Mapping) Backing() Backing {
	switch {
	case m.Path == "[vdso]":
		return VDSO
	case strings.HasPrefix(m.Path, memfdPrefix):
		return Memfd
	case m.Inode == 0 || m.nameless():
		return Anonymous
	}
	return File
}

// nameless tells anonymous memory that the kernel keeps in a hidden file:
// shared mappings (mmap(2) shows them as /dev/zero, which is never what is
// executed), huge pages, System V segments (shmget(2)) and anonymous inodes.
func (m *Mapping) nameless() bool {
	if strings.HasPrefix(m.Path, "/") {
		return m.Deleted && (m.Path == "/dev/zero" || m.Path == "/anon_hugepage" ||
			strings.HasPrefix(m.Path, "/SYSV"))
	}
	return m.Path != ""
}

// Maps calls visit for the mappings of process pid in ascending order of
// address, until visit returns false. A process without memory of its own
// (kernel thread, zombie) has none. The list is not of one instant: the kernel
// gives it a page at a time.
func (f FS) Maps(pid uint32, visit func(Mapping) bool) error {
	return f.maps(pid, 0, visit)
}

// ExecutableMaps is Maps for mappings with Exec only; skipping the others
// costs no allocation.
func (f FS) ExecutableMaps(pid uint32, visit func(Mapping) bool) error {
	return f.maps(pid, Exec, visit)
}

func (f FS) maps(pid uint32, need Perm, visit func(Mapping) bool) error {
	var r lineReader
	if err := r.open(f.Path(pid, "maps"), maxMappings); err != nil {
		return fmt.Errorf("open maps of process %d: %w", pid, err)
	}
	defer r.close()
	var previous string // neighbours have the same path: make the string once
	for {
		line, cut, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read maps of process %d: %w", pid, err)
		}
		m, path, ok := parseMapping(line)
		if !ok {
			return fmt.Errorf("parse maps of process %d: bad line %.80q", pid, string(line))
		}
		if m.Perm&need != need {
			continue
		}
		if cut {
			path = nil
		}
		path, m.Deleted = bytes.CutSuffix(path, []byte(deletedSuffix))
		if previous != string(path) {
			previous = string(path)
		}
		m.Path = unescapeNewlines(previous)
		if !visit(m) {
			return nil
		}
	}
}

// parseMapping reads one line, the form of which show_map_vma in the kernel's
// fs/proc/task_mmu.c gives:
//
//	start-limit rwxp offset major:minor inode      path
//
// All numbers are hexadecimal but the inode. The path is returned as it stands.
func parseMapping(line []byte) (m Mapping, path []byte, ok bool) {
	s := scanner{line: line}
	m.Start = s.hex('-')
	m.Limit = s.hex(' ')
	m.Perm = parsePerm(s.field(' '))
	m.Offset = s.hex(' ')
	major := s.hex(':')
	minor := s.hex(' ')
	m.Inode = s.decimal(' ')
	if s.bad || m.Start >= m.Limit || major > 0xfff || minor > 0xfffff {
		return Mapping{}, nil, false
	}
	m.Device = unix.Mkdev(uint32(major), uint32(minor))
	return m, bytes.TrimLeft(s.rest(), " "), true
}

func parsePerm(text []byte) (p Perm) {
	for i, c := range []byte("rwxs") {
		if i < len(text) && text[i] == c {
			p |= 1 << i
		}
	}
	return p
}

// unescapeNewlines undoes the only escape the kernel writes in a path of maps.
// It leaves backslashes as they are, so a name that really holds the four
// characters \012 comes out wrong.
func unescapeNewlines(path string) string {
	return strings.ReplaceAll(path, `\012`, "\n")
}
