// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/procfs"
)

// The probes in a library of TLS are there while a process that uses it lives, and the agent;
// then its code is what the file says again, in all processes, and they go on.
func TestTLSProbesEnd(t *testing.T) {
	needRoot(t)
	h := builtHandlers(t, buildGnuTLS)
	h.certificate = newCertificate(t, h.dir)
	h.agent = newWatcher(t)
	first, second := h.startGnuTLS(t, "first"), h.startGnuTLS(t, "second")
	code := second.function(t, "libgnutls.so", "gnutls_record_recv")
	if code.changed(t) {
		t.Fatal("there are probes though nobody has used the library")
	}
	first.askUntil(t, h, func() bool { return code.changed(t) })
	first.stop()
	awaitNoProbe(t, code)
	second.askUntil(t, h, func() bool { return code.changed(t) })
	h.agent.stop()
	awaitNoProbe(t, code)
	second.askUntil(t, h, func() bool { return true })
}

func (h *handlerHost) startGnuTLS(t *testing.T, name string) *servingHandlers {
	t.Helper()
	servers := handlerServers()
	s := servers[slices.IndexFunc(servers, func(s handlerServer) bool { return s.name == "gnutls" })]
	s.name = name
	return h.start(t, &s, make(map[string]*servingHandlers))
}

// askUntil sends requests until a condition holds, one at least.
func (p *servingHandlers) askUntil(t *testing.T, h *handlerHost, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		if _, err := p.client(h.trusted).load(handlerLoad{clients: 1}, time.Now().Add(50*time.Millisecond)); err != nil {
			t.Fatalf("%v\n%s", err, p.said())
		}
		if holds() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no probes")
		}
	}
}

func awaitNoProbe(t *testing.T, code functionCode) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); code.changed(t); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("probes are left")
		}
	}
}

// functionCode is where the first instruction of a function lies in a process, and what
// the file says it is.
type functionCode struct {
	pid      int
	address  uint64
	original []byte
}

// function finds a function in a library that the server has mapped.
func (p *servingHandlers) function(t *testing.T, library, name string) (code functionCode) {
	t.Helper()
	var mapping procfs.Mapping
	err := procfs.New("/proc").ExecutableMaps(uint32(p.pids[0]), func(m procfs.Mapping) bool {
		if strings.HasPrefix(path.Base(m.Path), library) {
			mapping = m
		}
		return true
	})
	if err != nil || mapping.Path == "" {
		t.Fatalf("no %s in %s: %v", library, p.server.name, err)
	}
	f, err := elf.Open(mapping.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("no %s in %s", name, mapping.Path)
	}
	text := f.Section(".text")
	code = functionCode{pid: p.pids[0], original: make([]byte, 4)}
	code.address = mapping.Start + symbols[i].Value - text.Addr + text.Offset - mapping.Offset
	if _, err := text.ReadAt(code.original, int64(symbols[i].Value-text.Addr)); err != nil {
		t.Fatal(err)
	}
	return code
}

// changed tells whether the instruction is another one than in the file.
func (c functionCode) changed(t *testing.T) bool {
	t.Helper()
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", c.pid))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	now := make([]byte, len(c.original))
	if _, err := memory.ReadAt(now, int64(c.address)); err != nil {
		t.Fatal(err)
	}
	return !bytes.Equal(now, c.original)
}
