// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// TestInlinedCalls samples programs that work in functions which were inlined: one with its debug
// information, and one that was stripped of it, which lies beside it in a file.
func TestInlinedCalls(t *testing.T) {
	needRoot(t)
	whole := compile(t, "whole", "testdata/inline.c", "-O2", "-g")
	stripped := compile(t, "stripped", "testdata/inline.c", "-O2", "-g", "-Wl,--build-id")
	for _, args := range [][]string{
		{"--only-keep-debug", stripped, stripped + ".debug"}, {"--strip-all", "--add-gnu-debuglink=" + stripped + ".debug", stripped},
	} {
		if out, err := exec.Command("objcopy", args...).CombinedOutput(); err != nil {
			t.Fatalf("objcopy %v: %v\n%s", args, err, out)
		}
	}
	agent := newWatcher(t)
	begin := time.Now()
	programs := []running{background(t, whole, "60"), background(t, stripped, "60")}
	merged := agent.since(t, begin)
	for _, p := range programs {
		p.end()
	}
	for _, name := range []string{"whole", "stripped"} {
		checkInlined(t, merged, name)
	}
}

// TestBriefProgramsAreNamed samples programs that live 50 ms, each a file of its own that is deleted as soon as it runs.
func TestBriefProgramsAreNamed(t *testing.T) {
	needRoot(t)
	text, err := os.ReadFile(compile(t, "brief", "testdata/inline.c", "-O2", "-g", "-Wl,--build-id=none"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "brief")
	agent := newWatcher(t)
	begin := time.Now()
	for range 20 {
		if err := os.WriteFile(path, text, 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path, "0.05")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Remove(path), cmd.Wait()); err != nil {
			t.Fatal(err)
		}
	}
	checkInlined(t, agent.since(t, begin), "brief")
}

// checkInlined wants the samples of a program's own code to be in its innermost function, which was inlined.
func checkInlined(t *testing.T, merged *profile.Profile, name string) {
	t.Helper()
	seen, right := int64(0), int64(0)
	for _, s := range merged.Sample {
		if !slices.Equal(s.Label["process_executable_name"], []string{name}) || isStart(s.Location) {
			continue
		}
		seen += s.Value[0]
		if slices.ContainsFunc(s.Location, inlined) {
			right += s.Value[0]
		}
	}
	t.Logf("%s: of %d samples %d are in mix, in hash_all, in work", name, seen, right)
	if seen < 100 || right < seen*9/10 {
		t.Error("want 90 of 100")
	}
}

// isStart tells whether a stack is of a program that is being started, by the kernel or by the dynamic linker.
func isStart(stack []*profile.Location) bool {
	kernel := func(l *profile.Location) bool {
		return l.Mapping != nil && strings.HasPrefix(l.Mapping.File, "[kernel")
	}
	linker := func(l *profile.Location) bool {
		return l.Mapping != nil && strings.HasPrefix(filepath.Base(l.Mapping.File), "ld-")
	}
	return slices.ContainsFunc(stack, linker) || !slices.ContainsFunc(stack, func(l *profile.Location) bool { return !kernel(l) })
}

// inlined tells whether a location is mix, called by hash_all, called by work, with their lines.
func inlined(l *profile.Location) bool {
	if len(l.Line) != 3 {
		return false
	}
	for i, want := range []struct {
		function    string
		first, last int64
	}{{"mix", 7, 12}, {"hash_all", 14, 21}, {"work", 23, 23}} {
		got := l.Line[i]
		if got.Function.Name != want.function || filepath.Base(got.Function.Filename) != "inline.c" || got.Line < want.first || got.Line > want.last {
			return false
		}
	}
	return true
}
