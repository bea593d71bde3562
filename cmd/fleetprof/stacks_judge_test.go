// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

const (
	// agreement is the least share of stacks (of frames, where perf knows the
	// truth) that agree with it.
	agreement = 0.97
	// enough is how many samples make a share mean something.
	enough = 100
)

// verdict counts the samples of one subject.
type verdict struct {
	// samples are those of threads with a user stack, complete the whole ones of
	// them.
	samples, complete, without int64
	// judged are the stacks or frames held against the truth.
	judged, agreeing int64
	// reasons are those of incomplete stacks, wrong are examples of the others.
	reasons map[string]int64
	wrong   map[string]int64
}

// judge holds a profile against what is known of the subject.
func (r *trial) judge(t *testing.T, p *profile.Profile) {
	v := verdict{reasons: make(map[string]int64), wrong: make(map[string]int64)}
	files := newSymbols()
	counts := r.counted()
	for _, s := range p.Sample {
		if !r.owns(s) {
			continue
		}
		reason := incomplete(s, files)
		if reason != "" && hasNoUserStack(s) {
			v.without += s.Value[0]
			continue
		}
		v.samples += s.Value[0]
		if reason == "" {
			v.complete += s.Value[0]
		} else {
			v.reasons[reason] += s.Value[0]
		}
		if r.perf {
			r.seen.judge(&v, s, files)
		}
		own := ownFrames(s, counts)
		if own == ";" {
			continue // in threads of a language's runtime, before main, after it
		}
		v.hold(r.possible(own, strings.HasPrefix(reason, truncated)), s.Value[0], own)
	}
	v.report(t, r.complete)
	if known := r.perf || len(counts) > 0; known && v.judged < enough/3 {
		t.Errorf("%d were held against the truth, want at least %d", v.judged, enough/3)
	}
}

// hold counts n stacks or frames that agree with the truth or do not.
func (v *verdict) hold(agrees bool, n int64, what string) {
	v.judged += n
	if agrees {
		v.agreeing += n
	} else {
		v.wrong[what] += n
	}
}

func (v *verdict) report(t *testing.T, complete float64) {
	t.Helper()
	share := func(part, whole int64) float64 { return float64(part) / float64(max(whole, 1)) }
	t.Logf("complete %.2f %% (of %d, and %d without user stack), agree %.2f %% (of %d), reasons: %s",
		100*share(v.complete, v.samples), v.samples, v.without, 100*share(v.agreeing, v.judged), v.judged, most(v.reasons))
	if v.samples < enough {
		t.Errorf("%d samples, want at least %d", v.samples, enough)
	}
	if share(v.complete, v.samples) < complete {
		t.Errorf("complete are fewer than %g %%", 100*complete)
	}
	if v.judged > 0 && share(v.agreeing, v.judged) < agreement {
		t.Errorf("in agreement are fewer than %g %%, not so: %s", 100*agreement, most(v.wrong))
	}
}

// most lists what was counted most often, a line each.
func most(counts map[string]int64) string {
	const limit = 12
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	var b strings.Builder
	for _, key := range keys[:min(len(keys), limit)] {
		fmt.Fprintf(&b, "\n%6d  %s", counts[key], folded(key))
	}
	if len(keys) > limit {
		fmt.Fprintf(&b, "\n        and %d more", len(keys)-limit)
	}
	return b.String()
}

// folded writes a function that calls itself, directly, only once.
func folded(chain string) string {
	var out []string
	for functions := strings.Split(chain, ";"); len(functions) > 0; {
		n := 1
		for n < len(functions) && functions[n] == functions[0] {
			n++
		}
		if n > 1 {
			out = append(out, fmt.Sprintf("%s × %d", functions[0], n))
		} else {
			out = append(out, functions[0])
		}
		functions = functions[n:]
	}
	return strings.Join(out, ";")
}

// truncated is how the name of the frame begins that stands for missing ones.
const truncated = "[truncated: "

// hasNoUserStack reports whether the kernel had taken a thread's address space
// from it: an exiting thread has none any more, and one that executes a program
// has a new one but is not in it yet. Its kernel stack is all there is.
func hasNoUserStack(s *profile.Sample) bool {
	return slices.ContainsFunc(names(s), func(function string) bool {
		return function == "do_exit" || function == "load_elf_binary"
	})
}

// entries are the functions nothing calls. Go's own profiler ends at mcall too:
// what calls it has left its stack to the scheduler.
var entries = []string{
	"_start", "_dl_start_user", "__clone3", "clone3", "__clone", "clone",
	"runtime.goexit", "runtime.mstart", "runtime.rt0_go", "runtime.mcall", "_rt0_amd64_linux",
}

// incomplete says why a stack is not whole; it is empty for one that is.
func incomplete(s *profile.Sample, files *symbols) string {
	outermost := s.Location[len(s.Location)-1]
	function := outermost.Line[len(outermost.Line)-1].Function.Name
	if strings.HasPrefix(function, truncated) {
		return function
	}
	if slices.Contains(entries, function) {
		return ""
	}
	if inKernel(outermost) {
		return "kernel only"
	}
	if m := outermost.Mapping; m != nil {
		if name := files.at(m.File, outermost.Address); slices.Contains(entries, name) || files.isEntry(m.File, outermost.Address) {
			return ""
		}
	}
	return "ends in " + function
}

func inKernel(loc *profile.Location) bool {
	return loc.Mapping != nil && loc.Mapping.File == "[kernel.kallsyms]"
}

// counted are the functions named in any chain.
func (r *trial) counted() map[string]bool {
	functions := make(map[string]bool)
	for _, chain := range slices.Concat(r.chains, r.exact) {
		for _, function := range strings.Split(strings.Trim(chain, ";"), ";") {
			functions[function] = true
		}
	}
	return functions
}

// ownFrames writes a stack as the chains are written, of the functions that
// count.
func ownFrames(s *profile.Sample, counts map[string]bool) string {
	var b strings.Builder
	b.WriteByte(';')
	for _, function := range slices.Backward(names(s)) {
		if counts[function] {
			b.WriteString(function + ";")
		}
	}
	return b.String()
}

// possible reports whether the program can have been in a stack. One that lacks
// outer frames and says so need only be a part of a chain.
func (r *trial) possible(own string, cut bool) bool {
	return slices.Contains(r.exact, own) || slices.ContainsFunc(r.chains, func(chain string) bool {
		return strings.HasPrefix(chain, own) || cut && strings.Contains(chain, own)
	}) || cut && slices.ContainsFunc(r.exact, func(chain string) bool { return strings.HasSuffix(chain, own) })
}

// The judge itself: what it lets pass and what not.
func TestStackJudge(t *testing.T) {
	r := trial{chains: []string{";main;a;b;a;a;b;burn;"}, exact: []string{";run;a;"}}
	for _, c := range []struct {
		stack     string
		cut, want bool
	}{
		{";main;a;b;a;a;b;burn;", false, true},
		{";main;a;b;", false, true},
		{";main;a;a;b;burn;", false, false},       // frames missing in the middle
		{";main;a;b;a;a;b;", false, true},         // innermost function not entered yet
		{";main;a;b;a;a;burn;", false, false},     // the leaf's caller missing
		{";a;b;burn;", false, false},              // outer frames missing, unsaid
		{";a;b;burn;", true, true},                // and said
		{";a;a;a;", true, false},                  // said, but wrong
		{";main;a;b;a;a;b;burn;a;", false, false}, // frames made up
		{";run;a;", false, true},
		{";run;", false, false}, // not the whole of it
		{";a;", true, true},
	} {
		if got := r.possible(c.stack, c.cut); got != c.want {
			t.Errorf("%s, cut %t: possible %t", c.stack, c.cut, got)
		}
	}
}
