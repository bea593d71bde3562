// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/google/pprof/profile"
)

// TestPprofAgrees hands addresses and segments without names to the pprof tool
// and lets it find the names in the file: they must be ours.
func TestPprofAgrees(t *testing.T) {
	if err := exec.Command("go", "tool", "pprof", "-h").Run(); err != nil {
		if _, ok := err.(*exec.ExitError); !ok {
			t.Skip("this machine has no go")
		}
	}
	for name, flags := range map[string][]string{
		"pie":         {"-pie", "-fPIE"},
		"fixed":       {"-no-pie"},
		"one segment": {"-pie", "-fPIE", "-Wl,-z,noseparate-code"},
		"fixed, one":  {"-no-pie", "-Wl,-z,noseparate-code"},
		"large pages": {"-pie", "-fPIE", "-Wl,-z,max-page-size=65536"},
		"static":      {"-static"},
	} {
		t.Run(name, func(t *testing.T) {
			p := openProgram(t, compile(t, "gcc", append(flags, "-g", "elfsym/testdata/zoo.c")...))
			s := newSymbolizer(t, Options{})
			checkPprof(t, p, s, true)
			if p.Type == elf.ET_DYN { // the same with a file that could not be opened
				checkPprof(t, p, newSymbolizer(t, Options{Files: nothing{}}), false)
			}
		})
	}
}

func checkPprof(t *testing.T, p *program, s *Symbolizer, named bool) {
	t.Helper()
	functions := []string{"main", "global_function", "local_function", "plus_one"}
	prof := &profile.Profile{SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}}}
	mappings := make(map[sample.Segment]*profile.Mapping)
	for i, name := range functions {
		got := s.Symbolize(p.at(t, p.symbols[name].Value))
		if named && got.Frames[0].Function != name {
			t.Fatalf("%s is %+v", name, got)
		}
		if named && got.Address != p.symbols[name].Value {
			t.Errorf("%s is at %#x, linked at %#x", name, got.Address, p.symbols[name].Value)
		}
		seg := got.Segment
		m := mappings[seg]
		if m == nil {
			m = &profile.Mapping{
				ID: uint64(len(mappings) + 1), Start: seg.Start, Limit: seg.Limit, Offset: seg.Offset,
				File: seg.File, BuildID: seg.BuildID,
			}
			mappings[seg] = m
			prof.Mapping = append(prof.Mapping, m)
		}
		l := &profile.Location{ID: uint64(i + 1), Mapping: m, Address: got.Address}
		prof.Location = append(prof.Location, l)
		prof.Sample = append(prof.Sample, &profile.Sample{Location: []*profile.Location{l}, Value: []int64{1}})
	}
	if len(mappings) != 1 {
		t.Errorf("%d mappings, want 1: %v", len(mappings), mappings)
	}
	for i, got := range pprofNames(t, prof) {
		if got != functions[i] {
			t.Errorf("pprof names %s at %#x %q, segment %+v", functions[i], prof.Location[i].Address, got, prof.Mapping[0])
		}
	}
}

// pprofNames runs the pprof tool and returns the names it found.
func pprofNames(t *testing.T, p *profile.Profile) []string {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.pb.gz"), filepath.Join(dir, "out.pb.gz")
	f, err := os.Create(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "tool", "pprof", "-symbolize=local:force", "-proto", "-output="+out, in)
	cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+dir, "PPROF_BINARY_PATH="+dir)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pprof: %v\n%s", err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	named, err := profile.ParseData(b)
	if err != nil {
		t.Fatal(err)
	}
	// pprof may reorder locations; addresses tell them apart.
	byAddress := make(map[uint64]string)
	for _, l := range named.Location {
		if len(l.Line) > 0 {
			byAddress[l.Address] = l.Line[len(l.Line)-1].Function.Name
		}
	}
	names := make([]string, len(p.Location))
	for i, l := range p.Location {
		names[i] = byAddress[l.Address]
	}
	return names
}

// TestSegmentPages has segments that do not start at a page, as some linkers
// lay them out, and one that no kernel would map.
func TestSegmentPages(t *testing.T) {
	for _, c := range []struct {
		in   objfile.Segment
		want sample.Segment
	}{
		{
			objfile.Segment{Flags: elf.PF_X, Offset: 0x1234, FileSize: 0x100, Address: 0x203234},
			sample.Segment{Start: 0x203000, Limit: 0x204000, Offset: 0x1000, File: "f"},
		},
		{
			objfile.Segment{Flags: elf.PF_X, Offset: 0x1234, FileSize: 0x100, Address: 0x203111},
			sample.Segment{Start: 0x203111, Limit: 0x204000, Offset: 0x1234, File: "f"},
		},
	} {
		f := &objfile.File{Segments: []objfile.Segment{c.in}}
		addr, seg, ok := segmentOf(f, "", sample.Location{Object: &sample.Object{Path: "f"}, Offset: c.in.Offset + 16})
		if !ok || addr != c.in.Address+16 || seg != c.want {
			t.Errorf("%+v gives %#x in %+v, want %+v", c.in, addr, seg, c.want)
		}
	}
}

// TestSegmentHoldsAddress checks the contract of Segment for all code of a
// file from the system.
func TestSegmentHoldsAddress(t *testing.T) {
	if _, err := os.Stat("/bin/bash"); err != nil {
		t.Skip("this machine has no bash")
	}
	f, err := elf.Open("/bin/bash")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := newSymbolizer(t, Options{})
	o := &sample.Object{Kind: sample.File, Path: "/bin/bash"}
	text := f.Section(".text")
	named, total := 0, 0
	for off := uint64(0); off < text.Size; off += 509 {
		got := s.Symbolize(sample.Location{Object: o, Offset: text.Offset + off})
		seg := got.Segment
		if got.Address != text.Addr+off || got.Address < seg.Start || got.Address >= seg.Limit ||
			got.Address-seg.Start+seg.Offset != text.Offset+off {
			t.Fatalf("offset %#x: %+v", text.Offset+off, got)
		}
		if total++; got.Frames[0].Function != fmt.Sprintf("bash+%#x", got.Address) {
			named++
		}
	}
	t.Logf("%d of %d addresses have names", named, total)
	if named*2 < total {
		t.Errorf("only %d of %d addresses have names", named, total)
	}
}
