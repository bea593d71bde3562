// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/sample"
)

// function finds a function of a traced program by its symbol.
func (p *tracee) function(path, name string) code {
	c, bias := symbol(p.t, path, name), p.bias(path)
	return code{c.start + bias, c.end + bias}
}

func (p *tracee) bias(path string) uint64 {
	p.mapping(0)
	for _, m := range p.maps {
		if m.path == path {
			_, bias, _ := p.table(m.start)
			return bias
		}
	}
	p.t.Fatalf("no mapping of %s", path)
	return 0
}

// TestEveryGoInstruction executes a Go program instruction by instruction and
// walks the stack at each.
func TestEveryGoInstruction(t *testing.T) {
	for name, flags := range map[string][]string{
		"fixed address":        nil,
		"position independent": {"-buildmode=pie"},
	} {
		t.Run(name, func(t *testing.T) {
			path := buildGo(t, []string{"CGO_ENABLED=0"}, flags...)
			walkGo(t, path)
		})
	}
}

// startGo starts the program and attaches to the thread that it tells. base is
// what runtime.Callers says of its stack.
func startGo(t *testing.T, path string) (p *tracee, base []uint64) {
	t.Helper()
	runtime.LockOSThread()
	command := exec.Command(path)
	command.Env = append(os.Environ(), "GOGC=off", "GODEBUG=asyncpreemptoff=1")
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
		runtime.UnlockOSThread()
	})
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(line)
	tid, err := strconv.Atoi(words[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range words[1:] {
		base = append(base, parseHex(t, word))
	}
	p = &tracee{t: t, pid: tid, tables: make(map[string]*Table), files: make(map[string]*objfile.File)}
	p.attach()
	threads := append(stopOthers(t, command.Process.Pid, tid), tid)
	t.Cleanup(func() { // the tracer has to take note of their end
		command.Process.Kill()
		for _, tid := range threads {
			syscall.Wait4(tid, nil, syscall.WALL, nil)
		}
	})
	if _, err := io.WriteString(input, "go\n"); err != nil {
		t.Fatal(err)
	}
	return p, base
}

// attach stops a thread.
func (p *tracee) attach() {
	if err := syscall.PtraceAttach(p.pid); err != nil {
		p.t.Skipf("this machine does not let us trace: %v", err)
	}
	p.wait()
	p.openMemory()
}

// stopOthers stops all other threads of the process, so that nobody asks ours to
// let somebody else run.
func stopOthers(t *testing.T, pid, tid int) (threads []int) {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if other, err := strconv.Atoi(task.Name()); err == nil && other != tid {
			(&tracee{t: t, pid: other}).attach()
			if other != pid { // that one is waited for as a process
				threads = append(threads, other)
			}
		}
	}
	return threads
}

// goCalls is the shadow stack above the function that spins. Go changes stacks,
// so that only return instructions tell of returns.
type goCalls struct {
	spin  code
	calls shadow
	// lost says that the scheduler has run: the stack is known again once the
	// spinning function goes on.
	lost bool
}

func (g *goCalls) follow(p *tracee, before, after Registers) {
	if g.spin.contains(after.IP) {
		g.calls, g.lost = nil, false
		return
	}
	op, _ := p.word(before.IP)
	if op&0xff == 0xc3 {
		n := len(g.calls)
		g.lost = g.lost || n == 0 || g.calls[n-1].ra != after.IP
		g.calls = g.calls[:max(n-1, 0)]
		return
	}
	if after.R[7] == before.R[7]-8 {
		ra, _ := p.word(after.R[7])
		if length := ra - before.IP; length >= 2 && length <= 15 && after.IP != ra {
			g.calls.push(ra, 0)
		}
	}
}

func walkGo(t *testing.T, path string) {
	t.Helper()
	p, base := startGo(t, path)
	g := &goCalls{spin: p.function(path, "main.spin"), lost: true}
	elsewhere := []code{p.function(path, "runtime.morestack"), p.function(path, "runtime.mcall")}
	systemstack := p.function(path, "runtime.systemstack")
	var walks, wrong, switched, kernel int
	var signal syscall.Signal
	reported := make(map[uint64]bool)
	for before := p.registers(); walks < 60000; {
		for _, c := range elsewhere {
			g.lost = g.lost || c.contains(before.IP)
		}
		if !g.lost {
			walks++
			addrs, stop := p.walk(200)
			want := append(g.calls.addresses(), base...)
			if slices.ContainsFunc(want, systemstack.contains) {
				switched++
			}
			if strings.HasPrefix(p.where(addrs[0]), "[vdso]") {
				kernel++
			}
			if !slices.Equal(addrs[1:], want) || stop != sample.StopEnd {
				wrong++
				if !reported[addrs[0]] && len(reported) < 30 {
					reported[addrs[0]] = true
					t.Logf("at %s: %v, %x, want %x: %v", p.where(addrs[0]), stop, addrs, want, p.rule(addrs[0]))
				}
			}
		}
		var ok bool
		if signal, ok = p.step(signal); !ok {
			t.Fatal("program has ended")
		}
		after := p.registers()
		g.follow(p, before, after)
		before = after
	}
	t.Logf("%d walks, %d wrong; %d through systemstack, %d from the vDSO", walks, wrong, switched, kernel)
	if wrong > 0 || switched == 0 || kernel == 0 {
		t.Errorf("%d of %d walks are wrong, %d went through systemstack, %d from the vDSO", wrong, walks, switched, kernel)
	}
}
