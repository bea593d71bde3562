// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// maxCgroups bounds the lines of /proc/PID/cgroup: one per hierarchy. Linux has
// 14 controllers; named hierarchies come on top.
const maxCgroups = 256

// Cgroup is the membership of a process in one cgroup hierarchy.
type Cgroup struct {
	// ID is the hierarchy's number; 0 is version 2.
	ID int
	// Controllers are those bound to the hierarchy, in version 1; a hierarchy
	// without any has "name=NAME" instead. Version 2 lists none here.
	Controllers []string
	// Path begins with "/", the root of the reader's cgroup namespace. What
	// lies outside of that shows as "/..", see cgroup_namespaces(7).
	Path string
	// Deleted says that the cgroup has been removed (version 2 only).
	Deleted bool
}

// V2 reports whether this is the membership in the unified hierarchy.
func (c Cgroup) V2() bool { return c.ID == 0 }

// Has reports whether a controller is bound to the hierarchy.
func (c Cgroup) Has(controller string) bool { return slices.Contains(c.Controllers, controller) }

// Cgroups reads /proc/PID/cgroup, see cgroups(7).
func (f FS) Cgroups(pid uint32) ([]Cgroup, error) {
	var r lineReader
	if err := r.open(f.Path(pid, "cgroup"), maxCgroups); err != nil {
		return nil, fmt.Errorf("open cgroups of process %d: %w", pid, err)
	}
	defer r.close()
	var all []Cgroup
	for {
		line, cut, err := r.next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read cgroups of process %d: %w", pid, err)
		}
		cgroup, ok := parseCgroup(string(line))
		if !ok || cut {
			return nil, fmt.Errorf("parse cgroups of process %d: bad line %.80q", pid, string(line))
		}
		all = append(all, cgroup)
	}
}

// parseCgroup reads one line "ID:controllers:path". The kernel escapes nothing
// here, as it allows no newline in a cgroup's name; a colon may occur.
func parseCgroup(line string) (c Cgroup, ok bool) {
	parts := strings.SplitN(line, ":", 3)
	if len(parts) < 3 || !strings.HasPrefix(parts[2], "/") {
		return Cgroup{}, false
	}
	id, err := strconv.ParseUint(parts[0], 10, 31)
	if err != nil {
		return Cgroup{}, false
	}
	c.ID = int(id)
	if parts[1] != "" {
		c.Controllers = strings.Split(parts[1], ",")
	}
	c.Path = parts[2]
	if c.V2() {
		c.Path, c.Deleted = strings.CutSuffix(c.Path, deletedSuffix)
	}
	return c, true
}
