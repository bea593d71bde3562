// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"bufio"
	"bytes"
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
		s := bufio.NewScanner(maps)
		s.Scan()
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
	if g == 0 || own == 0 {
		t.Fatalf("no g at %#x%d", thread, m.TLS)
	}
	if curg == 0 {
		return request{runtime: true}
	}
	if back := m.word(curg + uint64(m.GM)); back != own {
		t.Fatalf("curg %#x of m %#x belongs to m %#x", curg, own, back)
	}
	return m.goroutine(own, curg, sp)
}

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
			own != 0 && m.MVDSOSP != Absent && deep(m.word(own+uint64(m.MVDSOSP))) {
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
	if r.kind = s.Kind; s.Kind == GRPC {
		r.rpc = m.text(req + uint64(s.Method))
		return
	}
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
	if _, err := syscall.Wait4(tid, nil, syscall.WALL, nil); err != nil {
		t.Fatal(err)
	}
	var r syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &r); err != nil {
		t.Fatal(err)
	}
	return threadOf(t, &r)
}

// symbol is the address of a symbol as linked, 0 if there is none.
func symbol(f *objfile.File, name string) uint64 {
	table, names, ok := f.SymbolTable(elf.SHT_SYMTAB)
	if !ok {
		return 0
	}
	all := make([]byte, names.Size)
	if _, err := f.Reader(names).ReadAt(all, 0); err != nil {
		return 0
	}
	for s, err := range f.Symbols(table) {
		if err != nil {
			return 0
		}
		if b, _, _ := bytes.Cut(all[s.Name:], []byte{0}); string(b) == name {
			return s.Value
		}
	}
	return 0
}

// all are what memory says of every goroutine, by runtime.allgs, a slice. They
// are taken to be where they left their stack.
func (m *memory) all(t *testing.T, f *objfile.File) map[uint64]request {
	t.Helper()
	at := symbol(f, "runtime.allgs")
	if at == 0 {
		t.Fatal("no symbol runtime.allgs")
	}
	found := map[uint64]request{}
	array, n := m.word(at+m.bias), m.word(at+m.bias+8)
	for i := range min(n, 1<<10) {
		g := m.word(array + 8*i)
		r := m.goroutine(0, g, 0)
		if prior, ok := found[r.goroutine]; ok && prior.kind != 0 && !strings.HasPrefix(prior.path, "/") {
			t.Fatalf("goroutine %d twice", r.goroutine)
		}
		found[r.goroutine] = r
	}
	return found
}
