// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

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

var every = flag.Bool("every", false, "execute every kind of program instruction by instruction, which takes minutes, not only some")

// TestEveryGoInstruction executes a Go program instruction by instruction and
// walks the stack at each.
func TestEveryGoInstruction(t *testing.T) {
	for name, flags := range map[string][]string{
		"fixed address":        nil,
		"position independent": {"-buildmode=pie"},
	} {
		if !*every && flags == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			path := buildGo(t, []string{"CGO_ENABLED=0"}, flags...)
			walkGo(t, path)
		})
	}
}

// startGo starts the program and attaches to the thread that it tells. If that is to
// be executed step by step it runs alone. base is what runtime.Callers says of its
// stack.
func startGo(t *testing.T, alone bool, path string, args ...string) (p *tracee, base []uint64) {
	t.Helper()
	stayOnOneCPU(t)
	command := exec.Command(path, args...)
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
	if alone {
		settle(t, command.Process.Pid)
	}
	p.attach()
	var threads []int
	if alone {
		threads = stopOthers(t, command.Process.Pid, tid)
	}
	threads = append(threads, tid) // last: the first thread of a process ends after all others
	t.Cleanup(func() {             // the tracer has to take note of their end
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

// settle returns once all threads of a Go program that waits for input sleep. One that is
// stopped before, with a lock or a processor of Go's scheduler, lets the others wait for ever.
func settle(t *testing.T, pid int) {
	t.Helper()
	sleeps := map[string]bool{
		strconv.Itoa(syscall.SYS_READ): true, strconv.Itoa(syscall.SYS_FUTEX): true, strconv.Itoa(syscall.SYS_EPOLL_PWAIT): true,
	}
	last := ""
	for settled, begin := false, time.Now(); !settled; time.Sleep(time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("a thread of process %d does not sleep: %s", pid, last)
		}
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
		if err != nil || len(threads) == 0 {
			t.Fatalf("process %d has no threads: %v", pid, err)
		}
		settled = true
		for _, thread := range threads {
			text, err := os.ReadFile(thread) // proc_pid_syscall(5): "running", or the number first
			number, _, _ := strings.Cut(string(text), " ")
			if err != nil || !sleeps[number] {
				settled, last = false, fmt.Sprintf("%s: %q, %v", thread, text, err)
			}
		}
	}
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
	p, base := startGo(t, true, path)
	systemstack := p.function(path, "runtime.systemstack")
	v := stepGo(p, path, 60000, base, func(at uint64, want []uint64) (kinds []string) {
		if slices.ContainsFunc(want, systemstack.contains) {
			kinds = append(kinds, "through systemstack")
		}
		if strings.HasPrefix(p.where(at), "[vdso]") {
			kinds = append(kinds, "from the vDSO")
		}
		return kinds
	})
	if v.cut > 0 || v.kinds["through systemstack"] == 0 || v.kinds["from the vDSO"] == 0 {
		t.Errorf("%+v", v)
	}
}

// goExceptions are what is known to be different with programs of Go up to 1.20.
type goExceptions struct {
	// asmcgocall and systemstack have no frames there. A caller of theirs is passed
	// over, in asmcgocall only while it, or what it calls for that, changes stacks.
	systemstack, asmcgocall, gosave code
	// unknown is a function that sets the frame pointer later than others.
	unknown code
}

func exceptionsOf(p *tracee, path string) (e goExceptions) {
	c := p.function(path, "runtime.asmcgocall")
	const push = 0x55 // PUSHQ BP
	if op, _ := p.word(c.start); op&0xff != push {
		e = goExceptions{
			systemstack: p.function(path, "runtime.systemstack"),
			asmcgocall:  c,
			gosave:      p.function(path, "gosave_systemstack_switch"),
			unknown:     p.function(path, "time.now"),
		}
	}
	return e
}

// apply removes callers that are passed over from the stack above addr.
func (e goExceptions) apply(addr uint64, stack []uint64) (kept []uint64) {
	passed := e.systemstack.contains(addr) || e.asmcgocall.contains(addr)
	for i, caller := range stack {
		if !passed {
			kept = append(kept, caller)
		}
		passed = e.systemstack.contains(caller) || i == 0 && e.gosave.contains(addr)
	}
	return kept
}

// clockReader counts visits of instructions of the vDSO. It reads the clock anew when
// that has gone on meanwhile, which never ends if every instruction takes long.
type clockReader map[uint64]int

// stuck says that a walk from addr should be left out to get on.
func (c clockReader) stuck(p *tracee, addr uint64) bool {
	if m := p.mapping(addr); m == nil || m.path != "[vdso]" {
		return false
	}
	c[addr]++
	return c[addr] > 10
}

// goVerdict counts walks.
type goVerdict struct {
	// cut are walks that stop short and say so.
	walks, cut, wrong int
	kinds             map[string]int
}

// stepGo executes a program and walks its stack at each instruction where the stack
// is known, for as many walks. It fails for walks that go wrong. kinds says what is special about one.
func stepGo(p *tracee, path string, walks int, base []uint64, kinds func(at uint64, want []uint64) []string) goVerdict {
	p.t.Helper()
	g := &goCalls{spin: p.function(path, "main.spin"), lost: true}
	exceptions := exceptionsOf(p, path)
	elsewhere := []code{p.function(path, "runtime.morestack"), p.function(path, "runtime.mcall")}
	v := goVerdict{kinds: make(map[string]int)}
	reported := make(map[uint64]bool)
	clock := make(clockReader)
	var signal syscall.Signal
	for before := p.registers(); v.walks < walks; {
		for _, c := range elsewhere {
			g.lost = g.lost || c.contains(before.IP)
		}
		if !g.lost && !exceptions.unknown.contains(before.IP) && !clock.stuck(p, before.IP) {
			v.walks++
			addrs, stop := p.walk(200)
			want := append(g.calls.addresses(), base...)
			for _, kind := range kinds(addrs[0], want) {
				v.kinds[kind]++
			}
			want = exceptions.apply(addrs[0], want)
			whole := stop == sample.StopEnd && slices.Equal(addrs[1:], want)
			if !whole && stop.Truncated() && len(addrs) <= len(want) && slices.Equal(addrs[1:], want[:len(addrs)-1]) {
				v.cut++
			} else if !whole {
				v.wrong++
			}
			if !whole && !reported[addrs[0]] && len(reported) < 30 {
				reported[addrs[0]] = true
				p.t.Logf("at %s: %v, %x, want %x: %v", p.where(addrs[0]), stop, addrs, want, p.rule(addrs[0]))
			}
		}
		var ok bool
		if signal, ok = p.step(signal); !ok {
			p.t.Fatal("program has ended")
		}
		after := p.registers()
		g.follow(p, before, after)
		before = after
	}
	p.t.Logf("%+v", v)
	if v.wrong > 0 {
		p.t.Errorf("%d of %d walks are wrong", v.wrong, v.walks)
	}
	return v
}
