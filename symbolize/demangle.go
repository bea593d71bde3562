// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/ianlancetaylor/demangle"
)

const (
	// maxMangled is the longest name, in bytes, that is given to the demangler.
	maxMangled = 4 << 10
	// demangleTime is how long the demangler may work for one object. It takes
	// some 10 µs for a usual name, but up to 100 ms for one made to be slow.
	demangleTime = 2 * time.Second
	// maxNameBits bounds a name that people read to 2^12 bytes.
	maxNameBits = 12
)

// demangler makes the names of one object readable. It is safe for concurrent
// use.
type demangler struct {
	spent atomic.Int64 // in nanoseconds
}

// readable turns a linker's name into one that people read: C++ and Rust are
// demangled, without the parameters, return types and hashes that tell
// overloads and versions apart. A name that is not mangled, or that the
// demangler cannot read, stays as it is; for the latter err says why.
func (d *demangler) readable(name string) (string, error) {
	if !strings.HasPrefix(name, "_Z") && !strings.HasPrefix(name, "_R") {
		return shorten(name), nil
	}
	if len(name) > maxMangled {
		return shorten(name), fmt.Errorf("demangle name of %d bytes: too long", len(name))
	}
	if d.spent.Load() > int64(demangleTime) {
		return shorten(name), errors.New("demangle: no time left for this object")
	}
	start := time.Now()
	out, err := demangled(name)
	d.spent.Add(int64(time.Since(start)))
	if err == nil && out == "" {
		err = errors.New("nothing left")
	}
	if err != nil {
		return shorten(name), fmt.Errorf("demangle: %w", err)
	}
	return shorten(out), nil
}

// demangled guards against the demangler's own mistakes: names come out of
// files that anybody may have made.
func demangled(name string) (out string, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = "", fmt.Errorf("panic: %v", r)
		}
	}()
	return demangle.ToString(name, demangle.NoParams, demangle.MaxLength(maxNameBits))
}

// shorten makes a name valid UTF-8 of bounded length.
func shorten(name string) string {
	if len(name) > 1<<maxNameBits {
		name = name[:1<<maxNameBits] + "…"
	}
	if !utf8.ValidString(name) {
		name = strings.ToValidUTF8(name, "\uFFFD")
	}
	return name
}
