// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sync/errgroup"

	"github.com/fleetprof/fleetprof/bpf"
)

var attachRounds = flag.Int("attach.rounds", 16, "rounds of TestAttachAndDetach")

// attachAtOnce is how many rounds go side by side: they mostly wait for the kernel.
const attachAtOnce = 4

// freeing is how long the kernel may take to free what is closed.
const freeing = 10 * time.Second

// TestAttachAndDetach attaches all that sees requests and takes it away again, while a
// gRPC server and its clients are at work: no call may fail, and nothing may be left
// behind in the kernel, in the server, or here.
//
// As often as is asked for: -run TestAttachAndDetach -attach.rounds=1000 -timeout 30m
func TestAttachAndDetach(t *testing.T) {
	needRoot(t)
	h := builtHandlers(t, buildGRPCGo)
	p := h.start(t, handlerServerNamed("grpc-go"), make(map[string]*servingHandlers))
	program, err := os.Open(h.dir + "/grpcserver")
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	probe := probeOf(t, program)
	before := descriptors(t)
	sampler, err := bpf.Load(bpf.Options{RingBytes: 1 << 20, TableBlocks: 1, CgroupSubsystem: bpf.CgroupV2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sampler.Close() })

	load := loadUntil(t, p)
	seen := &kernelObjects{ids: make(map[kernelObject]bool)}
	attach := func(rounds int) {
		t.Helper()
		var side errgroup.Group
		side.SetLimit(attachAtOnce)
		for range rounds {
			side.Go(func() error { return attachAndDetach(sampler, program, probe.offset, seen) })
		}
		if err := side.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	code, events := p.memory(t, probe.address), uprobeEvents(t)
	began := time.Now()
	attach(*attachRounds)
	lasted, answers := time.Since(began), load()
	t.Logf("%d rounds, %.0f ms each; %d kernel objects; %d calls answered",
		*attachRounds, lasted.Seconds()*1e3/float64(*attachRounds), len(seen.ids), answers)
	if answers == 0 {
		t.Error("no call was answered meanwhile")
	}
	if err := sampler.Close(); err != nil {
		t.Error(err)
	}
	runtime.GC() // variables of BPF programs are mapped until it finds that nobody uses them
	seen.gone(t)
	p.awaitMemory(t, probe.address, code)
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open after, %d before", after, before)
	}
	if now := uprobeEvents(t); now != events {
		t.Errorf("uprobe events are %q, were %q", now, events)
	}
}

// attachAndDetach makes one round, and adds what is open in the middle of it to seen.
func attachAndDetach(s *bpf.Sampler, program *os.File, offset uint64, seen *kernelObjects) error {
	requests, err := bpf.LoadRequests(s, bpf.RequestOptions{RingBytes: 1 << 20})
	if err != nil {
		return err
	}
	defer requests.Close()
	if err := errors.Join(requests.Attach(), requests.AttachTurns(), requests.AttachCloses()); err != nil {
		return err
	}
	probe, err := requests.Probe(program, offset)
	if err != nil {
		return err
	}
	return errors.Join(seen.add(), probe.Close(), requests.Close())
}

// loadUntil asks a server until the result is called, which returns the number of
// answers. A call that fails fails the test.
func loadUntil(t *testing.T, p *servingHandlers) (stop func() int64) {
	t.Helper()
	var answers atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		client := p.client(nil)
		for ctx.Err() == nil {
			n, err := client.load(handlerLoad{clients: 4, keepAlive: true}, time.Now().Add(200*time.Millisecond))
			answers.Add(n)
			if err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	return func() int64 {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%v\n%s", err, p.said())
		}
		return answers.Load()
	}
}

// probePlace is where a probe goes: an offset in the file, and an address in a process
// that runs it where it was linked to.
type probePlace struct{ offset, address uint64 }

// probeOf finds a function that serves a route. It is not where goroutines begin, which
// any other agent on this host may probe at the same time.
func probeOf(t *testing.T, program *os.File) probePlace {
	t.Helper()
	f, err := elf.NewFile(program)
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == "main.workA" })
	if i < 0 {
		t.Fatalf("%s has no function main.workA", program.Name())
	}
	text := f.Sections[symbols[i].Section]
	return probePlace{symbols[i].Value - text.Addr + text.Offset, symbols[i].Value}
}

// memory is code of the server.
func (p *servingHandlers) memory(t *testing.T, address uint64) []byte {
	t.Helper()
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", p.pids[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	code := make([]byte, 16)
	if _, err := memory.ReadAt(code, int64(address)); err != nil {
		t.Fatal(err)
	}
	return code
}

// awaitMemory waits until code of the server is what it was: a probe goes some time after
// its last descriptor is closed.
func (p *servingHandlers) awaitMemory(t *testing.T, address uint64, was []byte) {
	t.Helper()
	for deadline := time.Now().Add(freeing); ; time.Sleep(10 * time.Millisecond) {
		now := p.memory(t, address)
		if bytes.Equal(now, was) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the server's code is %x at the probe, was %x", now, was)
			return
		}
	}
}

// uprobeEvents are those made by way of tracefs, see Documentation/trace/uprobetracer.rst.
func uprobeEvents(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/sys/kernel/tracing/uprobe_events")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// descriptors counts what this process has open, but for sockets: the load goes on.
func descriptors(t *testing.T) (n int) {
	t.Helper()
	paths, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if to, err := os.Readlink(path); err == nil && !strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// kernelObjects are programs, maps and links of BPF.
type kernelObjects struct {
	lock sync.Mutex
	ids  map[kernelObject]bool
}

// kernelObject is one by its kind, as proc_pid_fdinfo(5) has it, and its id.
type kernelObject struct {
	kind string
	id   uint32
}

var kernelObjectID = regexp.MustCompile(`(?m)^(prog|map|link)_id:\s*(\d+)$`)

// add adds what this process has open.
func (k *kernelObjects) add() error {
	paths, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil {
		return err
	}
	k.lock.Lock()
	defer k.lock.Unlock()
	for _, path := range paths {
		text, _ := os.ReadFile(path) // it may be closed by now
		for _, match := range kernelObjectID.FindAllSubmatch(text, -1) {
			id, err := strconv.ParseUint(string(match[2]), 10, 32)
			if err != nil {
				return err
			}
			k.ids[kernelObject{string(match[1]), uint32(id)}] = true
		}
	}
	return nil
}

// gone waits until the kernel has freed them all: it does so after a grace period of RCU.
func (k *kernelObjects) gone(t *testing.T) {
	t.Helper()
	kinds := make(map[string]int)
	for o := range k.ids {
		kinds[o.kind]++
		for deadline := time.Now().Add(freeing); !o.isGone(t); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%s %d is left behind", o.kind, o.id)
				break
			}
		}
	}
	if kinds["prog"] == 0 || kinds["map"] == 0 || kinds["link"] == 0 {
		t.Errorf("too little was there at all: %v", kinds)
	}
}

func (o kernelObject) isGone(t *testing.T) bool {
	t.Helper()
	var left io.Closer
	var err error
	switch o.kind {
	case "prog":
		left, err = ebpf.NewProgramFromID(ebpf.ProgramID(o.id))
	case "map":
		left, err = ebpf.NewMapFromID(ebpf.MapID(o.id))
	case "link":
		left, err = link.NewFromID(link.ID(o.id))
	}
	if errors.Is(err, os.ErrNotExist) {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	left.Close()
	return false
}
