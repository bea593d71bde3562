// SPDX-License-Identifier: Apache-2.0

package minidebug_test

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/therootcompany/xz"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
	"github.com/fleetprof/fleetprof/internal/programtest"
	"github.com/fleetprof/fleetprof/symbolize/minidebug"
)

// fileWith is a stripped program whose .gnu_debugdata is content.
func fileWith(t testing.TB, content []byte) *objfile.File {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/content", content)
	write(t, dir+"/hidden.c", []byte("static int hidden(int n) { return n * 3; }\nint main(int n, char **v) { return hidden(n); }\n"))
	run(t, "gcc", "-O0", "-o", dir+"/program", dir+"/hidden.c")
	run(t, "objcopy", "-S", "--add-section", ".gnu_debugdata="+dir+"/content", dir+"/program", dir+"/stripped")
	return objfiletest.Open(t, dir+"/stripped")
}

func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(programtest.Need(t, name), args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return out
}

// compressed is a file as xz writes it.
func compressed(t testing.TB, content []byte, flags ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "content")
	write(t, path, content)
	return run(t, "xz", append(flags, "--stdout", path)...)
}

func TestOpen(t *testing.T) {
	self, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string][]string{"usual": nil, "with a filter": {"--x86", "--lzma2"}} {
		t.Run(name, func(t *testing.T) {
			inner, size, err := minidebug.Open(fileWith(t, compressed(t, self, flags...)), int64(len(self)))
			if err != nil {
				t.Fatal(err)
			}
			want, err := elf.NewFile(bytes.NewReader(self))
			if err != nil {
				t.Fatal(err)
			}
			if size < int64(len(self)) || len(inner.Sections) != len(want.Sections) {
				t.Errorf("%d bytes with %d sections, want %d with %d", size, len(inner.Sections), len(self), len(want.Sections))
			}
		})
	}
}

func TestRefused(t *testing.T) {
	zeros := make([]byte, 64<<20)
	bomb := compressed(t, zeros)
	small := compressed(t, zeros[:1<<10])
	for name, c := range map[string]struct {
		content []byte
		want    error
	}{
		"bomb":        {bomb, minidebug.ErrTooLarge},
		"dictionary":  {compressed(t, zeros[:1<<10], "-9"), xz.ErrMemlimit},
		"no ELF":      {small, objfile.ErrUnsupported},
		"cut":         {small[:len(small)/2], nil},
		"no xz":       {[]byte("hello"), nil},
		"empty":       {[]byte{0}, nil},
		"a byte lost": {append(bytes.Clone(small[:20]), small[21:]...), nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := minidebug.Open(fileWith(t, c.content), 1<<20)
			if err == nil || !errors.Is(err, c.want) && c.want != nil {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
	if _, _, err := minidebug.Open(objfiletest.Open(t, "/bin/true"), 1<<20); !errors.Is(err, minidebug.ErrNone) {
		t.Errorf("error %v, want %v", err, minidebug.ErrNone)
	}
}
