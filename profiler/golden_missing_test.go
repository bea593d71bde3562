// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"slices"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// missing is a recorded stack walked while a table or a mapping is missing.
type missing struct {
	recording string
	change    func(p *goldenProcess, program *sample.Object)
	// late is how many frames there are when something is missing that may come;
	// 0 if nothing is. rest is how many there are without it, all if 0, and stop why
	// there are no more.
	late, rest int
	stop       sample.Stop
}

// testMissing has the kernel side hand stacks over where it may, and else, like
// Go, go on by frame pointers.
func testMissing(t *testing.T, binary, arch string) {
	table := func(p *goldenProcess, program *sample.Object) { p.place(t, program, tableOf(t, program.Path)) }
	noTable := func(*goldenProcess, *sample.Object) {}
	neverTable := func(p *goldenProcess, program *sample.Object) {
		p.shelf.get(program)
		p.shelf.giveUp(program, false)
	}
	noMapping := func(p *goldenProcess, _ *sample.Object) { p.regions = nil }
	shortMapping := func(p *goldenProcess, program *sample.Object) {
		table(p, program)
		p.regions[0].start = p.regions[0].limit - 1
	}
	onlyProgram := func(p *goldenProcess, program *sample.Object) {
		table(p, program)
		p.regions = slices.DeleteFunc(p.regions, func(r region) bool { return r.object != program })
	}
	for name, m := range map[string]missing{
		"table, frame pointers":             {"frame-pointer", noTable, 1, 0, sample.StopFramePointer},
		"table, no frame pointers":          {"plain", noTable, 1, 1, sample.StopFramePointer},
		"table for good, frame pointers":    {"frame-pointer", neverTable, 0, 0, sample.StopFramePointer},
		"table for good, no frame pointers": {"plain", neverTable, 0, 1, sample.StopFramePointer},
		"all mappings":                      {"frame-pointer", noMapping, 1, 0, sample.StopFramePointer},
		"mapping of the innermost code":     {"frame-pointer", shortMapping, 1, 0, sample.StopFramePointer},
		"mapping of a caller":               {"jit", onlyProgram, 3, 0, sample.StopEnd},
	} {
		t.Run(name, func(t *testing.T) { m.test(t, startHarness(t, binary), arch) })
	}
}

func (m *missing) test(t *testing.T, h *goldenHarness, arch string) {
	recorded := readRecording(t, m.recording, arch)
	p, program := recorded.process()
	m.change(p, program)
	p.show(t, h)
	h.setMemory(recorded.memory)
	for _, late := range []bool{false, true} {
		start, frames := p.start(recorded.registers), m.rest
		if late {
			start.MayHandOver = 1
		}
		kernel := h.walk(start)
		compareWalks(t, kernel, p.walk(recorded.registers, recorded.memory.word, late), late)
		right := kernel.stop == m.stop && !kernel.late && kernel.missed == (m.late > 0)
		if late && m.late > 0 {
			right, frames = kernel.late && !kernel.missed, m.late
		}
		if frames == 0 {
			frames = len(recorded.truth)
		}
		if !right || !slices.Equal(kernel.frames, recorded.truth[:frames]) {
			t.Errorf("late %v, missed %v: %s", kernel.late, kernel.missed, recorded.frames(kernel.frames, kernel.stop.String()))
		}
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
