// SPDX-License-Identifier: Apache-2.0

package debugfile_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
	"github.com/fleetprof/fleetprof/internal/programtest"
	"github.com/fleetprof/fleetprof/symbolize/debugfile"
)

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(programtest.Need(t, name), args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// host is a root directory in which /opt/shop/program was installed by a distribution.
type host struct {
	root     string
	stripped *objfile.File
}

const mapped = "/opt/shop/program"

// newHost strips a program whose debug file ends up at a path, as dh_strip(1) does.
func newHost(t *testing.T, debug string, flags ...string) host {
	t.Helper()
	h := host{root: t.TempDir()}
	program := h.at(t, mapped)
	source := filepath.Join(t.TempDir(), "main.c")
	if err := os.WriteFile(source, []byte("static int hidden(int n) { return n; }\nint main(int n, char **v) { return hidden(n); }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "gcc", append([]string{"-o", program, source}, flags...)...)
	id := objfiletest.Open(t, program).BuildID()
	if len(id) > 2 {
		debug = strings.NewReplacer("XX", id[:2], "YY", id[2:]).Replace(debug)
	}
	run(t, "objcopy", "--only-keep-debug", program, h.at(t, debug))
	run(t, "objcopy", "-S", "--add-gnu-debuglink="+h.at(t, debug), program)
	h.stripped = objfiletest.Open(t, program)
	return h
}

// at is where a path is, with its directory made.
func (h host) at(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(h.root, filepath.Dir(path)), 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(h.root, path)
}

func (h host) open(path string) (*os.File, error) { return os.Open(filepath.Join(h.root, path)) }

func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		debug string
		flags []string
	}{
		{"/usr/lib/debug/.build-id/XX/YY.debug", []string{"-Wl,--build-id"}},
		{"/opt/shop/program.debug", []string{"-Wl,--build-id"}},
		{"/opt/shop/program.debug", []string{"-Wl,--build-id=none"}},
		{"/opt/shop/.debug/program.debug", []string{"-Wl,--build-id=none"}},
		{"/usr/lib/debug/opt/shop/program.debug", []string{"-Wl,--build-id=none"}},
	} {
		t.Run(c.debug+c.flags[0], func(t *testing.T) {
			h := newHost(t, c.debug, c.flags...)
			found, err := debugfile.Open(h.stripped, mapped, h.open)
			if err != nil {
				t.Fatal(err)
			}
			defer found.File.Close()
			if _, ok := found.ELF.Section(".symtab"); !ok {
				t.Errorf("%s has no symbols", found.Path)
			}
		})
	}
}

// A file by the right name that belongs to another one is not taken.
func TestOthers(t *testing.T) {
	for _, flag := range []string{"-Wl,--build-id", "-Wl,--build-id=none"} {
		t.Run(flag, func(t *testing.T) {
			h, other := newHost(t, "/opt/shop/program.debug", flag), newHost(t, "/opt/shop/program.debug", flag, "-DOTHER", "-O2")
			text, err := os.ReadFile(other.at(t, "/opt/shop/program.debug"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(h.at(t, "/opt/shop/program.debug"), text, 0o600); err != nil {
				t.Fatal(err)
			}
			if found, err := debugfile.Open(h.stripped, mapped, h.open); err == nil || errors.Is(err, debugfile.ErrNone) {
				t.Errorf("got %v, %v", found, err)
			}
		})
	}
}

func TestNone(t *testing.T) {
	h := newHost(t, "/nowhere/program.debug")
	if _, err := debugfile.Open(h.stripped, mapped, h.open); !errors.Is(err, debugfile.ErrNone) {
		t.Errorf("error %v, want %v", err, debugfile.ErrNone)
	}
	whole := filepath.Join(t.TempDir(), "whole")
	run(t, "gcc", "-o", whole, "-x", "c", "/dev/null", "-nostdlib", "-shared")
	refuse := func(path string) (*os.File, error) { t.Errorf("%s was opened", path); return nil, os.ErrNotExist }
	if _, err := debugfile.Open(objfiletest.Open(t, whole), mapped, refuse); !errors.Is(err, debugfile.ErrNone) {
		t.Errorf("a file with its symbols: error %v, want %v", err, debugfile.ErrNone)
	}
}

// FuzzLink holds that whatever stands in .gnu_debuglink leads to no path outside of the directories.
func FuzzLink(f *testing.F) {
	f.Add([]byte("program.debug\x00\x00\x00abcd"))
	f.Add([]byte("../../../etc/shadow\x00abcd"))
	f.Add([]byte("\x00"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, link []byte) {
		text := elfWith(".gnu_debuglink", link)
		file, err := objfile.Open(bytes.NewReader(text), int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = debugfile.Open(file, mapped, func(path string) (*os.File, error) {
			if d := filepath.Dir(path); d != "/opt/shop" && d != "/opt/shop/.debug" && d != "/usr/lib/debug/opt/shop" {
				t.Errorf("%s was opened", path)
			}
			return os.Open(filepath.Join(dir, "nothing"))
		})
		if !errors.Is(err, debugfile.ErrNone) {
			t.Error(err)
		}
	})
}

// elfWith is a file with no more than a section of a name, and empty debug information.
func elfWith(name string, content []byte) []byte {
	names := "\x00.shstrtab\x00" + name + "\x00.debug_info\x00"
	const header, size = 64, 64
	var b bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&b, binary.LittleEndian, v) // a buffer takes all
		}
	}
	section := func(name, kind uint32, offset, length int) {
		put(name, kind, uint64(0), uint64(0), uint64(offset), uint64(length), uint64(0), uint64(1), uint64(0))
	}
	sections := header + len(names) + len(content)
	put([]byte("\x7fELF\x02\x01\x01"), [9]byte{}, uint16(elf.ET_EXEC), uint16(elf.EM_X86_64), uint32(1), uint64(0), uint64(0), uint64(sections))
	put(uint32(0), uint16(header), uint16(0), uint16(0), uint16(size), uint16(4), uint16(1))
	put([]byte(names), content)
	section(0, uint32(elf.SHT_NULL), 0, 0)
	section(1, uint32(elf.SHT_STRTAB), header, len(names))
	section(11, uint32(elf.SHT_PROGBITS), header+len(names), len(content))
	section(uint32(11+len(name)+1), uint32(elf.SHT_PROGBITS), header+len(names), 0)
	return b.Bytes()
}
