// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxMounts bounds the lines of mountinfo: the kernel's default of the sysctl
// fs.mount-max.
const maxMounts = 100_000

// Mount is one line of /proc/PID/mountinfo, see proc_pid_mountinfo(5).
type Mount struct {
	// Root is the directory within the file system that is mounted, and
	// MountPoint where, as seen from the root directory of the process.
	Root, MountPoint string
	// Type is the file system's, like "cgroup2"; Source whatever was given to
	// mount(2), often meaningless.
	Type, Source string
	// SuperOptions are those of the file system as a whole, other than those of
	// this mount; for a cgroup hierarchy of version 1 its controllers.
	SuperOptions []string
}

// Has reports whether the file system has an option.
func (m Mount) Has(superOption string) bool { return slices.Contains(m.SuperOptions, superOption) }

// Mounts calls visit for every mount in the mount namespace of process pid
// until visit returns false. Mounts whose line has more than some 20,000 bytes
// (overlay file systems of very many layers) are left out.
func (f FS) Mounts(pid uint32, visit func(Mount) bool) error {
	var r lineReader
	if err := r.open(f.Path(pid, "mountinfo"), maxMounts); err != nil {
		return fmt.Errorf("open mounts of process %d: %w", pid, err)
	}
	defer r.close()
	for {
		line, cut, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read mounts of process %d: %w", pid, err)
		}
		if cut {
			continue
		}
		mount, ok := parseMount(string(line))
		if !ok {
			return fmt.Errorf("parse mounts of process %d: bad line %.80q", pid, string(line))
		}
		if !visit(mount) {
			return nil
		}
	}
}

// parseMount reads one line:
//
//	ID parent major:minor root mountpoint options [tag…] - type source options
func parseMount(line string) (Mount, bool) {
	mount, fileSystem, found := strings.Cut(line, " - ")
	left, right := strings.Split(mount, " "), strings.Split(fileSystem, " ")
	if !found || len(left) < 6 || len(right) < 3 {
		return Mount{}, false
	}
	return Mount{
		Root:         unescapeOctal(left[3]),
		MountPoint:   unescapeOctal(left[4]),
		Type:         unescapeOctal(right[0]),
		Source:       unescapeOctal(right[1]),
		SuperOptions: strings.Split(right[2], ","),
	}, true
}

// unescapeOctal undoes the kernel's mangle_path: space, tab, newline, backslash
// and number sign are written as a backslash and three octal digits.
func unescapeOctal(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' && i+3 < len(s) && isOctal(s[i+1:i+4]) {
			c = (s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0')
			i += 3
		}
		out = append(out, c)
	}
	return string(out)
}

// isOctal tells three octal digits that fit a byte.
func isOctal(s string) bool {
	return strings.Trim(s, "01234567") == "" && s[0] <= '3'
}
