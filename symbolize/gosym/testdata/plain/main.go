// SPDX-License-Identifier: Apache-2.0

// Program plain reads addresses, one a line and counted from where its file is
// loaded, and prints what its own runtime says about each: function, file and
// line of the innermost call.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

type pair[T any] struct{ a, b T }

//go:noinline
func (p *pair[T]) swap() { p.a, p.b = p.b, p.a }

func inlined(s string) int { return len(strings.TrimSpace(s)) + deeper(s) }

func deeper(s string) int { return strings.Index(s, "x") }

// base is the lowest address that this program's own file is mapped at.
func base() uint64 {
	exe, _ := os.Executable()
	maps, _ := os.Open("/proc/self/maps")
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		if strings.HasSuffix(lines.Text(), " "+exe) {
			start, _, _ := strings.Cut(lines.Text(), "-")
			n, _ := strconv.ParseUint(start, 16, 64)
			return n
		}
	}
	return 0
}

func main() {
	p := &pair[string]{"a", "b"}
	p.swap()
	q := &pair[int]{inlined(p.a), 2}
	q.swap()
	start := base()
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		n, err := strconv.ParseUint(lines.Text(), 0, 64)
		if err != nil {
			panic(err)
		}
		// The runtime takes return addresses: one behind the call.
		frames := runtime.CallersFrames([]uintptr{uintptr(start + n + 1)})
		f, _ := frames.Next()
		fmt.Fprintf(out, "%s\t%s\t%d\n", f.Function, f.File, f.Line)
	}
}
