// SPDX-License-Identifier: Apache-2.0

package debugfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
	"github.com/fleetprof/fleetprof/symbolize/debugfile"
)

// sharing compiles two programs, and has dwz move what they share to a file, of which they say that it is at a path.
func sharing(t *testing.T, path string, flags ...string) (program, shared string) {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.c")
	text := "struct item { int weight, number_of_things; struct item *next_in_list; };\n" +
		"int main(int n, char **v) { struct item it = { n, 1, 0 }; return it.weight + it.number_of_things; }\n"
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		run(t, "gcc", "-g", "-Wl,--build-id", "-o", filepath.Join(dir, name), source)
	}
	args := append(slices.Clone(flags), "-m", dir+"/shared")
	if path != "" {
		args = append(args, "-M", path)
	}
	run(t, "dwz", append(args, dir+"/a", dir+"/b")...)
	return dir + "/a", dir + "/shared"
}

func TestSupplementPlaces(t *testing.T) {
	for _, c := range []struct {
		named, at string // what the program says, and where the file is
		flags     []string
	}{
		{"/usr/lib/debug/.dwz/x86_64-linux-gnu/shop.debug", "/usr/lib/debug/.dwz/x86_64-linux-gnu/shop.debug", nil},
		{"/usr/lib/debug/.dwz/x86_64-linux-gnu/shop.debug", "/usr/lib/debug/.dwz/x86_64-linux-gnu/shop.debug", []string{"--dwarf-5"}},
		{"../lib/shop.debug", "/opt/lib/shop.debug", nil},
		{"../../.dwz/shop.debug", "/usr/lib/debug/.dwz/shop.debug", nil},
		{"/gone/shop.debug", "/usr/lib/debug/.build-id/XX/YY.debug", nil},
	} {
		t.Run(c.at+strings.Join(c.flags, ""), func(t *testing.T) {
			program, shared := sharing(t, c.named, c.flags...)
			h := host{root: t.TempDir()}
			if id := objfiletest.Open(t, shared).SupplementID(); len(id) == 40 {
				c.at = strings.NewReplacer("XX", id[:2], "YY", id[2:]).Replace(c.at)
			}
			run(t, "cp", shared, h.at(t, c.at))
			found, err := debugfile.OpenSupplement(objfiletest.Open(t, program), mapped, h.open)
			if err != nil {
				t.Fatal(err)
			}
			found.File.Close()
			if found.Path != c.at {
				t.Errorf("found at %s, want %s", found.Path, c.at)
			}
		})
	}
}

// A supplementary file that is missing is told of, and that of others is not taken.
func TestOtherSupplement(t *testing.T) {
	program, _ := sharing(t, "/opt/shop/shared")
	h := host{root: t.TempDir()}
	_, err := debugfile.OpenSupplement(objfiletest.Open(t, program), mapped, h.open)
	if err == nil || errors.Is(err, debugfile.ErrNone) {
		t.Errorf("error %v without the file", err)
	}
	_, other := sharing(t, "/opt/shop/shared", "--dwarf-5")
	run(t, "cp", other, h.at(t, "/opt/shop/shared"))
	if found, err := debugfile.OpenSupplement(objfiletest.Open(t, program), mapped, h.open); err == nil || errors.Is(err, debugfile.ErrNone) {
		t.Errorf("found %v, %v", found, err)
	}
	run(t, "strip", program)
	if _, err := debugfile.OpenSupplement(objfiletest.Open(t, program), mapped, h.open); !errors.Is(err, debugfile.ErrNone) {
		t.Errorf("a stripped program needs one: %v", err)
	}
	if _, err := debugfile.OpenSupplement(objfiletest.Open(t, other), mapped, h.open); !errors.Is(err, debugfile.ErrNone) {
		t.Errorf("a supplementary file has one itself: %v", err)
	}
}

func TestPackagePlaces(t *testing.T) {
	h := host{root: t.TempDir()}
	source := filepath.Join(t.TempDir(), "main.c")
	if err := os.WriteFile(source, []byte("int main(void) { return 0; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program := h.at(t, mapped)
	run(t, "gcc", "-g", "-gsplit-dwarf", "-o", program, source)
	for at, found := range map[string]string{
		mapped:                        mapped + ".dwp",
		"/usr/lib/debug/1/2.debug":    "/usr/lib/debug/1/2.dwp",
		"/usr/lib/debug/1/full.debug": "/usr/lib/debug/1/full.debug.dwp",
		"":                            mapped + ".dwp",
	} {
		run(t, "cp", program, h.at(t, found))
		f, err := debugfile.OpenPackage(objfiletest.Open(t, program), mapped, at, h.open)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		f.File.Close()
		if f.Path != found {
			t.Errorf("found at %s, want %s", f.Path, found)
		}
		if err := os.Remove(h.at(t, found)); err != nil {
			t.Fatal(err)
		}
	}
	refuse := func(path string) (*os.File, error) { t.Errorf("%s was opened", path); return nil, os.ErrNotExist }
	run(t, "gcc", "-g", "-gdwarf-4", "-o", program, source)
	if _, err := debugfile.OpenPackage(objfiletest.Open(t, program), mapped, "", refuse); !errors.Is(err, debugfile.ErrNone) {
		t.Errorf("a program without split units: %v", err)
	}
}

func TestSplitPlaces(t *testing.T) {
	for _, c := range []struct {
		directory, name string
		want            []string
	}{
		{"/build", "out/a.dwo", []string{"/build/out/a.dwo", "/opt/shop/out/a.dwo", "/opt/shop/a.dwo"}},
		{"/build", "/out/a.dwo", []string{"/out/a.dwo", "/opt/shop/a.dwo"}},
		{"/opt/shop", "a.dwo", []string{"/opt/shop/a.dwo"}},
		{"../../up", "../../../a.dwo", []string{"/a.dwo", "/opt/shop/a.dwo"}},
	} {
		var asked []string
		err := debugfile.Split(c.directory, c.name, mapped, func(path string) (*os.File, error) {
			asked = append(asked, path)
			return nil, os.ErrNotExist
		}, func(*objfile.File) error { return nil })
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", c.name, err)
		}
		if slices.Sort(asked); !slices.Equal(asked, slices.Sorted(slices.Values(c.want))) {
			t.Errorf("%s: %q were asked for, want %q", c.name, asked, c.want)
		}
	}
}

// FuzzSupplementLink holds that whatever a file says of a supplementary one leads to clean absolute paths.
func FuzzSupplementLink(f *testing.F) {
	f.Add([]byte("shared\x00abcdefghijklmnopqrst"), false)
	f.Add([]byte("../../etc/shadow\x00abcd"), false)
	f.Add([]byte("\x05\x00\x00/shared\x00\x04abcd"), true)
	f.Fuzz(func(t *testing.T, link []byte, isSup bool) {
		name := ".gnu_debugaltlink"
		if isSup {
			name = ".debug_sup"
		}
		text := elfWith(name, link)
		file, err := objfile.Open(strings.NewReader(string(text)), int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = debugfile.OpenSupplement(file, mapped, func(path string) (*os.File, error) {
			if !filepath.IsAbs(path) || filepath.Clean(path) != path {
				t.Errorf("%q was opened", path)
			}
			return nil, os.ErrNotExist
		})
		if err == nil {
			t.Error("found")
		}
	})
}
