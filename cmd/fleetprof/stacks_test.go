// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"golang.org/x/sync/errgroup"
)

// subject is a program whose stacks are judged.
type subject struct {
	name string
	// build is a shell script that makes $DIR/name; empty for programs that are
	// installed. It is run where the sources are, as run is.
	build string
	// run is the command, with $DIR too.
	run string
	// children are further executables that run starts and whose samples count.
	children []string
	// complete is the least share of whole stacks.
	complete float64
	// silent programs print no chains, nor that they are ready.
	silent bool
	// perf says that the program knows no chains, and perf(1) has to.
	perf bool
	// optional is a command without which the subject is skipped.
	optional string
}

// subjectGroup is what one `fleetprof record` sees at once. What is quiet while
// others burn CPU time gets a group of its own.
type subjectGroup struct {
	name     string
	subjects []subject
}

// TestStacks runs programs of many kinds, none with frame pointers, under
// an agent, and holds each stack against what the program itself
// knows: see testdata/stacks/burn.h for how it tells.
func TestStacks(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	groups := subjectGroups()
	makeSubjects(t, dir, groups)
	agent := observe(t)
	for _, group := range groups {
		t.Run(group.name, func(t *testing.T) {
			started := time.Now()
			var running []*trial
			for _, s := range group.subjects {
				if s.installed() {
					time.Sleep(startApart)
					running = append(running, s.start(t, dir))
				} else {
					t.Run(s.name, func(t *testing.T) { t.Skip("not installed") })
				}
			}
			p := agent.watch(t, dir, started, running)
			for _, r := range running {
				t.Run(r.name, func(t *testing.T) { r.judge(t, p) })
			}
		})
	}
}

// startApart lies between the starts of subjects: what is held against the bar is how soon the stacks of one are whole, not
// of all of them at once on two CPUs.
const startApart = 200 * time.Millisecond

// makeSubjects compiles whatever can be compiled.
func makeSubjects(t *testing.T, dir string, groups []subjectGroup) {
	t.Helper()
	var builds errgroup.Group
	builds.SetLimit(2)
	for _, group := range groups {
		for _, s := range group.subjects {
			if s.build == "" || !s.installed() {
				continue
			}
			builds.Go(func() error {
				cmd := exec.Command("sh", "-ec", s.build)
				cmd.Dir, cmd.Env = "testdata/stacks", append(os.Environ(), "DIR="+dir)
				if out, err := cmd.CombinedOutput(); err != nil {
					return fmt.Errorf("build %s: %w\n%s", s.name, err, out)
				}
				return nil
			})
		}
	}
	if err := builds.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (s subject) installed() bool {
	if s.optional == "" {
		return true
	}
	_, err := exec.LookPath(s.optional)
	return err == nil
}

// trial is a subject that runs.
type trial struct {
	subject
	cmd *exec.Cmd
	// chains are what it printed, each as ";main;…;burn;"; exact are those that
	// a stack must equal.
	chains, exact []string
	// seen is what perf saw; nil if that was not asked for.
	seen calls
	// ended is closed once cmd has.
	ended chan struct{}
}

// start returns once the subject is ready. It runs in a process group of its
// own, which ends with the test.
func (s subject) start(t *testing.T, dir string) *trial {
	t.Helper()
	command := strings.Fields(strings.ReplaceAll(s.run, "$DIR", dir))
	r := &trial{subject: s, cmd: exec.Command(command[0], command[1:]...), ended: make(chan struct{})}
	r.cmd.Dir = "testdata/stacks"
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan error, 1)
	go func() {
		ready <- r.listen(out)
		io.Copy(io.Discard, out)
		r.cmd.Wait()
		close(r.ended)
	}()
	t.Cleanup(r.stop)
	if err := <-ready; err != nil {
		t.Fatalf("read from %s: %v", s.name, err)
	}
	return r
}

// listen reads the chains until the subject is ready, or has ended.
func (r *trial) listen(out io.Reader) error {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for !r.silent && lines.Scan() && lines.Text() != "ready" {
		if chain, exact := strings.CutPrefix(lines.Text(), "="); exact {
			r.exact = append(r.exact, ";"+chain+";")
		} else {
			r.chains = append(r.chains, ";"+chain+";")
		}
	}
	return lines.Err()
}

// stop ends the subject and all its children.
func (r *trial) stop() {
	syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	<-r.ended
}

// observer is an agent that profiles throughout, as on any host: what it has to
// do for a program it meets for the first time is part of what is judged, what it
// has to do when it starts itself is not.
type observer struct{ directory string }

func observe(t *testing.T) observer {
	t.Helper()
	o := observer{t.TempDir()}
	cmd := exec.Command(fleetprof, "agent", "--store=dir:"+o.directory, "--frequency=499", "--window=1s", "--listen=")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v\n%s", cmd.Args, err, &said)
		}
	})
	o.since(t, time.Now()) // it is at work
	return o
}

// watch lets subjects run for some time and ends them. It returns what the agent
// has seen since they were started.
func (o observer) watch(t *testing.T, dir string, started time.Time, running []*trial) *profile.Profile {
	t.Helper()
	const lasting = 8 * time.Second
	end := time.After(lasting) // that is how long they are watched
	if slices.ContainsFunc(running, func(r *trial) bool { return r.perf }) {
		started = time.Now().Add(time.Second) // perf has not seen how they begin
	}
	perfRecord(t, dir+"/perf.data", running)
	<-end
	for _, r := range running {
		select {
		case <-r.ended:
			t.Errorf("%s ended by itself: %v", r.name, r.cmd.ProcessState)
		default:
			r.stop()
		}
	}
	return o.since(t, started)
}

// since waits until the agent has written a window that began after now, and
// merges all that end after a time.
func (o observer) since(t *testing.T, begin time.Time) *profile.Profile {
	t.Helper()
	now := time.Now()
	for {
		var seen []*profile.Profile
		paths, err := filepath.Glob(o.directory + "/*.pb.gz") // in the order of time
		if err != nil {
			t.Fatal(err)
		}
		for i, path := range paths {
			p := readProfile(t, path)
			if start := time.Unix(0, p.TimeNanos); start.Add(time.Duration(p.DurationNanos)).After(begin) {
				seen = append(seen, p)
			}
			if i == len(paths)-1 && time.Unix(0, p.TimeNanos).After(now) {
				merged, err := profile.Merge(seen)
				if err != nil {
					t.Fatal(err)
				}
				return merged
			}
		}
		if time.Since(now) > time.Minute {
			t.Fatal("the agent writes no windows")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func readProfile(t *testing.T, path string) *profile.Profile {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := profile.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// owns reports whether a sample is one of the subject's, or of a child's.
func (r *trial) owns(s *profile.Sample) bool {
	executable := strings.Join(s.Label["process_executable_name"], "")
	return slices.Equal(s.Label["process_pid"], []string{fmt.Sprint(r.cmd.Process.Pid)}) ||
		executable == r.name || slices.Contains(r.children, executable)
}
