// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"bufio"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// memory reads a process as the kernel side does: words at addresses.
type memory struct {
	file *os.File
	*Layout
	// bias is added to addresses as linked.
	bias uint64
}

func openMemory(t *testing.T, pid int, l *Layout, f *objfile.File) *memory {
	t.Helper()
	file, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	m := &memory{file: file, Layout: l}
	if f.Type == elf.ET_DYN {
		maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
		if err != nil {
			t.Fatal(err)
		}
		defer maps.Close()
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil {
			t.Fatal(err)
		}
		s := bufio.NewScanner(maps)
		for s.Scan() && !strings.HasSuffix(s.Text(), " "+exe) {
		}
		if _, err := fmt.Sscanf(s.Text(), "%x-", &m.bias); err != nil {
			t.Fatal(err)
		}
		m.bias -= f.Segments[0].Address &^ 0xfff
	}
	return m
}

// word is 0 where nothing can be read.
func (m *memory) word(at uint64) uint64 {
	var b [8]byte
	if _, err := m.file.ReadAt(b[:], int64(at)); err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b[:])
}

func (m *memory) text(at uint64) string {
	b := make([]byte, min(m.word(at+8), 256))
	if _, err := m.file.ReadAt(b, int64(m.word(at))); err != nil {
		return ""
	}
	return string(b)
}

// request is what memory says of a thread.
type request struct {
	goroutine, parent          uint64
	runtime                    bool
	kind                       Kind
	method, path, pattern, rpc string
}

// thread follows the chain of FORMAT.md.
func (m *memory) thread(t *testing.T, thread, sp uint64) request {
	t.Helper()
	g := m.word(thread + uint64(m.TLS))
	own := m.word(g + uint64(m.GM))
	curg := m.word(own + uint64(m.MCurg))
	if g == 0 {
		t.Fatalf("no g at %#x%d", thread, m.TLS)
	}
	// While the scheduler binds a goroutine to its thread, or parts them, only one
	// knows of the other.
	if own == 0 || curg == 0 || m.word(curg+uint64(m.GM)) != own {
		return request{runtime: true}
	}
	return m.goroutine(own, curg, sp)
}

// goroutine reads what the goroutine g on thread own does.
func (m *memory) goroutine(own, g, sp uint64) request {
	r := request{goroutine: m.word(g + uint64(m.GGoid))}
	if m.GParentGoid != Absent {
		r.parent = m.word(g + uint64(m.GParentGoid))
	}
	lo, hi := m.word(g+uint64(m.GStackLo)), m.word(g+uint64(m.GStackHi))
	start := m.word(g + uint64(m.GStartPC))
	for _, s := range m.Served {
		if start != s.StartPC+m.bias {
			continue
		}
		limit := hi - uint64(s.Depth)
		deep := func(sp uint64) bool { return sp >= lo && sp < limit }
		if deep(sp) || deep(m.word(g+uint64(m.GSchedSP))) ||
			m.MVDSOSP != Absent && deep(m.word(own+uint64(m.MVDSOSP))) {
			m.served(&r, s, hi)
		}
	}
	return r
}

// served reads the request, if there is one.
func (m *memory) served(r *request, s Served, hi uint64) {
	state, owner := m.word(hi-uint64(s.Slot)), m.word(hi-uint64(s.OwnerSlot))
	if s.State != Absent && state != 0 {
		state = m.word(state + uint64(s.State))
	}
	if state == 0 || owner == 0 || m.word(state+uint64(s.Owner)) != owner {
		return
	}
	if s.Done != Absent && m.word(state+uint64(s.Done))&0xff != 0 {
		return
	}
	req := state
	if s.Request != Absent {
		req = m.word(state + uint64(s.Request))
	}
	if s.Kind == GRPC {
		if rpc := m.text(req + uint64(s.Method)); strings.HasPrefix(rpc, "/") {
			r.kind, r.rpc = s.Kind, rpc
		}
		return
	}
	r.kind = s.Kind
	r.method = m.text(req + uint64(m.RequestMethod))
	r.path = m.text(m.word(req+uint64(m.RequestURL)) + uint64(m.URLPath))
	if m.RequestPattern != Absent {
		r.pattern = m.text(req + uint64(m.RequestPattern))
	}
}

// registers are the thread pointer and SP of a thread, which is stopped for that.
func registers(t *testing.T, tid int) (thread, sp uint64) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := syscall.PtraceAttach(tid); err != nil {
		t.Skipf("ptrace: %v", err)
	}
	defer syscall.PtraceDetach(tid)
	// The stop that was asked for may come after a signal, such as that by which the
	// scheduler preempts, which the thread has to get.
	for {
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(tid, &status, syscall.WALL, nil); err != nil {
			t.Fatal(err)
		}
		if status.StopSignal() == syscall.SIGSTOP {
			break
		}
		if err := syscall.PtraceCont(tid, int(status.StopSignal())); err != nil {
			t.Fatal(err)
		}
	}
	var r syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &r); err != nil {
		t.Fatal(err)
	}
	return r.Fs_base, r.Rsp
}
