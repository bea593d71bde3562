// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"debug/elf"
	"encoding/hex"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// codeOf gives locations all over the sections of a program that have code.
func codeOf(t *testing.T, p *program) (all []sample.Location) {
	t.Helper()
	for _, s := range p.Sections {
		if s.Flags&elf.SHF_EXECINSTR == 0 {
			continue
		}
		for addr := s.Addr; addr < s.Addr+s.Size; addr += 1 + s.Size/997 {
			all = append(all, p.at(t, addr))
		}
	}
	return all
}

// Code that is named elsewhere is where it is when it is named here, and has the names there that it
// has here: from the file as a whole, and from its debug file.
func TestNamedElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		path     func(t *testing.T) string
		hasDebug bool // a debug file has all of the names
	}{
		"C++":              {func(t *testing.T) string { return compile(t, "g++", "-g", "-O2", "testdata/shapes.cc") }, true},
		"C++, no PIE":      {func(t *testing.T) string { return compile(t, "g++", "-g", "-O2", "-no-pie", "testdata/shapes.cc") }, true},
		"Go":               {func(t *testing.T) string { return compile(t, "go", "./gosym/testdata/plain") }, false},
		"Go, own build ID": {func(t *testing.T) string { return compile(t, "go", "-ldflags=-B none", "./gosym/testdata/plain") }, false},
		"Go, PIE, stripped": {func(t *testing.T) string {
			return compile(t, "go", "-buildmode=pie", "-ldflags=-s", "./gosym/testdata/plain")
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := openProgram(t, c.path(t))
			met := map[*sample.Object]string{}
			away := newSymbolizer(t, Options{Elsewhere: func(o *sample.Object, buildID string) { met[o] = buildID }})
			here, there := newSymbolizer(t, Options{Unhurried: true}), newSymbolizer(t, Options{Unhurried: true})
			files := []*sample.Object{{Kind: sample.File, Path: p.object.Path}}
			if c.hasDebug {
				whole := p.object.Path
				debug := whole + ".debug"
				if out, err := exec.Command("objcopy", "--only-keep-debug", whole, debug).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				files = append(files, &sample.Object{Kind: sample.File, Path: debug})
			}
			compared := 0
			for _, loc := range codeOf(t, p) {
				unnamed, want := away.Symbolize(loc), here.Symbolize(loc)
				if len(unnamed.Frames) > 0 {
					t.Fatalf("%#x is named %v, want no name", loc.Offset, unnamed.Frames)
				}
				id := unnamed.Segment.BuildID
				if id != met[p.object] || len(id) < 16 {
					t.Fatalf("the build ID is %q, and told as %q", id, met[p.object])
				}
				unnamed.Segment.BuildID = want.Segment.BuildID // that of the Go linker is not given with names
				if unnamed.Address != want.Address || unnamed.Segment != want.Segment {
					t.Fatalf("%#x is at %#x in %+v, want %#x in %+v", loc.Offset, unnamed.Address, unnamed.Segment, want.Address, want.Segment)
				}
				for i, o := range files {
					got, err := there.Linked(o, unnamed.Address)
					if len(got) == 0 {
						got = named(OffsetName(loc.Object.Path, unnamed.Address))
					}
					first := want.Frames[0].Function
					if i > 0 && (strings.Contains(first, "@plt") || strings.HasPrefix(first, "program+")) {
						continue // stubs are named by their code, which a debug file has not
					}
					if err != nil || !slices.EqualFunc(got, want.Frames, sameFrame) {
						t.Fatalf("file %d: %#x is %v, want %v", i, unnamed.Address, got, want.Frames)
					}
					compared++
				}
			}
			if compared < 500 {
				t.Errorf("only %d addresses were compared", compared)
			}
		})
	}
}

// sameFrame compares all but the linker's names: of two for one address .dynsym, which a debug file has
// not, may have the other.
func sameFrame(a, b sample.Frame) bool {
	return a.Function == b.Function && a.File == b.File && a.Line == b.Line
}

// Without a build ID that is one of a kind a file is named here.
func TestNamedHereWithoutBuildID(t *testing.T) {
	for _, c := range []struct{ compiler, flag, source, function string }{
		{"g++", "-Wl,--build-id=none", "testdata/shapes.cc", "main"},
		{"g++", "-Wl,--build-id=0xabcdef01", "testdata/shapes.cc", "main"},
		// As Bazel builds all programs in Go, which then have the same build IDs.
		{"go", "-ldflags=-buildid=redacted", "./gosym/testdata/plain", "main.main"},
		{"go", "-ldflags=-buildid=redacted -B none", "./gosym/testdata/plain", "main.main"},
	} {
		p := openProgram(t, compile(t, c.compiler, c.flag, c.source))
		away := newSymbolizer(t, Options{Elsewhere: func(*sample.Object, string) { t.Error("told of it") }})
		got := away.Symbolize(p.at(t, p.symbols[c.function].Value))
		if len(got.Frames) != 1 || got.Frames[0].Function != c.function {
			t.Errorf("%s: named %v, want %s", c.flag, got.Frames, c.function)
		}
	}
}

// A file that cannot be read has the name that it always has.
func TestUnreadableIsNamedHere(t *testing.T) {
	away := newSymbolizer(t, Options{Files: nothing{}, Elsewhere: func(*sample.Object, string) { t.Error("told of it") }})
	got := away.Symbolize(sample.Location{Object: &sample.Object{Kind: sample.File, Path: "/lib/libfoo.so", BuildID: "0123456789abcdef0123"}, Offset: 0x1a2b})
	if len(got.Frames) != 1 || got.Frames[0].Function != "libfoo.so+0x1a2b" {
		t.Errorf("named %v, want by its offset", got.Frames)
	}
}

// The build ID of a program that has none but that of the Go linker is its text.
func TestGoBuildID(t *testing.T) {
	path := compile(t, "go", "-ldflags=-B none", "./gosym/testdata/plain")
	text, err := exec.Command("go", "tool", "buildid", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var id string
	away := newSymbolizer(t, Options{Elsewhere: func(_ *sample.Object, buildID string) { id = buildID }})
	p := openProgram(t, path)
	away.Symbolize(p.at(t, p.symbols["main.main"].Value))
	if want := hex.EncodeToString([]byte(strings.TrimSpace(string(text)))); id != want {
		t.Errorf("build ID %q, want %q", id, want)
	}
}

// What was forgotten is read from its file again, and the old file is not held open.
func TestForget(t *testing.T) {
	path := compile(t, "g++", "-g", "testdata/shapes.cc")
	p, files := openProgram(t, path), &paths{}
	s := newSymbolizer(t, Options{Files: files})
	for want := range int64(2) {
		for range 2 {
			if got, err := s.Linked(p.object, p.symbols["main"].Value); err != nil || got[0].Function != "main" {
				t.Fatalf("named %v, want main", got)
			}
		}
		if n := files.opened.Load(); n != want+1 {
			t.Errorf("opened %d times, want %d", n, want+1)
		}
		s.Forget(p.object)
		if _, tables := s.usage(); tables != 0 {
			t.Errorf("%d tables are left", tables)
		}
	}
}

// An object that is met for hours is told of again, and its file is not read again for that.
func TestToldAgain(t *testing.T) {
	p, files, told := openProgram(t, compile(t, "g++", "-g", "testdata/shapes.cc")), &paths{}, 0
	s := newSymbolizer(t, Options{Files: files, Elsewhere: func(*sample.Object, string) { told++ }})
	now := time.Now()
	s.elsewhere.now = func() time.Time { return now }
	loc := p.at(t, p.symbols["main"].Value)
	for hour := range 24 {
		if got := s.Symbolize(loc); len(got.Frames) > 0 {
			t.Fatalf("named %v", got.Frames)
		}
		if want := hour/int(tellAgain/time.Hour) + 1; told != want {
			t.Fatalf("told %d times after %d hours, want %d", told, hour, want)
		}
		now = now.Add(time.Hour)
	}
	if n := files.opened.Load(); n != 1 {
		t.Errorf("opened %d times", n)
	}
}
