// SPDX-License-Identifier: Apache-2.0

package debugfile

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"os"
	"strings"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// MinID is the length of a build ID, in hex digits, from which on it is taken for one of a kind: a
// hash of 8 bytes.
const MinID = 16

// ID is the build ID by which names of a file are found elsewhere: its GNU build ID, or that of the Go
// linker if it has no other, in lower-case hex. It is empty if the file has none that is one of a kind.
func ID(f *objfile.File) string {
	id := f.BuildID()
	if id == "" {
		id = f.GoBuildID()
	}
	if !Is(f, id) {
		return ""
	}
	return id
}

// Is reports whether a file has a build ID, be it the GNU one or that of the Go linker, and whether that is one
// of a kind.
func Is(f *objfile.File, id string) bool {
	text, err := hex.DecodeString(f.GoBuildID())
	given := err == nil && len(text) > 0 && !bytes.Contains(text, []byte("/"))
	switch {
	case len(id) < MinID:
		return false
	case id == f.BuildID():
		return !given || !madeOf(id, text)
	}
	return id == f.GoBuildID() && !given
}

// madeOf reports whether a GNU build ID is the one that the Go linker makes of its own. Build tools such as
// Bazel give it a constant (-buildid=redacted) in place of the sums that cmd/go joins by slashes, and so the
// GNU build ID of all programs is the same. Source: addbuildinfo of cmd/link, Sum32 of cmd/internal/hash,
// which inverts the first byte.
func madeOf(id string, text []byte) bool {
	sum := sha256.Sum256(text)
	sum[0] ^= 0xff
	return strings.HasPrefix(hex.EncodeToString(sum[:]), id)
}

// Wanted tells by its build ID which debug file would have names that f lacks, and that nobody has
// put beside it. There is none for a program in Go, which has its names in it.
func Wanted(f *objfile.File) (buildID string, ok bool) {
	_, _, whole := f.SymbolTable(elf.SHT_SYMTAB)
	_, golang := f.Section(".gopclntab")
	id := f.BuildID()
	return id, !whole && !golang && len(id) >= MinID
}

// OpenByID opens the debug file that Wanted told of by means of open. The caller closes the file.
func OpenByID(buildID string, open func(buildID string) (*os.File, error)) (Found, error) {
	found, err := try(buildID, open, func(d *objfile.File, _ *os.File, _ int64) error { return sameBuildID(d, buildID) })
	found.Path = ""
	return found, err
}
