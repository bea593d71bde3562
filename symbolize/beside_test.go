// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"debug/elf"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/programtest"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
)

// besideTest names all of a program's code before and after its debug information was spread over several files.
type besideTest struct {
	*testing.T
	code []uint64
	want [][]sample.Frame
}

const besideSource = "dwarfsym/testdata/inline.c"

func newBesideTest(t *testing.T) *besideTest {
	b := &besideTest{T: t}
	p := openProgram(t, compile(t, "gcc", "-O2", "-g", besideSource, "-lm"))
	for _, s := range p.Sections {
		if s.Flags&elf.SHF_EXECINSTR != 0 {
			for addr := s.Addr; addr < s.Addr+s.Size; addr += 3 {
				b.code = append(b.code, addr)
			}
		}
	}
	_, b.want = b.name(p)
	return b
}

func (b *besideTest) name(p *program) (s *Symbolizer, all [][]sample.Frame) {
	b.Helper()
	s = newSymbolizer(b, Options{TableBytes: 256 << 20})
	s.cache.loading.units = dwarfsym.NewUnits(64<<20, 100, time.Hour) // all the time it takes
	for _, addr := range b.code {
		all = append(all, s.Symbolize(p.at(b, addr)).Frames)
	}
	return s, all
}

// check wants the names of a program to be the same as before, or fewer with a failure counted.
func (b *besideTest) check(path, failure string) {
	b.Helper()
	s, got := b.name(openProgram(b, path))
	differ := 0
	for i := range got {
		switch {
		case slices.EqualFunc(got[i], b.want[i], agree):
		case failure == "":
			b.Fatalf("%#x is %v, want %v", b.code[i], got[i], b.want[i])
		default:
			differ++
		}
		if last := len(got[i]) - 1; got[i][last].Function != b.want[i][len(b.want[i])-1].Function {
			b.Errorf("%#x is in %v, want %v", b.code[i], got[i][last], b.want[i])
		}
	}
	if failure != "" && (differ < len(got)/50 || counter(b.T, s.metrics.failures.WithLabelValues(failure)) == 0) {
		b.Errorf("%d of %d have fewer names, and %s is not counted", differ, len(got), failure)
	}
}

// agree leaves out the linker's name: of two for one address a debug file may have the other.
func agree(a, b sample.Frame) bool {
	return a.Function == b.Function && a.File == b.File && a.Line == b.Line
}

func (b *besideTest) run(name string, args ...string) {
	b.Helper()
	if out, err := exec.Command(programtest.Need(b, name), args...).CombinedOutput(); err != nil {
		b.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// TestSplitUnits names code by split units, where the compiler has put them, beside the program, and in a package;
// without them by symbols.
func TestSplitUnits(t *testing.T) {
	b := newBesideTest(t)
	path := compile(t, "gcc", "-O2", "-g", "-gsplit-dwarf", besideSource, "-lm")
	b.check(path, "")
	b.run("cp", "-r", filepath.Dir(path), filepath.Dir(path)+".moved")
	moved := filepath.Join(filepath.Dir(path)+".moved", "program")
	unit := filepath.Dir(path) + "/program-inline.dwo"
	b.run("rm", unit)
	b.check(moved, "")
	b.check(path, reasonNoSplit)
	other := compile(t, "gcc", "-O1", "-g", "-gsplit-dwarf", besideSource, "-lm")
	b.run("cp", filepath.Dir(other)+"/program-inline.dwo", unit)
	b.check(path, reasonSplit)
	b.run("llvm-dwp-16", "-o", path+".dwp", filepath.Dir(moved)+"/program-inline.dwo")
	b.check(path, "")
}

// TestIndexWaitsForSplitUnits makes no index of debug information that is not there as a whole.
func TestIndexWaitsForSplitUnits(t *testing.T) {
	b := newBesideTest(t)
	path, dir := compile(t, "gcc", "-O2", "-g", "-gsplit-dwarf", besideSource, "-lm"), t.TempDir()
	unit := filepath.Dir(path) + "/program-inline.dwo"
	b.run("mv", unit, unit+".away")
	p := openProgram(t, path)
	indexed := func(result string) {
		s := indexer(t, dir, 1<<30)
		s.Symbolize(p.at(t, b.code[0]))
		await(t, s, result, 1)
	}
	indexed(buildIncomplete)
	b.run("mv", unit+".away", unit)
	indexed(buildWritten)
	b.run("rm", unit)
	s := indexer(t, dir, 1<<30)
	for i, addr := range b.code {
		if got := s.Symbolize(p.at(t, addr)).Frames; !slices.EqualFunc(got, b.want[i], agree) {
			t.Fatalf("by index %#x is %v, want %v", addr, got, b.want[i])
		}
	}
}

// TestSupplement names code of a stripped program by its debug file and what that shares with another.
func TestSupplement(t *testing.T) {
	b := newBesideTest(t)
	path := compile(t, "gcc", "-O2", "-g", besideSource, "-lm")
	debug := split(t, path)
	b.run("objcopy", "--add-gnu-debuglink="+debug, path)
	other := split(t, compile(t, "gcc", "-O1", "-g", besideSource, "-lm"))
	shared := filepath.Dir(path) + "/shared"
	b.run("dwz", "-m", shared, "-M", "shared", debug, other)
	b.check(path, "")
	b.run("mv", shared, shared+".gone")
	b.check(path, reasonSup)
	b.run("cp", other, shared)
	b.check(path, reasonSup)
}
