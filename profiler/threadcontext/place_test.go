// SPDX-License-Identifier: Apache-2.0

package threadcontext

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/programtest"
)

const source = `__attribute__((visibility("default"))) __thread void *otel_thread_ctx_v1;
void attach(void *p) { otel_thread_ctx_v1 = p; }
`

// library is a library as a loader maps it at address 0, not yet relocated.
func library(t testing.TB) (image []byte) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "library.so")
	cmd := exec.Command(programtest.Need(t, "gcc"), "-shared", "-fPIC", "-mtls-dialect=gnu", "-O2", "-o", out, "-xc", "-")
	cmd.Stdin = strings.NewReader(source)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, msg)
	}
	file, err := elf.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		image = append(image, make([]byte, int(p.Vaddr+p.Memsz)-len(image))...)
		if _, err := p.ReadAt(image[p.Vaddr:p.Vaddr+p.Filesz], 0); err != nil {
			t.Fatal(err)
		}
	}
	return image
}

// relocated is the library with what a loader would write for module and offset.
func relocated(t *testing.T, image []byte, module, offset uint64) []byte {
	t.Helper()
	i, err := openImage(memory{bytes.NewReader(image)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := i.variable(Variable)
	if err != nil {
		t.Fatal(err)
	}
	m, err := machineOf(i.machine)
	if err != nil {
		t.Fatal(err)
	}
	r, err := i.relocation(s, []uint32{m.module}, nil)
	if err != nil {
		t.Fatal(err)
	}
	image = bytes.Clone(image)
	binary.LittleEndian.PutUint64(image[r.address:], module)
	binary.LittleEndian.PutUint64(image[r.address+8:], offset)
	return image
}

// Whatever a library says, it is refused unless it can be true. That places are right
// is tested with real programs, see TestThreadContexts of package profiler.
func TestFindRefuses(t *testing.T) {
	image := library(t)
	for name, c := range map[string]struct {
		module, offset uint64
		libc           Libc
		want           error
	}{
		"glibc":             {3, 16, Glibc, nil},
		"musl":              {3, 16, Musl, nil},
		"another libc":      {3, 16, UnknownLibc, ErrUnsupported},
		"not yet relocated": {0, 0, Glibc, ErrDamaged},
		"module too large":  {1 << 20, 16, Glibc, ErrDamaged},
		"offset too large":  {3, 1 << 40, Glibc, ErrDamaged},
	} {
		p, err := Find(bytes.NewReader(relocated(t, image, c.module, c.offset)), 0, false, c.libc)
		if !errors.Is(err, c.want) || c.want == nil && (err != nil || p.Module != 3 || p.Offset != 16 || p.Stride == 0) {
			t.Errorf("%s: %+v, %v; want %v", name, p, err, c.want)
		}
	}
	for name, cut := range map[string][]byte{"empty": nil, "not ELF": []byte(source), "cut": image[:200]} {
		if p, err := Find(bytes.NewReader(cut), 0, false, Glibc); err == nil {
			t.Errorf("%s: found at %+v", name, p)
		}
	}
	hidden := bytes.ReplaceAll(image, []byte(Variable), []byte("otel_thread_ctx_v9"))
	if _, err := Find(bytes.NewReader(hidden), 0, false, Glibc); !errors.Is(err, ErrNone) {
		t.Errorf("without the variable: %v, want ErrNone", err)
	}
}
