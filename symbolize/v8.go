// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"strconv"
	"strings"

	"github.com/fleetprof/fleetprof/sample"
)

// readable makes of what a process calls its code what people read. V8 (Node.js) puts into one string what
// kind of code it is, the function, and the place where that begins:
//
//	LazyCompile:*name /path/file.js:12:34
//
// The line is the function's, not that of the code in it. V8 tells lines of code in jitdumps as well,
// at addresses that are off by the size of an ELF header: those are not used. Others' names stay as they are.
func readable(f sample.Frame) sample.Frame {
	name := shorten(f.Function)
	if !isV8(name) {
		return sample.Frame{Function: name, File: shorten(f.File), Line: f.Line}
	}
	function, file, line, ok := splitV8(name)
	if !ok {
		return sample.Frame{Function: name}
	}
	if function == "" {
		function = "(anonymous)" // as V8's own profiler has it
	}
	return sample.Frame{Function: function, SystemName: name, File: file, Line: line}
}

// isV8 tells whether a name is such a string.
func isV8(name string) bool {
	kind, _, ok := strings.Cut(name, ":")
	switch kind {
	case "JS", "LazyCompile", "Function", "Script", "Eval":
		return ok
	}
	return false
}

// splitV8 takes such a string apart. It is false where function and file, which may both have spaces,
// cannot be told apart for certain.
func splitV8(name string) (function, file string, line int64, ok bool) {
	_, rest, _ := strings.Cut(name, ":")
	rest, line, ok = cutLine(rest)
	if !ok {
		return "", "", 0, false
	}
	at := strings.IndexByte(rest, ' ')
	if strings.Count(rest, " ") > 1 {
		at = -1
		for _, start := range []string{" /", " file:", " node:"} {
			switch strings.Count(rest, start) {
			case 0:
				continue
			case 1:
				if at < 0 {
					at = strings.Index(rest, start)
					continue
				}
			}
			return "", "", 0, false
		}
	}
	if at < 0 || at+1 == len(rest) {
		return "", "", 0, false
	}
	return withoutTier(rest[:at]), rest[at+1:], line, true
}

// cutLine takes a line, and a column if there is one, from the end of a place.
func cutLine(place string) (rest string, line int64, ok bool) {
	for range 2 {
		at := strings.LastIndexByte(place, ':')
		n, err := strconv.ParseUint(place[at+1:], 10, 31)
		if at < 0 || err != nil {
			break
		}
		place, line, ok = place[:at], int64(n), true
	}
	return place, line, ok
}

// withoutTier takes from a function the mark of the compiler that made its code.
func withoutTier(function string) string {
	if function == "" || !strings.Contains("~^*+", function[:1]) {
		return function
	}
	return strings.TrimPrefix(function[1:], "'")
}
