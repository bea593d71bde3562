// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"slices"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// testMissing walks recorded stacks while a table or a mapping is missing:
// the kernel side hands them over where it may, and else, like Go, goes on by
// frame pointers.
func testMissing(t *testing.T, binary, arch string) {
	type process = goldenProcess
	table := func(p *process, program *sample.Object) { p.place(t, program, tableOf(t, program.Path)) }
	for name, c := range map[string]struct {
		recording string
		change    func(p *process, program *sample.Object)
		// late says that something is missing that may come, behind so many frames.
		late int
		// frames is how many there are without it, all if 0, and stop why no more.
		frames int
		stop   sample.Stop
	}{
		"table, with frame pointers": {"frame-pointer", func(*process, *sample.Object) {}, 1, 0, sample.StopFramePointer},
		"table, without":             {"plain", func(*process, *sample.Object) {}, 1, 1, sample.StopFramePointer},
		"table for good, with frame pointers": {"frame-pointer", func(p *process, program *sample.Object) {
			p.shelf.get(program)
			p.shelf.giveUp(program, false)
		}, 0, 0, sample.StopFramePointer},
		"table for good, without": {"plain", func(p *process, program *sample.Object) {
			p.shelf.get(program)
			p.shelf.giveUp(program, false)
		}, 0, 1, sample.StopFramePointer},
		"all mappings": {"frame-pointer", func(p *process, program *sample.Object) { p.regions = nil }, 1, 0, sample.StopFramePointer},
		"mapping of the innermost code": {"frame-pointer", func(p *process, program *sample.Object) {
			table(p, program)
			p.regions[0].start += p.regions[0].limit - p.regions[0].start - 1
		}, 1, 0, sample.StopFramePointer},
		"mapping of a caller": {"jit", func(p *process, program *sample.Object) {
			table(p, program)
			p.regions = slices.DeleteFunc(p.regions, func(r region) bool { return r.object != program })
		}, 3, 0, sample.StopEnd},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHarness(t, binary)
			recorded := readRecording(t, c.recording, arch)
			p, program := recorded.process()
			c.change(p, program)
			p.show(t, h)
			h.setMemory(recorded.memory)

			start := p.start(recorded.registers)
			kernel := h.walk(start)
			compareWalks(t, kernel, p.walk(recorded.registers, recorded.memory.word, false), false)
			frames := recorded.truth
			if c.frames > 0 {
				frames = frames[:c.frames]
			}
			if !slices.Equal(kernel.frames, frames) || kernel.stop != c.stop || kernel.missed != (c.late > 0) {
				t.Errorf("found %smissed %v", recorded.frames(kernel.frames, kernel.stop.String()), kernel.missed)
			}

			start.MayHandOver = 1
			kernel = h.walk(start)
			compareWalks(t, kernel, p.walk(recorded.registers, recorded.memory.word, true), true)
			if kernel.late != (c.late > 0) || kernel.late && !slices.Equal(kernel.frames, recorded.truth[:c.late]) {
				t.Errorf("found %slate %v", recorded.frames(kernel.frames, kernel.reason().String()), kernel.late)
			}
		})
	}
}

// testLinkageTable walks from every instruction of the linkage table
// through which the recorded call went. The registers are those that the program
// must have had there: the table's instructions push two words and jump.
func testLinkageTable(t *testing.T, binary string) {
	h := startHarness(t, binary)
	c := readRecording(t, "plt", "amd64")
	p, program := c.process()
	p.place(t, program, tableOf(t, program.Path))
	p.show(t, h)
	h.setMemory(c.memory)
	table := c.program.Section(".plt")
	if table == nil || table.Size != 32 {
		t.Fatalf("linkage table %+v is not one entry behind the first", table)
	}
	for _, at := range []struct{ offset, pushed uint64 }{
		{0, 8}, {6, 16}, // push of the link map; jump to the resolver
		{16, 0}, {22, 0}, {27, 8}, // jump; push of the number; jump to the first entry
	} {
		registers, truth := c.registers, slices.Clone(c.truth)
		registers.IP, truth[0] = table.Addr+at.offset, table.Addr+at.offset
		registers.R[7] += 16 - at.pushed
		kernel := h.walk(p.start(registers))
		compareWalks(t, kernel, p.walk(registers, c.memory.word, false), false)
		if !slices.Equal(kernel.frames, truth) || kernel.stop != sample.StopEnd {
			t.Errorf("from .plt+%d: %s", at.offset, c.frames(kernel.frames, kernel.stop.String()))
		}
	}
}
