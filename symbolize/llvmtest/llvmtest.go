// SPDX-License-Identifier: Apache-2.0

// Package llvmtest asks llvm-symbolizer, for tests that compare with it.
package llvmtest

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/programtest"
)

// Symbol is one function that an address is in.
type Symbol struct {
	FunctionName, FileName string
	Line                   int64
}

// Ask gives the functions that addresses of a file are in, innermost first. args are further ones of
// llvm-symbolizer.
func Ask(t testing.TB, path string, addrs []uint64, args ...string) (all [][]Symbol) {
	t.Helper()
	var out bytes.Buffer
	ask(t, path, addrs, &out, args...)
	for lines := json.NewDecoder(&out); lines.More(); {
		var answer struct{ Symbol []Symbol }
		if err := lines.Decode(&answer); err != nil {
			t.Fatal(err)
		}
		all = append(all, answer.Symbol)
	}
	if len(all) != len(addrs) {
		t.Fatalf("%d answers to %d questions", len(all), len(addrs))
	}
	return all
}

// Cost is the CPU time that llvm-symbolizer takes for it.
func Cost(t testing.TB, path string, addrs []uint64) time.Duration {
	t.Helper()
	ended := ask(t, path, addrs, io.Discard)
	return ended.UserTime() + ended.SystemTime()
}

func ask(t testing.TB, path string, addrs []uint64, out io.Writer, args ...string) *os.ProcessState {
	t.Helper()
	program := programtest.Need(t, "llvm-symbolizer-16")
	var in, stderr bytes.Buffer
	for _, a := range addrs {
		fmt.Fprintf(&in, "%#x\n", a)
	}
	cmd := exec.Command(program, append(args, "--obj="+path, "--inlines", "--output-style=JSON")...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("llvm-symbolizer: %v\n%s", err, &stderr)
	}
	return cmd.ProcessState
}

// Draw gives addresses in the sections with code, at random, the same each time.
func Draw(f *elf.File, n int) (all []uint64) {
	var code []*elf.Section
	total := uint64(0)
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_EXECINSTR != 0 {
			code, total = append(code, s), total+s.Size
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range n {
		at := random.Uint64N(total)
		for _, s := range code {
			if at < s.Size {
				all = append(all, s.Addr+at)
				break
			}
			at -= s.Size
		}
	}
	return all
}
