// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/pprof/profile"
)

// The programs of a recording, by the label process_executable_name. Others are left
// out: what else runs on the host that is recorded is nobody's business.
var programOf = map[string]string{
	"compile": "compile", "fleetprof": "go", "node": "node", "nginx": "nginx",
	"python3": "python", "python3.11": "python", "python3.12": "python", "python3.13": "python",
	"bash": "shell", "find": "shell", "xargs": "shell", "gzip": "shell", "sort": "shell", "md5sum": "shell",
}

// maxLines bounds the lines kept of one program: those seen most often stay.
const maxLines = 4500

// kept are the labels of a line besides program.
var kept = []string{"thread_name", "request_attribution", "request_attribution_source", "http_request_method", "http_route", "url_template"}

// condense makes one profile of the windows that an agent has written into a directory.
// A line is a stack with its labels, its value how many samples there were of it. What was
// seen of each program as a whole stands in comments.
func condense(dir, to string, out io.Writer) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.pb.gz"))
	if err != nil {
		return err
	}
	slices.Sort(files)
	c := condensing{
		out: &profile.Profile{
			SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}},
			PeriodType: &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}, TimeNanos: 1,
		},
		lines: map[string]*profile.Sample{}, locations: map[string]*profile.Location{},
		functions: map[profile.Function]*profile.Function{}, mappings: map[profile.Mapping]*profile.Mapping{}, programs: map[string]*seen{},
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		p, err := profile.Parse(f)
		_ = f.Close() // was only read
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		c.window(p)
	}
	if err := c.write(to); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d lines\n%s\n", len(c.out.Sample), strings.Join(c.out.Comments, "\n"))
	return nil
}

// seen is what was seen of a program.
type seen struct {
	windows   int
	lines     []*profile.Sample
	samples   int64
	processes int             // in each window, added up
	now       map[string]bool // of the window being read
}

type condensing struct {
	out       *profile.Profile
	lines     map[string]*profile.Sample
	locations map[string]*profile.Location
	functions map[profile.Function]*profile.Function
	mappings  map[profile.Mapping]*profile.Mapping
	programs  map[string]*seen
}

func label(s *profile.Sample, name string) string {
	if v := s.Label[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// growth gives how many lines there are in a sixteenth of the samples, in an eighth, and so
// on up to all of them. The samples are taken in any order: in that of time it would depend
// on when programs were busy.
func (s *seen) growth() string {
	var all []int
	for i, l := range s.lines {
		for range l.Value[0] {
			all = append(all, i)
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var at [5]string
	lines, next := map[int]bool{}, 0
	for i, l := range all {
		lines[l] = true
		for next < len(at) && i+1 >= len(all)>>(len(at)-1-next) {
			at[next] = strconv.Itoa(len(lines))
			next++
		}
	}
	return strings.Join(at[:], " ")
}

// window adds one window.
func (c *condensing) window(p *profile.Profile) {
	c.out.Period = p.Period
	for _, s := range c.programs {
		s.now = map[string]bool{}
	}
	for _, s := range p.Sample {
		program := programOf[label(s, "process_executable_name")]
		if program == "" || len(s.Location) == 0 {
			continue
		}
		of := c.programs[program]
		if of == nil {
			of = &seen{now: map[string]bool{}}
			c.programs[program] = of
		}
		if len(of.now) == 0 {
			of.windows++
		}
		of.now[label(s, "process_pid")] = true
		c.line(program, s, of).Value[0] += s.Value[0]
		of.samples += s.Value[0]
	}
	for _, s := range c.programs {
		s.processes += len(s.now)
	}
}

func (c *condensing) line(program string, s *profile.Sample, of *seen) *profile.Sample {
	labels := map[string][]string{"program": {program}}
	for _, name := range kept {
		if v := label(s, name); v != "" {
			labels[name] = []string{v}
		}
	}
	var key strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&key, "%s=%s;", name, labels[name][0])
	}
	stack := make([]*profile.Location, len(s.Location))
	for i, l := range s.Location {
		stack[i] = c.location(l)
		fmt.Fprintf(&key, "%d,", stack[i].ID)
	}
	line := c.lines[key.String()]
	if line == nil {
		line = &profile.Sample{Location: stack, Label: labels, Value: []int64{0}}
		c.lines[key.String()] = line
		of.lines = append(of.lines, line)
	}
	return line
}

func (c *condensing) location(l *profile.Location) *profile.Location {
	to := &profile.Location{Address: l.Address, ID: uint64(len(c.out.Location)) + 1}
	key := strconv.FormatUint(l.Address, 16)
	if m := l.Mapping; m != nil {
		to.Mapping = c.mapping(*m)
		key += fmt.Sprintf("@%d", to.Mapping.ID)
	}
	for _, line := range l.Line {
		f := c.function(*line.Function)
		to.Line = append(to.Line, profile.Line{Function: f, Line: line.Line, Column: line.Column})
		key += fmt.Sprintf(",%d:%d:%d", f.ID, line.Line, line.Column)
	}
	if known := c.locations[key]; known != nil {
		return known
	}
	c.locations[key] = to
	c.out.Location = append(c.out.Location, to)
	return to
}

func (c *condensing) mapping(m profile.Mapping) *profile.Mapping {
	m.ID, m.File = 0, anonymous(m.File)
	return once(c.mappings, m, &c.out.Mapping, func(m *profile.Mapping, id uint64) { m.ID = id })
}

func (c *condensing) function(f profile.Function) *profile.Function {
	f.ID, f.Filename = 0, anonymous(f.Filename)
	return once(c.functions, f, &c.out.Function, func(f *profile.Function, id uint64) { f.ID = id })
}

// once gives the one of a list that is as v but for its number, and adds it if there is none.
func once[T comparable](known map[T]*T, v T, list *[]*T, number func(v *T, id uint64)) *T {
	one := known[v]
	if one == nil {
		n := v
		number(&n, uint64(len(*list))+1)
		one, known[v] = &n, &n
		*list = append(*list, one)
	}
	return one
}

// anonymous gives a path without what is peculiar to the host: home and working
// directories.
func anonymous(file string) string {
	if !strings.HasPrefix(file, "/") || strings.HasPrefix(file, "/usr/") || strings.HasPrefix(file, "/lib") {
		return file
	}
	if _, below, ok := strings.Cut(file, "/pkg/mod/"); ok {
		return "/go/pkg/mod/" + below
	}
	return "/opt/" + path.Base(file)
}

// write puts like stacks beside each other, so that they compress well.
func (c *condensing) write(to string) error {
	for _, name := range slices.Sorted(maps.Keys(c.programs)) {
		s := c.programs[name]
		slices.SortStableFunc(s.lines, func(a, b *profile.Sample) int { return cmp.Compare(b.Value[0], a.Value[0]) })
		c.out.Comments = append(c.out.Comments, fmt.Sprintf(programFormat, name, s.windows, s.processes, s.samples, s.growth()))
		c.out.Sample = append(c.out.Sample, s.lines[:min(len(s.lines), maxLines)]...)
	}
	slices.SortFunc(c.out.Sample, func(a, b *profile.Sample) int {
		return slices.CompareFunc(backward(a.Location), backward(b.Location), func(a, b *profile.Location) int { return cmp.Compare(a.ID, b.ID) })
	})
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	// Compact leaves out what belongs to no line.
	return errors.Join(c.out.Compact().Write(f), f.Close())
}

func backward(all []*profile.Location) []*profile.Location {
	all = slices.Clone(all)
	slices.Reverse(all)
	return all
}
