// SPDX-License-Identifier: Apache-2.0

package tlscode

import (
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// Functions as compilers write them, and at which labels they are to be probed.
var cases = map[string]struct {
	simple, full, inner string
	want                map[string]string
}{
	"one for both": { // Debian 12, OpenSSL 3.0
		"sub $0x18,%rsp; mov %fs:0x28,%rax; mov %rax,8(%rsp); xor %eax,%eax; test %edx,%edx; js 1f; mov %rsp,%rcx; movslq %edx,%rdx; call inner; 1: ret",
		"sub $8,%rsp; call inner; xor %edx,%edx; test %eax,%eax; cmovs %edx,%eax; add $8,%rsp; xor %edi,%edi; ret",
		"push %r13; pop %r13; ret",
		map[string]string{"SSL_read_ex": "inner"},
	},
	"behind marks": {
		"endbr64; sub $0x18,%rsp; lea 8(%rsp),%rcx; call inner; ret",
		"endbr64; sub $8,%rsp; call inner; add $8,%rsp; ret", "endbr64; push %rbp; pop %rbp; ret",
		map[string]string{"SSL_read_ex": "inner+4"},
	},
	"cheap already": {
		"push %r12; mov %rsp,%rcx; call inner; ret", "push %rbx; call inner; ret", "push %r13; ret",
		map[string]string{"SSL_read": "SSL_read", "SSL_read_ex": "SSL_read_ex"},
	},
	"cheap behind marks": {
		"endbr64; push %r12; call inner; ret", "endbr64; push %rbx; call inner; ret", "push %r13; ret",
		map[string]string{"SSL_read": "SSL_read+4", "SSL_read_ex": "SSL_read_ex+4"},
	},
	"another argument": {
		"sub $8,%rsp; call inner; ret", "sub $8,%rsp; xor %ecx,%ecx; call inner; ret", "push %r13; ret",
		map[string]string{"SSL_read": "SSL_read", "SSL_read_ex": "SSL_read_ex"},
	},
	"a moved argument": {
		"sub $8,%rsp; call inner; ret", "sub $8,%rsp; mov %rcx,%r8; mov $0,%ecx; call inner; ret", "push %r13; ret",
		map[string]string{"SSL_read": "SSL_read", "SSL_read_ex": "SSL_read_ex"},
	},
	"not the same": {
		"sub $8,%rsp; call other; ret", "sub $8,%rsp; call inner; ret", "push %r13; ret",
		map[string]string{"SSL_read": "SSL_read", "SSL_read_ex": "SSL_read_ex"},
	},
	"not cheaper": {
		"sub $8,%rsp; call inner; ret", "sub $8,%rsp; call inner; ret", "sub $8,%rsp; ret",
		map[string]string{"SSL_read": "SSL_read", "SSL_read_ex": "SSL_read_ex"},
	},
	"through a pointer": {
		"sub $8,%rsp; call *(%rdi); ret", "sub $8,%rsp; call *(%rdi); ret", "push %r13; ret",
		map[string]string{"SSL_read": "SSL_read", "SSL_read_ex": "SSL_read_ex"},
	},
	"another result": {
		"sub $8,%rsp; call inner; ret", "sub $8,%rsp; call inner; xor %eax,%eax; add $8,%rsp; ret", "push %r13; ret",
		map[string]string{"SSL_read": "SSL_read", "SSL_read_ex": "SSL_read_ex"},
	},
	"instrumented": {
		"sub $8,%rsp; call inner; call other; ret", "sub $8,%rsp; call inner; call other; add $8,%rsp; ret", "push %r13; ret",
		map[string]string{"SSL_read": "SSL_read", "SSL_read_ex": "SSL_read_ex"},
	},
	"a loop": {
		"1: sub $8,%rsp; jne 1b; call inner; ret", "sub $8,%rsp; call inner; ret", "push %r13; ret",
		map[string]string{"SSL_read": "SSL_read", "SSL_read_ex": "SSL_read_ex"},
	},
}

func TestFind(t *testing.T) {
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := assemble(t, map[string]string{"SSL_read": c.simple, "SSL_read_ex": c.full, "inner": c.inner, "other": "push %rbp; ret"})
			places := offsets(t, path)
			want := make(map[string]uint64)
			for function, place := range c.want {
				label, plus, _ := strings.Cut(place, "+")
				want[function] = places[label]
				if plus != "" {
					want[function] += 4
				}
			}
			if got := find(t, path); !maps.Equal(got, want) {
				t.Errorf("got %#x, want %#x, all are %#x", got, want, places)
			}
		})
	}
}

// The functions of this machine's OpenSSL and GnuTLS are found; the symbols are exported.
func TestFindInLibraries(t *testing.T) {
	for pattern, want := range map[string][]string{
		"/usr/lib/*-linux-gnu/libssl.so.3":     {"SSL_read_ex", "SSL_write_ex", "SSL_free"},
		"/usr/lib/*-linux-gnu/libgnutls.so.30": {"gnutls_record_recv", "gnutls_record_send", "gnutls_deinit"},
	} {
		paths, _ := filepath.Glob(pattern)
		if len(paths) == 0 && os.Geteuid() != 0 {
			t.Skip("no ", pattern)
		}
		for _, path := range append(paths, pattern)[:max(1, len(paths))] {
			got := find(t, path)
			for _, name := range want {
				if got[name] == 0 {
					t.Errorf("%s: no %s in %#x", path, name, got)
				}
			}
		}
	}
}

func find(t *testing.T, path string) map[string]uint64 {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := objfile.Open(file, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Find(f, []string{
		"SSL_read", "SSL_read_ex", "SSL_write", "SSL_write_ex", "SSL_free",
		"gnutls_record_recv", "gnutls_record_send", "gnutls_deinit",
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// assemble makes a library of functions.
func assemble(t *testing.T, functions map[string]string) string {
	t.Helper()
	source, library := filepath.Join(t.TempDir(), "f.s"), filepath.Join(t.TempDir(), "f.so")
	text := ".text\n"
	for name, body := range functions {
		text += fmt.Sprintf(".hidden inner, other\n.globl %s\n.type %[1]s, @function\n.balign 16\n%[1]s: %s\n.size %[1]s, .-%[1]s\n", name, body)
	}
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// For amd64, whatever this machine is.
	out, err := exec.Command("clang-16", "--target=x86_64-linux-gnu", "-nostdlib", "-shared", "-o", library, source).CombinedOutput()
	if err != nil && os.Geteuid() != 0 {
		t.Skip(err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return library
}

// offsets are those of all functions.
func offsets(t *testing.T, path string) map[string]uint64 {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	text, all := f.Section(".text"), make(map[string]uint64)
	for _, s := range symbols {
		all[s.Name] = s.Value - text.Addr + text.Offset
	}
	return all
}

// Code is read to its end and no further.
func FuzzFirstCall(f *testing.F) {
	f.Add([]byte("\x48\x83\xec\x08\xe8\x00\x00\x00\x00\x48\x83\xc4\x08\xc3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, behind, ok := firstCall(b, 0x1000, keepsArguments); ok && behind > len(b) {
			t.Errorf("a call ends at %d of %d bytes", behind, len(b))
		}
		returns(b)
	})
}
