// SPDX-License-Identifier: Apache-2.0

package container

import "strings"

// shortID is the length of the names buildkit gives to the containers of a
// build: 25 letters and digits.
const shortID = 25

// IDFromPath gives the id of the innermost container that a cgroup path leads
// into, or "" if none can be told for certain. A path is recognized by the
// form that a container manager gives it, never by where it lies, as most
// managers let the administrator choose a parent:
//
//	…/docker-ID.scope, cri-containerd-, crio-, nerdctl-, libpod-     systemd driver
//	…/ID with 64 hexadecimal digits                                  cgroupfs driver
//	…/x.slice:cri-containerd:ID                                      the two confused
//	…/libpod-ID, …/libpod-payload-ID, …/crio-ID                      podman, CRI-O
//	…/buildkit/ID, …/docker-ID.scope with 25 letters and digits      image builds
//	…/ecs/TASK/ID, …/TASK/TASK-NUMBER                                Amazon ECS, Fargate
//	…/garden/GUID                                                    Cloud Foundry
//	…/lxc.payload.NAME, /lxc.payload/NAME, /lxc/NAME                 LXC, LXD, Proxmox
//	/k8s.io/NAME, /default/NAME                                      containerd's ctr
//
// LXC and ctr know containers by name only, so the name is the id. Of the
// namespaces containerd may have only its two usual ones are taken, and those
// only at the top: any other /A/B may be a cgroup somebody made by hand.
//
// Not containers: pods, systemd's units, and the monitors that container
// managers run beside a container, such as crio-conmon-ID.scope.
func IDFromPath(cgroupPath string) string {
	var id, parent string
	depth := 0
	for name := range strings.SplitSeq(strings.TrimPrefix(cgroupPath, "/"), "/") {
		switch found := idFromName(name); {
		case found == name && parent == "libpod_parent": // a pod of podman's
		case found != "":
			id = found
		case isNested(name, parent, depth):
			id = name
		}
		parent = name
		depth++
	}
	return id
}

// idFromName recognizes a container by the name of its cgroup alone.
func idFromName(name string) string {
	if isHex(name, 64) {
		return name
	}
	if lxc, ok := strings.CutPrefix(name, "lxc.payload."); ok && isName(lxc) {
		return lxc
	}
	unit, isScope := strings.CutSuffix(name, ".scope")
	manager, id := cutLast(unit, "-")
	switch {
	case manager == "docker" && isScope && isBuild(id):
		return id
	case !isHex(id, 64):
	case manager == "libpod", manager == "libpod-payload", manager == "crio", isScope && isManager(manager):
		return id
	}
	// A systemd triple "slice:manager:ID" that was used as a plain path.
	triple := strings.Split(name, ":")
	if len(triple) == 3 && isManager(triple[1]) && isHex(triple[2], 64) {
		return triple[2]
	}
	return ""
}

// isNested tells names that are a container's only below a certain parent;
// depth is the number of cgroups above name.
func isNested(name, parent string, depth int) bool {
	switch parent {
	case "buildkit":
		return isBuild(name)
	case "garden":
		return isGUID(name)
	case "lxc", "lxc.payload", "k8s.io", "default":
		return depth == 1 && isName(name)
	}
	task, number := cutLast(name, "-")
	return task == parent && isHex(task, 32) && number != "" && strings.Trim(number, "0123456789") == ""
}

// isManager tells who names systemd scopes after containers.
func isManager(name string) bool {
	switch name {
	case "docker", "cri-containerd", "crio", "nerdctl", "libpod":
		return true
	}
	return false
}

// cutLast splits s around the last separator.
func cutLast(s, separator string) (before, after string) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):]
	}
	return "", s
}

func isHex(s string, length int) bool {
	return len(s) == length && strings.Trim(s, "0123456789abcdef") == ""
}

func isBuild(s string) bool {
	return len(s) == shortID && strings.Trim(s, "0123456789abcdefghijklmnopqrstuvwxyz") == ""
}

// isGUID tells the ids of Garden: groups of 8, 4, 4, 4 and 4 hexadecimal digits.
func isGUID(s string) bool {
	groups := strings.Split(s, "-")
	if len(groups) != 5 || !isHex(groups[0], 8) {
		return false
	}
	for _, g := range groups[1:] {
		if !isHex(g, 4) {
			return false
		}
	}
	return true
}

// isName tells what may be a container's name: what containerd and LXC both
// allow, in at most 76 bytes (containerd's limit).
func isName(s string) bool {
	if len(s) == 0 || len(s) > 76 {
		return false
	}
	for _, c := range []byte(s) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return s[0] != '.' && s[0] != '_' && s[0] != '-'
}

// IsRandom tells ids that container managers choose from names that people do.
func IsRandom(id string) bool { return isHex(id, 64) }
