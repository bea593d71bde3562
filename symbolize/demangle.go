// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/ianlancetaylor/demangle"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/elfsym"
	"github.com/fleetprof/fleetprof/symbolize/lru"
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

// Demangle says how much of the names of C++ and Rust people get to read.
type Demangle string

const (
	// DemangleFull is all, with parameters, as c++filt(1) shows it.
	DemangleFull Demangle = "full"
	// DemangleSimplified leaves out parameters, arguments of templates and return types.
	DemangleSimplified Demangle = "simplified"
	// DemangleNone is the linker's name.
	DemangleNone Demangle = "none"
)

func (d Demangle) options() []demangle.Option {
	limit := demangle.MaxLength(maxNameBits)
	if d == DemangleFull {
		return []demangle.Option{limit}
	}
	return []demangle.Option{demangle.NoParams, demangle.NoTemplateParams, limit}
}

// source is a name as debug information has it: not mangled, but with the arguments of a template
// behind it.
func (d Demangle) source(name string) string {
	if d != DemangleSimplified || strings.HasPrefix(name, "operator<") {
		return name
	}
	if i := strings.IndexByte(name, '<'); i > 0 && strings.HasSuffix(name, ">") {
		return name[:i]
	}
	return name
}

// demangler makes the names of one object readable. It is safe for concurrent
// use.
type demangler struct {
	spent atomic.Int64 // in nanoseconds
	// unbounded is set if somebody else bounds the time.
	unbounded bool
	// known are names of all objects.
	known *readableNames
}

// readableNames keeps names that were demangled last, which takes longer than all else for most
// of them. It is safe for concurrent use.
type readableNames struct {
	style Demangle

	mu   sync.Mutex
	kept *lru.Cache[string, string]
}

func newReadableNames(style Demangle, limit int64) *readableNames {
	return &readableNames{style: style, kept: lru.New[string, string](limit, int(limit/nameOverhead), nil)}
}

// nameOverhead is what a name takes besides its text, in bytes.
const nameOverhead = 200

func (n *readableNames) get(name string) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.kept.Get(name)
}

func (n *readableNames) put(name, readable string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kept.Put(name, readable, int64(nameOverhead+len(name)+len(readable)))
}

// left tells of names that could not be read when frames were made.
func (d *demangler) left(frames []sample.Frame) error {
	for _, f := range frames {
		if f.SystemName == "" && d.mangled(f.Function) {
			return errDemangle
		}
	}
	return nil
}

// mangled tells whether a name is to be made readable.
func (d *demangler) mangled(name string) bool {
	return d.known.style != DemangleNone && (strings.HasPrefix(name, "_Z") || strings.HasPrefix(name, "_R"))
}

// readable turns a linker's name into one that people read: C++ and Rust are
// demangled, as far as is asked for. A name that is not mangled, or that the
// demangler cannot read, stays as it is; for the latter err says why.
func (d *demangler) readable(name string) (string, error) {
	if !d.mangled(name) {
		return shorten(name), nil
	}
	if known, ok := d.known.get(name); ok {
		return known, nil
	}
	if len(name) > maxMangled {
		return shorten(name), fmt.Errorf("demangle name of %d bytes: too long", len(name))
	}
	if !d.unbounded && d.spent.Load() > int64(demangleTime) {
		return shorten(name), errors.New("demangle: no time left for this object")
	}
	start := time.Now()
	out, err := demangled(name, d.known.style)
	d.spent.Add(int64(time.Since(start)))
	if err == nil && out == "" {
		err = errors.New("nothing left")
	}
	if err != nil {
		return shorten(name), fmt.Errorf("demangle: %w", err)
	}
	out = shorten(out)
	d.known.put(name, out)
	return out, nil
}

// whole makes the frames of an address from what debug information tells and the linker's name. None mean that it has no
// name.
func (d *demangler) whole(told []dwarfsym.Frame, name string) ([]sample.Frame, error) {
	if len(told) == 0 {
		if name == "" {
			return nil, nil
		}
		told = []dwarfsym.Frame{{}}
	}
	return d.frames(told, name)
}

// frames makes frames that people read. name is that of the outermost function without debug information,
// if there is one: it has it with debug information, too.
func (d *demangler) frames(told []dwarfsym.Frame, name string) (frames []sample.Frame, err error) {
	for i, one := range told {
		linker := one.Linkage
		if i == len(told)-1 && name != "" {
			linker = name
		}
		if linker == "" { // as of lambdas and of what takes them
			linker = d.known.style.source(one.Function)
		}
		f := sample.Frame{File: shorten(one.File), Line: int64(one.Line)}
		function, isPLT := strings.CutSuffix(linker, elfsym.PLTSuffix)
		var cause error
		if f.Function, cause = d.readable(function); cause != nil {
			err = fmt.Errorf("%w: %w", errDemangle, cause)
		}
		if isPLT {
			f.Function += elfsym.PLTSuffix
		}
		if linker = shorten(linker); linker != f.Function {
			f.SystemName = linker
		}
		if f.Function != "" {
			frames = append(frames, f)
		}
	}
	return frames, err
}

// demangled guards against the demangler's own mistakes: names come out of
// files that anybody may have made.
func demangled(name string, style Demangle) (out string, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = "", fmt.Errorf("panic: %v", r)
		}
	}()
	out, err = demangle.ToString(name, style.options()...)
	if style == DemangleSimplified && strings.HasPrefix(name, "_R") {
		out = strings.ReplaceAll(out, "<>", "") // what the arguments were in
	}
	return out, err
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
