// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/sample"
)

// The commands of testdata/golden/harness.c.
const (
	commandWords = 1 + iota
	commandSegments
	commandMappings
	commandMemory
	commandWalk
)

// goldenHarness is the kernel side's walk as a process of user space.
type goldenHarness struct {
	t      testing.TB
	in     *bufio.Writer
	out    *bufio.Reader
	errors *bytes.Buffer
}

// goldenStart is the operand of commandWalk.
type goldenStart struct {
	IP uint64
	R  [32]uint64
	// Reads from FailFrom on and before FailUntil fail, counted from 0.
	FailFrom, FailUntil uint64
	First, Count        uint32
	MayHandOver         uint32
	_                   uint32
}

// goldenResult is the answer to commandWalk, before the frames.
type goldenResult struct {
	Frames, Reads      uint32
	Stop, Late, Missed uint32
	_                  uint32
}

// kernelWalk is what the kernel side makes of a stack.
type kernelWalk struct {
	frames       []uint64
	stop         sample.Stop
	late, missed bool
	reads        uint64
}

// compileHarness compiles the walk for a machine, to run on this one.
func compileHarness(t testing.TB, machine elf.Machine) (binary string) {
	t.Helper()
	clang := needCompiler(t, "clang-16")
	watchSources(t)
	target := map[elf.Machine]string{elf.EM_X86_64: "x86", elf.EM_AARCH64: "arm64"}[machine]
	binary = filepath.Join(t.TempDir(), "harness")
	var output []byte
	var err error
	// The address sanitizer needs a library that may not be installed.
	for _, sanitizers := range []string{"-fsanitize=address,undefined", "-fsanitize-trap=undefined"} {
		compiler := exec.Command(clang, "-O1", "-g", "-Wall", "-Wextra", "-Werror",
			"-Wno-unknown-attributes", // those of BPF
			"-fsanitize=undefined", "-fno-sanitize-recover=all", sanitizers,
			"-D__TARGET_ARCH_"+target, "-o", binary, "testdata/golden/harness.c")
		if output, err = compiler.CombinedOutput(); err == nil {
			return binary
		}
	}
	t.Fatalf("compile harness: %v\n%s", err, output)
	return ""
}

// watchSources looks at what the compiler reads, so that results of tests are not
// taken from the cache after it has changed.
func watchSources(t testing.TB) {
	t.Helper()
	headers, err := filepath.Glob("../bpf/*.h")
	if err != nil || len(headers) == 0 {
		t.Fatalf("find headers: %v", err)
	}
	for _, path := range append(headers, "testdata/golden/harness.c") {
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
	}
}

// startHarness runs a compiled harness until the test ends.
func startHarness(t testing.TB, binary string) *goldenHarness {
	t.Helper()
	h := &goldenHarness{t: t, errors: new(bytes.Buffer)}
	command := exec.Command(binary)
	command.Stderr = h.errors
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := command.Wait(); err != nil && !t.Failed() {
			t.Errorf("harness: %v\n%s", err, h.errors)
		}
	})
	h.in, h.out = bufio.NewWriterSize(in, 1<<16), bufio.NewReader(out)
	return h
}

// send gives the harness a command with count operands.
func (h *goldenHarness) send(kind, count, at int, operands any) {
	h.t.Helper()
	b := binary.LittleEndian.AppendUint32(nil, uint32(kind))
	b = binary.LittleEndian.AppendUint32(b, uint32(count))
	b = binary.LittleEndian.AppendUint64(b, uint64(at))
	b, err := binary.Append(b, binary.LittleEndian, operands)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.in.Write(b); err != nil {
		h.fail(err)
	}
}

// fail ends the test with the harness's own words. It has ended by itself.
func (h *goldenHarness) fail(err error) {
	h.t.Helper()
	io.Copy(io.Discard, h.out) // until it has said all
	h.t.Fatalf("harness: %v\n%s", err, h.errors)
}

// load gives the harness words of tables, segments and mappings.
func (h *goldenHarness) load(memory *bpf.Memory, words wordRange, mappings int) {
	h.t.Helper()
	h.send(commandWords, words.size(), words.start, memory.Words[words.start:words.end])
	h.send(commandSegments, len(memory.Segments), 0, memory.Segments)
	h.send(commandMappings, mappings, 0, memory.Mappings[:mappings])
}

// setMemory gives the harness the memory of the process, all of it.
func (h *goldenHarness) setMemory(m goldenMemory) {
	h.t.Helper()
	h.send(commandMemory, len(m), 0, m.append(nil))
}

func (h *goldenHarness) walk(start goldenStart) kernelWalk {
	h.t.Helper()
	h.send(commandWalk, 1, 0, start)
	if err := h.in.Flush(); err != nil {
		h.fail(err)
	}
	var r goldenResult
	if err := binary.Read(h.out, binary.LittleEndian, &r); err != nil {
		h.fail(err)
	}
	w := kernelWalk{
		frames: make([]uint64, r.Frames), reads: uint64(r.Reads),
		stop: sample.Stop(r.Stop), late: r.Late != 0, missed: r.Missed != 0,
	}
	if err := binary.Read(h.out, binary.LittleEndian, w.frames); err != nil {
		h.fail(err)
	}
	return w
}

// testCommands sees that a damaged stream of commands ends the harness
// with an error, not with results.
func testCommands(t *testing.T, binary string) {
	for input, want := range map[string]string{
		strings.Repeat("\xff", 16):                   "command is not known",
		"\x05\x00\x00\x00" + strings.Repeat("x", 90): "command is cut short",
	} {
		command := exec.Command(binary)
		command.Stdin = strings.NewReader(input)
		output, err := command.CombinedOutput()
		if err == nil || !strings.Contains(string(output), want) {
			t.Errorf("%v, %q; want %q", err, output, want)
		}
	}
}
