// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// Golden stacks: the kernel side's walk, compiled for user space, and Go's walk
// run over recorded registers, stacks and programs, see testdata/golden/README.md.
// What they have to find is what the programs knew of themselves.

// goldenNames are the cases that an architecture has.
func goldenNames(t testing.TB, arch string) (names []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata/golden/*", arch, "recording"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("find recordings for %s: %v", arch, err)
	}
	for _, path := range paths {
		names = append(names, filepath.Base(filepath.Dir(filepath.Dir(path))))
	}
	return names
}

// TestGolden runs the walk over recorded and over invented stacks.
func TestGolden(t *testing.T) {
	if *record {
		recordGolden(t)
	}
	for arch, machine := range goldenMachines {
		t.Run(arch, func(t *testing.T) {
			t.Parallel()
			binary := compileHarness(t, machine)
			each := func(test func(t *testing.T, h *goldenHarness, c *goldenCase)) func(*testing.T) {
				return func(t *testing.T) {
					for _, name := range goldenNames(t, arch) {
						t.Run(name, func(t *testing.T) {
							test(t, startHarness(t, binary), readRecording(t, name, arch))
						})
					}
				}
			}
			t.Run("recorded", each(testRecorded))
			t.Run("unreadable", each(testUnreadable))
			t.Run("missing", func(t *testing.T) { testMissing(t, binary, arch) })
			if arch == "amd64" {
				t.Run("linkage table", func(t *testing.T) { testLinkageTable(t, binary) })
			}
			t.Run("invented", func(t *testing.T) { testInvented(t, binary, machine) })
			t.Run("commands", func(t *testing.T) { testCommands(t, binary) })
		})
	}
}

// testRecorded compares what both sides find with what the program knows.
func testRecorded(t *testing.T, h *goldenHarness, c *goldenCase) {
	path := filepath.Join(c.dir, "frames")
	truth := c.frames(c.truth, c.stop)
	if *update || *record {
		if err := os.WriteFile(path, []byte(truth), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := string(c.file(t, "frames"))
	if truth != want {
		t.Errorf("the program knows\n%swant\n%s", truth, want)
	}
	p, program := c.process()
	p.place(t, program, tableOf(t, program.Path))
	p.show(t, h)
	h.setMemory(c.memory)
	kernel, golang := h.walk(p.start(c.registers)), p.walk(c.registers, c.memory.word, true)
	if got := c.frames(kernel.frames, kernel.reason().String()); got != want {
		t.Errorf("kernel side finds\n%swant\n%s", got, want)
	}
	if got := c.frames(golang.frames, golang.stop.String()); got != want {
		t.Errorf("Go finds\n%swant\n%s", got, want)
	}
}

// testUnreadable takes the pages of each stack away, one by one, and makes
// reads fail, one by one. What is left must be the beginning of the stack.
func testUnreadable(t *testing.T, h *goldenHarness, c *goldenCase) {
	p, program := c.process()
	p.place(t, program, tableOf(t, program.Path))
	p.show(t, h)
	for page := range c.memory {
		rest := c.memory.without(page)
		h.setMemory(rest)
		kernel, golang := h.walk(p.start(c.registers)), p.walk(c.registers, rest.word, false)
		compareWalks(t, kernel, golang, false)
		c.checkCut(t, "without a page, kernel side", kernel.frames, kernel.stop, sample.StopFault)
	}
	h.setMemory(c.memory)
	for n, reads := uint64(0), h.walk(p.start(c.registers)).reads; n < reads; n++ {
		for _, until := range []uint64{n + 1, math.MaxUint64} {
			start := p.start(c.registers)
			start.FailFrom, start.FailUntil = n, until
			kernel := h.walk(start)
			c.checkCut(t, "with a failed read, kernel side", kernel.frames, kernel.stop, sample.StopFault)
			if until > reads && kernel.stop != sample.StopFault {
				t.Errorf("without all reads from the %dth of %d on: %v", n, reads, kernel.stop)
			}
		}
	}
	// Where a register of the caller is what cannot be read, the walk goes on to
	// the frame that needs it.
	for n, more := 0, true; more; n++ {
		left := n
		golang := p.walk(c.registers, func(addr uint64) (uint64, bool) {
			left--
			if left < 0 {
				return 0, false
			}
			return c.memory.word(addr)
		}, true)
		c.checkCut(t, "with failed reads, Go", golang.frames, golang.stop, sample.StopFault, sample.StopRegister, sample.StopFramePointer)
		more = left < 0
	}
}

// checkCut says that frames are all of the stack, or its beginning and then one
// of some reasons to stop.
func (c *goldenCase) checkCut(t *testing.T, how string, frames []uint64, stop sample.Stop, reasons ...sample.Stop) {
	t.Helper()
	if stop.String() == c.stop && slices.Equal(frames, c.truth) {
		return
	}
	if !slices.Contains(reasons, stop) || len(frames) > len(c.truth) || !slices.Equal(frames, c.truth[:len(frames)]) {
		t.Errorf("%s: %s", how, c.frames(frames, stop.String()))
	}
}
