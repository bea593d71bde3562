// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// calls are pairs of functions of which the first was seen to call the second.
// Pairs, rather than whole stacks, since the deeper the stacks of a large
// program are the less often two are equal.
type calls map[[2]string]bool

// perfRecord has perf(1) sample for some seconds the subjects that ask for it,
// and unwind the stacks by itself, from a copy of the stack and the tables in
// the files. It must see them before they end, and at their work.
func perfRecord(t *testing.T, file string, running []*trial) {
	t.Helper()
	var pids []string
	for _, r := range running {
		if r.perf {
			pids = append(pids, strconv.Itoa(r.cmd.Process.Pid))
		}
	}
	if pids == nil {
		return
	}
	record := exec.Command("perf", "record", "-B", "-o", file, "-e", "cpu-clock", "-F", "499", "-m", "1024",
		"--call-graph", "dwarf,32768", "-p", strings.Join(pids, ","), "sleep", "7")
	if out, err := record.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", record.Args, err, out)
	}
	script := exec.Command("perf", "script", "-i", file, "--no-inline", "-F", "comm,pid,ip,dso")
	text, err := script.Output()
	if err != nil {
		t.Fatalf("%v: %v", script.Args, err)
	}
	files := newSymbols()
	for _, r := range running {
		if r.perf {
			r.seen = readCalls(text, r, files)
		}
	}
}

// readCalls reads the stacks of one subject from what perf script prints: the
// names of the threads and their PIDs, each followed by lines of file offset and
// file, innermost first, and an empty line.
func readCalls(text []byte, r *trial, files *symbols) calls {
	seen := make(calls)
	pid := strconv.Itoa(r.cmd.Process.Pid)
	var callee string
	owned, head := false, true
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) < 2:
			callee, head = "", true
		case head:
			owned = words[len(words)-1] == pid || words[0] == r.name || slices.Contains(r.children, words[0])
			head = false
		case owned:
			offset, err := strconv.ParseUint(words[0], 16, 64)
			if err != nil {
				continue // not a frame
			}
			caller := files.atOffset(strings.Trim(words[1], "()"), offset)
			if callee != "" && caller != "" {
				seen[[2]string{caller, callee}] = true
			}
			callee = caller
		}
	}
	return seen
}

// judge counts the calls in a stack, and those of them that were seen. What
// lies in no file, such as compiled JavaScript, perf knows nothing of.
func (c calls) judge(v *verdict, s *profile.Sample, files *symbols) {
	callee := ""
	for _, loc := range s.Location {
		caller := ""
		if loc.Mapping != nil && !inKernel(loc) {
			caller = files.at(loc.Mapping.File, loc.Address)
		}
		if callee != "" && caller != "" {
			v.hold(c[[2]string{caller, callee}], s.Value[0], caller+";"+callee)
		}
		callee = caller
	}
}
