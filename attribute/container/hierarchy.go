// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"
	"strings"

	"github.com/fleetprof/fleetprof/internal/procfs"
)

// ErrNoCgroups says that the host has no cgroup hierarchy that could tell
// containers apart, or shows none to us.
var ErrNoCgroups = errors.New("no cgroup hierarchy is mounted")

// Hierarchy is one tree of cgroups. A host has a single one (version 2), or one
// for every set of controllers (version 1), or both kinds at once (hybrid).
type Hierarchy struct {
	V2 bool
	// Controller is the name of one controller of a version 1 hierarchy.
	Controller string
	// MountPoint is where we see the hierarchy's directories.
	MountPoint string
}

// String names the hierarchy as in a sentence.
func (h Hierarchy) String() string {
	if h.V2 {
		return "cgroup v2 at " + h.MountPoint
	}
	return "cgroup v1 " + h.Controller + " at " + h.MountPoint
}

// has reports whether c is the membership in this hierarchy.
func (h Hierarchy) has(c procfs.Cgroup) bool {
	if h.V2 {
		return c.V2()
	}
	return c.Has(h.Controller)
}

// controllers are those of version 1 that container managers put containers
// in, the surest first: some leave out the later ones. The kernel calls them by
// the same names (enum cgroup_subsys_id), other than the missing blkio.
func controllers() []string {
	return []string{"memory", "cpu", "pids", "cpuacct", "cpuset", "devices", "freezer"}
}

// Detect tells which hierarchy tells containers apart on this host. It is a
// version 1 controller if there is one that has processes below its root: on a
// hybrid host container managers use version 1, and the version 2 tree holds
// systemd's units or nothing. Without any process in a cgroup yet it is what a
// container manager would use: version 1 if mounted at all.
func Detect(f procfs.FS) (Hierarchy, error) {
	candidates, err := mounted(f)
	if err != nil {
		return Hierarchy{}, fmt.Errorf("find cgroup hierarchies: %w", err)
	}
	if len(candidates) == 0 {
		return Hierarchy{}, ErrNoCgroups
	}
	best, err := firstInUse(f, candidates)
	if err != nil {
		return Hierarchy{}, fmt.Errorf("choose cgroup hierarchy: %w", err)
	}
	return candidates[best], nil
}

// mounted lists hierarchies in order of preference, version 2 last.
func mounted(f procfs.FS) ([]Hierarchy, error) {
	widest := make(map[string]procfs.Mount) // by controller, "" for version 2
	offer := func(controller string, m procfs.Mount) {
		if best, found := widest[controller]; !found || len(m.Root) > len(best.Root) {
			widest[controller] = m
		}
	}
	err := f.Mounts(procfs.Self, func(m procfs.Mount) bool {
		switch {
		case !wholeTree(m.Root):
		case m.Type == "cgroup2":
			offer("", m)
		case m.Type == "cgroup":
			for _, controller := range controllers() {
				if m.Has(controller) {
					offer(controller, m)
				}
			}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	var all []Hierarchy
	for _, controller := range append(controllers(), "") {
		if m, found := widest[controller]; found {
			all = append(all, Hierarchy{V2: controller == "", Controller: controller, MountPoint: m.MountPoint})
		}
	}
	return all, nil
}

// wholeTree tells mounts that do not leave out a part of what we may see. Their
// root is "/", or, made from outside of our cgroup namespace, some "/.."; the
// more of those the more it shows.
func wholeTree(root string) bool { return strings.ReplaceAll(root, "/..", "") == "" || root == "/" }

// firstInUse returns the index of the first hierarchy that has a process below
// its root, or 0.
func firstInUse(f procfs.FS, candidates []Hierarchy) (int, error) {
	pids, err := f.PIDs()
	if err != nil {
		return 0, err
	}
	best := len(candidates)
	for _, pid := range pids {
		cgroups, err := f.Cgroups(pid)
		if err != nil {
			continue // it has ended, or is hidden from us; the others will tell
		}
		for _, c := range cgroups {
			for i := range candidates[:best] {
				if candidates[i].has(c) && c.Path != "/" {
					best = i
					break
				}
			}
		}
		if best == 0 {
			break
		}
	}
	return best % len(candidates), nil
}
