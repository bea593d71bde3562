// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
)

// TestServers names the kinds of servers that are found in programs of each
// architecture, and those of the newest Go without optimization.
func TestServers(t *testing.T) {
	newest := late()[len(late())-1]
	for _, c := range []struct {
		name    string
		flags   []string
		refused int
		kinds   map[Kind]int
	}{
		{"amd64", nil, 0, map[Kind]int{HTTP1: 1, HTTP2: 4}},
		{"arm64", nil, 0, map[Kind]int{HTTP1: 1, HTTP2: 4}},
		{"amd64", []string{"-gcflags=net/http=-N -l"}, 1, map[Kind]int{HTTP1: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			needToolchain(t, newest)
			p := program{source: "server", toolchain: newest, env: []string{"CGO_ENABLED=0", "GOARCH=" + c.name}, flags: c.flags}
			l := read(t, p.build(t))
			if len(l.Refused) != c.refused {
				t.Errorf("refused %v, want %d", l.Refused, c.refused)
			}
			for _, k := range []Kind{HTTP1, HTTP2, GRPC} {
				n := 0
				for _, s := range l.Served {
					if s.Kind == k {
						n++
					}
				}
				if n != c.kinds[k] {
					t.Errorf("%v: %d starts, want %d", k, n, c.kinds[k])
				}
			}
			if (l.TLS == 0) != (c.name == "arm64") {
				t.Errorf("g at %d from the thread pointer", l.TLS)
			}
		})
	}
}

func TestNotGo(t *testing.T) {
	if _, err := Read(objfiletest.Open(t, "/bin/ls")); !errors.Is(err, ErrNotGo) {
		t.Errorf("got %v, want %v", err, ErrNotGo)
	}
}

// TestUnknownVersion gives a program a version that is in no table. With DWARF it is
// read all the same.
func TestUnknownVersion(t *testing.T) {
	newest := late()[len(late())-1]
	needToolchain(t, newest)
	for name, flags := range map[string][]string{"dwarf": nil, "stripped": {"-ldflags=-s -w"}} {
		t.Run(name, func(t *testing.T) {
			path := program{source: "server", toolchain: newest, env: []string{"CGO_ENABLED=0"}, flags: flags}.build(t)
			known := read(t, path)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s, ok := objfiletest.Open(t, path).Section(".go.buildinfo")
			if !ok {
				t.Fatal("no build information")
			}
			at := s.Offset + uint64(bytes.Index(b[s.Offset:], []byte(newest)))
			copy(b[at:], "go9.99")
			f, err := objfile.Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := Read(f)
			if name == "stripped" {
				var unsupported *UnsupportedError
				if !errors.As(err, &unsupported) || unsupported.Version == "" {
					t.Errorf("got %v, want an UnsupportedError", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Runtime != known.Runtime || got.HTTP != known.HTTP || len(got.Served) != len(known.Served) {
				t.Errorf("by DWARF %+v, by table %+v", got, known)
			}
			for i := range got.Served {
				if got.Served[i] != known.Served[i] {
					t.Errorf("by DWARF %+v, by table %+v", got.Served[i], known.Served[i])
				}
			}
		})
	}
}

// seed is the smallest Go server that can be had: its sections that are read.
func seed(t testing.TB) []byte {
	path := filepath.Join(t.TempDir(), "seed")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "./testdata/server")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("build seed: %v\n%s", err, b)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzRead changes what is read of a program: its headers, tables and code.
func FuzzRead(f *testing.F) {
	whole := seed(f)
	file, err := elf.NewFile(bytes.NewReader(whole))
	if err != nil {
		f.Fatal(err)
	}
	table := file.Section(".gopclntab")
	info := file.Section(".go.buildinfo")
	f.Add(uint64(0), []byte("\x7fELF"), uint64(info.Offset), []byte("\xff Go"))
	f.Add(table.Offset, []byte{0xf1, 0xff, 0xff, 0xff}, uint64(info.Offset)+32, []byte{8})
	f.Add(table.Offset+8, []byte{0xff, 0xff}, table.Offset+32, []byte{0, 0, 0, 0xff})
	f.Add(table.Offset+40, []byte{1}, table.Offset+64, []byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, at uint64, a []byte, more uint64, b []byte) {
		if len(a) > 64 || len(b) > 64 {
			return
		}
		hostile := changed{whole: whole, at: int64(at % uint64(len(whole))), a: a, more: int64(more % uint64(len(whole))), b: b}
		o, err := objfile.Open(&hostile, int64(len(whole)))
		if err != nil {
			return
		}
		l, err := Read(o)
		if err == nil && len(l.Served) > 4*maxNamed {
			t.Errorf("%d starts", len(l.Served))
		}
		if (l == nil) != (err != nil) {
			t.Errorf("layout %v, error %v", l, err)
		}
	})
}

// changed is a file with two pieces overwritten.
type changed struct {
	whole    []byte
	at, more int64
	a, b     []byte
}

func (c *changed) ReadAt(p []byte, off int64) (int, error) {
	n, err := bytes.NewReader(c.whole).ReadAt(p, off)
	for _, piece := range [...]struct {
		at int64
		b  []byte
	}{{c.at, c.a}, {c.more, c.b}} {
		for i, v := range piece.b {
			if j := piece.at + int64(i) - off; j >= 0 && j < int64(n) {
				p[j] = v
			}
		}
	}
	return n, err
}
