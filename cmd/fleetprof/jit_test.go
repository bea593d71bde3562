// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/internal/programtest"
)

// generating is a program that generates code and tells of it. It prints a line when it is ready,
// goes on at a line, and prints in the end how much CPU time each of its functions had.
type generating struct {
	name    string
	command []string
	needs   []string // other tools
	attr    *syscall.SysProcAttr
	// inner is what its functions call.
	inner profile.Line

	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	used map[string]float64
	// missing says why it does not run here.
	missing string
}

// start starts the program in a directory, and returns when it is ready.
func (g *generating) start(t *testing.T, dir string) {
	t.Helper()
	for _, tool := range append(g.needs, g.command[0]) {
		programtest.Need(t, tool)
	}
	g.cmd = exec.Command(g.command[0], g.command[1:]...)
	g.cmd.Dir, g.cmd.SysProcAttr, g.cmd.Stderr = dir, g.attr, t.Output()
	in, err := g.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	g.in, g.out = in, bufio.NewReader(out)
	err = g.cmd.Start()
	if g.attr != nil && errors.Is(err, syscall.EPERM) {
		g.missing = err.Error()
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.cmd.Process.Kill()
		os.Remove(fmt.Sprintf("/tmp/perf-%d.map", g.cmd.Process.Pid))
	})
	if line, err := g.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s says %q, %v", g.name, line, err)
	}
}

// finish waits for the end of the program, after it was let go on.
func (g *generating) finish(t *testing.T) {
	t.Helper()
	line, err := g.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &g.used)
	}
	if err = errors.Join(err, g.cmd.Wait()); err != nil {
		t.Fatalf("%s: %v", g.name, err)
	}
}

// judge holds a profile against what the program knows: of all samples in one of its functions,
// each has its part, and what lies below them has the name that it has in the program.
func (g *generating) judge(t *testing.T, p *profile.Profile) {
	t.Helper()
	seen := make(map[string]float64)
	var all, nameless, whole float64
	for _, s := range p.Sample {
		if !slices.Equal(s.Label["process_pid"], []string{fmt.Sprint(g.cmd.Process.Pid)}) {
			continue
		}
		all += float64(s.Value[0])
		stack := names(s)
		if slices.Contains(stack, "[anon]") {
			nameless += float64(s.Value[0])
		}
		for function := range g.used {
			if at := slices.Index(stack, function); at > 0 {
				seen[function] += float64(s.Value[0])
				whole += float64(s.Value[0])
				below := s.Location[at-1].Line[0]
				if below.Line != g.inner.Line || below.Function.Name != g.inner.Function.Name || below.Function.Filename != g.inner.Function.Filename {
					t.Errorf("%s calls %s in %s:%d", function, below.Function.Name, below.Function.Filename, below.Line)
				}
			}
		}
	}
	total := 0.0
	for _, v := range g.used {
		total += v
	}
	for function, v := range g.used {
		t.Logf("%s: %.1f %% of the CPU time, %.1f %% of the samples", function, 100*v/total, 100*seen[function]/whole)
		if math.Abs(v/total-seen[function]/whole) > 0.05 {
			t.Errorf("%s: %.1f %% of the CPU time, %.1f %% of the samples", function, 100*v/total, 100*seen[function]/whole)
		}
	}
	t.Logf("%.0f samples, %.1f %% in these functions, %.1f %% with code without a name", all, 100*whole/all, 100*nameless/all)
	if whole < all*0.85 || nameless > all*0.03 {
		t.Errorf("%.0f samples, %.0f in the functions, %.0f with code without a name", all, whole, nameless)
	}
}

// Code that is generated has its functions' names, also in namespaces and of a file that has been deleted:
// all that is gone, and the process too, when its last window is encoded.
func TestGeneratedCodeIsNamed(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if out, err := exec.Command("gcc", "-O2", "-fno-omit-frame-pointer", "-o", dir+"/dump", "testdata/jit/dump.c").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	agent := observe(t)
	programs := generatingPrograms(t, dir)
	for _, g := range programs {
		g.start(t, dir)
	}
	agent.since(t, time.Now()) // a window that began when all had told their names
	released := time.Now()
	for _, g := range programs {
		if g.missing == "" {
			if _, err := io.WriteString(g.in, "\n"); err != nil {
				t.Error(err)
			}
		}
	}
	for _, g := range programs {
		if g.missing == "" {
			g.finish(t)
		}
	}
	p := agent.since(t, released)
	for _, g := range programs {
		t.Run(g.name, func(t *testing.T) {
			if g.missing != "" {
				t.Skip(g.missing)
			}
			g.judge(t, p)
		})
	}
}

func generatingPrograms(t *testing.T, dir string) []*generating {
	t.Helper()
	// They run there, since node leaves a file.
	if err := os.CopyFS(dir, os.DirFS("testdata/jit")); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(dir, "burn.js")
	const node = "node --perf-basic-prof --always-sparkplug --no-turbo-inlining --no-maglev-inlining burn.js"
	spin := func(name, file string, line int64) profile.Line {
		return profile.Line{Line: line, Function: &profile.Function{Name: name, Filename: file}}
	}
	return []*generating{
		{name: "node", command: strings.Fields(node), inner: spin("spin", source, 6)},
		{
			name: "node in namespaces", inner: spin("spin", "/tmp/burn.js", 6), needs: []string{"node"},
			command: []string{"sh", "-ec", `mount --make-rprivate /; text=$(cat burn.js); mount -t tmpfs none /tmp; mount -t proc none /proc; cd /tmp
				echo "$text" >burn.js; exec ` + node},
			attr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS},
		},
		// Java tells on demand; the program asks for it itself. No method is compiled again after that.
		{
			name: "java", inner: spin("int Burn.spin(int)", "", 0), needs: []string{"jcmd"},
			command: []string{"java", "-XX:+PreserveFramePointer", "-Xbatch", "-XX:TieredStopAtLevel=1", "-XX:CompileCommand=quiet", "-XX:CompileCommand=dontinline,Burn.*", "Burn.java"},
		},
		{name: "jitdump", command: []string{dir + "/dump", dir}, inner: spin("spin", "/src/spin.x", 11)},
	}
}
