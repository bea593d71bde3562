// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

//go:embed testdata/host.pb.gz
var recorded []byte

// programFormat is a comment of a recording: name, windows, processes added up over the
// windows, samples, and lines: see seen.growth.
const programFormat = "program %s windows %d processes %d samples %d lines %s"

// program is a recorded program.
type program struct {
	name   string
	lines  []line
	counts []int64  // for each line, its samples
	sets   [][]pair // the labels that are recorded with lines
	alone  []int    // for each line, how many innermost frames no other line has

	samples  int     // recorded, not all of them of lines that were kept
	distinct float64 // lines recorded
	// growth is the exponent by which the number of distinct lines grew with that of
	// samples in the end, slowing by how much it fell with each doubling before.
	growth, slowing float64
	// elsewhere is how many locations a new line brings that no line had before.
	elsewhere float64

	processes int // at a time
}

// line is a stack with one of the program's sets of labels.
type line struct {
	stack []*profile.Location
	set   int
}

type pair struct{ name, value string }

// readRecording gives the programs by their names.
func readRecording(gz []byte) (map[string]*program, error) {
	p, err := profile.Parse(bytes.NewReader(gz))
	if err != nil {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	programs := map[string]*program{}
	for _, c := range p.Comments {
		of := new(program)
		var windows, processes int
		var lines [5]float64
		head, tail, _ := strings.Cut(c, " lines ")
		_, errHead := fmt.Sscanf(head, strings.TrimSuffix(programFormat, " lines %s"), &of.name, &windows, &processes, &of.samples)
		_, errTail := fmt.Sscan(tail, &lines[0], &lines[1], &lines[2], &lines[3], &lines[4])
		if err := errors.Join(errHead, errTail); err != nil {
			return nil, fmt.Errorf("read recording: comment %q: %w", c, err)
		}
		of.processes = max(1, processes/windows)
		of.distinct, of.growth = lines[4], min(1, math.Log2(lines[4]/lines[3]))
		of.slowing = (math.Log2(lines[1]/lines[0]) - math.Log2(lines[4]/lines[3])) / 3
		programs[of.name] = of
	}
	slowing, samples := 0.0, 0.0
	for _, of := range programs {
		slowing, samples = slowing+of.slowing*float64(of.samples), samples+float64(of.samples)
	}
	for _, s := range p.Sample {
		of := programs[label(s, "program")]
		if of == nil {
			return nil, fmt.Errorf("read recording: nothing is said of program %q", label(s, "program"))
		}
		var labels []pair
		for _, name := range kept {
			if v := label(s, name); v != "" {
				labels = append(labels, pair{name, v})
			}
		}
		set := slices.IndexFunc(of.sets, func(other []pair) bool { return slices.Equal(other, labels) })
		if set < 0 {
			set = len(of.sets)
			of.sets = append(of.sets, labels)
		}
		of.lines = append(of.lines, line{s.Location, set})
		of.counts = append(of.counts, s.Value[0])
	}
	for _, of := range programs {
		of.slowing = slowing / samples // of one program it would be mostly chance
		of.measure()
	}
	return programs, nil
}

// measure compares lines with each other. They are sorted so that those that share their
// outer frames are neighbours.
func (p *program) measure() {
	places := map[*profile.Location]int{}
	for i, l := range p.lines {
		common := 0
		if i > 0 {
			common = shared(l.stack, p.lines[i-1].stack)
		}
		if i+1 < len(p.lines) {
			common = max(common, shared(l.stack, p.lines[i+1].stack))
		}
		p.alone = append(p.alone, max(1, len(l.stack)-common))
		for _, at := range l.stack {
			places[at]++
		}
	}
	single := 0
	for _, n := range places {
		if n == 1 {
			single++
		}
	}
	p.elsewhere = min(1, float64(single)/float64(len(p.lines)))
}

// rate is the share of samples that bring a line that there was not before, when there
// were so many samples.
func (p *program) rate(samples float64) float64 {
	doublings := math.Log2(samples / float64(p.samples))
	growth := max(0, p.growth-p.slowing*doublings)
	lines := p.distinct * math.Exp2(doublings*(p.growth+growth)/2)
	return growth * lines / samples
}

// shared is how many outer frames two stacks have in common.
func shared(a, b []*profile.Location) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// isKernel reports whether a location is of the kernel, which all hosts have in common.
func isKernel(l *profile.Location) bool {
	return l.Mapping != nil && slices.Contains([]string{"[kernel.kallsyms]", "[bpf]", "[vdso]"}, l.Mapping.File)
}
