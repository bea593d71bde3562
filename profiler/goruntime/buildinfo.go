// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

const (
	buildInfoMagic = "\xff Go buildinf:"
	// buildInfoHeader is what precedes the two strings, in bytes.
	buildInfoHeader = 32
	// maxBuildInfo bounds the section; a program with 1,000 modules has 100 KiB.
	maxBuildInfo = 1 << 20
)

// buildInfo is what a program says about its making.
type buildInfo struct {
	// version is the Go version, such as "go1.26.8" or "go1.25.0 X:nodwarf5".
	version string
	// modules are the lines of "go version -m".
	modules string
}

// readBuildInfo reads .go.buildinfo: a header of 32 bytes, of which byte 15
// has bit 1 set if two strings follow, each after its length: Go 1.18 and later.
// Source: debug/buildinfo and cmd/link/internal/ld/data.go.
func readBuildInfo(f *objfile.File) (buildInfo, error) {
	s, ok := f.Section(".go.buildinfo")
	if !ok {
		return buildInfo{}, ErrNotGo
	}
	b := make([]byte, min(s.Size, maxBuildInfo))
	if _, err := io.ReadFull(f.Reader(s), b); err != nil {
		return buildInfo{}, err
	}
	if len(b) < buildInfoHeader || string(b[:len(buildInfoMagic)]) != buildInfoMagic || b[15]&2 == 0 {
		return buildInfo{}, ErrNotGo
	}
	var info buildInfo
	var err error
	b = b[buildInfoHeader:]
	if info.version, b, err = lengthString(b); err != nil {
		return buildInfo{}, err
	}
	if info.modules, _, err = lengthString(b); err != nil {
		return buildInfo{}, err
	}
	return info, nil
}

// lengthString cuts off a string that stands after its length.
func lengthString(b []byte) (s string, rest []byte, err error) {
	n, width := binary.Uvarint(b)
	if width <= 0 || n > uint64(len(b)-width) {
		return "", nil, fmt.Errorf("string of build information: %w", ErrDamaged)
	}
	return string(b[width:][:n]), b[width:][n:], nil
}

// module is the version of a module in the program, empty if it is not there or
// was replaced by another.
func (i *buildInfo) module(path string) string {
	lines := strings.Split(i.modules, "\n")
	for n, line := range lines {
		f := strings.Split(line, "\t")
		if len(f) >= 3 && f[0] == "dep" && f[1] == path {
			if n+1 < len(lines) && strings.HasPrefix(lines[n+1], "=>\t") {
				return ""
			}
			return f[2]
		}
	}
	return ""
}

// has tells whether a module is in the program.
func (i *buildInfo) has(path string) bool { return strings.Contains(i.modules, "\ndep\t"+path+"\t") }
