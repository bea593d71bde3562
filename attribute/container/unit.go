// SPDX-License-Identifier: Apache-2.0

package container

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxUnit is the longest name of a unit in bytes, see systemd.unit(5).
const maxUnit = 255

// UnitFromPath gives the name of the systemd unit whose cgroup a path lies in, or
// "" if there is none. It is the unit that the host's own systemd made: the first
// below the slices, as sd_pid_get_unit(3) tells. What lies below that is delegated,
// and may have been given any name; so the programs of a user's session are all of
// user@1000.service. A process that is in a slice and no unit has the innermost of
// the slices.
//
// Escaped bytes are shown as they are meant (\x2d is a hyphen); a hyphen stays one,
// as only paths in names mean a slash by it.
func UnitFromPath(cgroupPath string) string {
	var slice string
	for name := range strings.SplitSeq(strings.Trim(cgroupPath, "/"), "/") {
		unit, kind := unitFromName(name)
		switch kind {
		case "":
			return slice
		case "slice":
			slice = unit
		default:
			return unit
		}
	}
	return slice
}

// unitFromName reads the name of a cgroup as that of a unit; kind is the part
// behind the last dot, "" if it is no unit that can have processes.
func unitFromName(name string) (unit, kind string) {
	// systemd puts an underscore before names that the kernel could use itself:
	// cg_escape in systemd's src/basic/cgroup-util.c.
	name = strings.TrimPrefix(name, "_")
	prefix, kind := cutLast(name, ".")
	switch kind {
	case "service", "scope", "slice", "socket", "mount", "swap":
	default:
		return "", ""
	}
	if prefix == "" || len(name) > maxUnit || strings.Trim(prefix, unitLetters) != "" {
		return "", ""
	}
	return unescape(name), kind
}

// unitLetters are what names of units consist of, see systemd.unit(5).
const unitLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@"

// unescape replaces \xNN by the byte it stands for. A name that would not be
// printable text then stays as it is.
func unescape(name string) string {
	parts := strings.Split(name, `\x`)
	plain := parts[0]
	for _, part := range parts[1:] {
		if len(part) < 2 {
			return name
		}
		code, err := strconv.ParseUint(part[:2], 16, 8)
		if err != nil {
			return name
		}
		plain += string([]byte{byte(code)}) + part[2:]
	}
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if !utf8.ValidString(plain) || strings.ContainsFunc(plain, unprintable) {
		return name
	}
	return plain
}

// Place is where a process runs.
type Place struct {
	// Container is the id of the innermost container, "" for the host.
	Container string
	// Unit is the systemd unit. A process in a container has none, as units hold
	// container managers too, other than one that podman starts from within a
	// unit of its own.
	Unit string
}

// PlaceFromPath tells both from the path of a cgroup.
func PlaceFromPath(cgroupPath string) Place {
	p := Place{Container: IDFromPath(cgroupPath)}
	if p.Container == "" || strings.Contains(cgroupPath, "/libpod-payload-"+p.Container) {
		p.Unit = UnitFromPath(cgroupPath)
	}
	return p
}
