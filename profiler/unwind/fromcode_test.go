// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
)

// TestFromCodeAgainstFrames reads the code of real files as if they had no unwind information,
// and compares at every instruction with what they have.
func TestFromCodeAgainstFrames(t *testing.T) {
	for _, pattern := range []string{
		"/lib/x86_64-linux-gnu/libc.so.6", // what it imports from the dynamic linker returns
		"/lib/x86_64-linux-gnu/libm.so.6",
		"/lib64/ld-linux-x86-64.so.2",
		"/usr/aarch64-linux-gnu/lib/libc.so.6",
		"/usr/aarch64-linux-gnu/lib/libm.so.6",
		"/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1",
	} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			t.Run(filepath.Base(path), func(t *testing.T) { compareWithFrames(t, path) })
		}
	}
}

// agreement counts instructions by what the code and the compiler's own information say
// of them.
type agreement struct {
	equal, none, other int
	// excused are those where the file's own information is wrong.
	wrong, excused int
}

// maxMain is more than the size of __libc_start_main in bytes, which in glibc has a caller.
const maxMain = 512

func compareWithFrames(t *testing.T, path string) {
	t.Helper()
	f, table := objfiletest.Open(t, path), build(t, path)
	c, err := openCode(f, codeOf(f), nil, 16<<20)
	if err != nil || c == nil {
		t.Fatal(c, err)
	}
	var a agreement
	forgets := forgetful{link: c.link}
	c.each(func(addr uint64, in *instruction, s *codeState) {
		r := table.Lookup(addr)
		forgets.follow(addr, in, r)
		if r.Kind == None {
			return
		}
		switch verdict := judge(s, r); {
		case verdict == "equal":
			a.equal++
			forgets.excuse = false
		case verdict == "none":
			a.none++
		case verdict == "other":
			a.other++
		case forgets.excuse || s.kind == End && (addr-f.Entry < maxEntry || c.main != nil && addr-c.main.start < maxMain):
			a.excused++
		default:
			if a.wrong++; a.wrong < 20 {
				t.Logf("at %#x %s differs: code says %v, file %v", addr, verdict, s.rule(), r)
			}
		}
	})
	all := a.equal + a.none + a.other + a.excused + a.wrong
	equal := float64(a.equal) / float64(all)
	t.Logf("%d instructions, %.2f %% equal: %+v", all, equal*100, a)
	if a.wrong > 0 || equal < 0.5 || a.excused*1000 > all {
		t.Errorf("%d of %d instructions are wrong, %.2f %% equal", a.wrong, all, equal*100)
	}
}

// each goes through all instructions, one after the other, reached or not.
func (c *fromCode) each(f func(addr uint64, in *instruction, s *codeState)) {
	for _, g := range c.gaps {
		for i := 0; i < len(g.text); {
			addr := g.start + uint64(i)
			in, ok := c.decode(g.text[i:], addr)
			if !ok {
				i++
				continue
			}
			s := &c.states[0]
			if g.at[i] != inside {
				s = &c.states[g.at[i]]
			}
			f(addr, &in, s)
			i += int(in.size)
		}
	}
}

// forgetful finds hand-written assembly whose unwind information does not tell of all
// that is done to the stack.
type forgetful struct {
	// excuse says that it has been wrong since it was last right.
	excuse bool
	link   bool
	next   uint64
	cfa    int32
}

func (f *forgetful) follow(addr uint64, in *instruction, r Rule) {
	if r.Kind != Offset || r.Base != SP {
		f.next = 0
		return
	}
	if addr == f.next && r.CFA != f.cfa {
		f.excuse = true
	}
	s := codeState{sp: r.CFA, fp: unknown, link: f.link}
	s = s.after(in)
	f.next, f.cfa = addr+uint64(in.size), s.sp
	if in.flow != flowNext && in.flow != flowBranch || s.sp == unknown {
		f.next = 0
	}
}

// judge compares what is known from code with a rule from the file.
func judge(s *codeState, r Rule) string {
	mine := s.rule()
	switch {
	case mine.Kind == None || mine.Kind == Unsupported:
		return "none"
	case mine.Kind != Offset && mine.Kind == r.Kind:
		return "equal"
	case mine.Kind != Offset || r.Kind == End:
		return "kind"
	case r.Kind != Offset:
		return "other"
	}
	at := s.sp
	if r.Base == FP {
		at = s.fp
	} else if r.Base != SP {
		return "other"
	}
	if at == unknown {
		return "other"
	}
	if at != r.CFA {
		return "cfa"
	}
	switch {
	case mine.FP == Lost:
		return "none"
	case r.FP == Same && !s.changed[keptFP]:
	case r.FP == AtCFA && (mine.FP == AtCFA && mine.FPOffset == r.FPOffset || !s.changed[keptFP]):
	default:
		return "fp"
	}
	return "equal"
}

const muslLibrary = "/usr/lib/x86_64-linux-musl/libc.so"

// TestFromCodeOfMusl looks at how much of a C library without unwind information gets
// rules, and at places that need rules of their own.
func TestFromCodeOfMusl(t *testing.T) {
	if _, err := os.Stat(muslLibrary); err != nil {
		if os.Getuid() != 0 {
			t.Skip("musl is not installed")
		}
		t.Fatal("musl is not installed; `make test` installs it")
	}
	f, table := objfiletest.Open(t, muslLibrary), build(t, muslLibrary)
	c, err := openCode(f, codeOf(f), nil, 16<<20)
	if err != nil || c == nil {
		t.Fatal(c, err)
	}
	all, none := 0, 0
	c.each(func(addr uint64, in *instruction, s *codeState) {
		g := c.gap(addr)
		if s == &c.states[0] && padding(g.text[addr-g.start:][:in.size]) {
			return
		}
		if all++; table.Lookup(addr).Kind == None {
			none++
		}
	})
	t.Logf("%d of %d instructions have no rule", none, all)
	if all < 50000 || none*200 > all {
		t.Errorf("%d of %d instructions have no rule", none, all)
	}
	text, _ := f.Section(".text")
	code, err := io.ReadAll(f.Reader(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		code string
		// at is where to look, from the code on.
		at   int
		want Kind
	}{
		// xor %ebp,%ebp; pop %rdi; call *%r9
		"a thread's first frame": {"\x31\xed\x5f\x41\xff\xd1", 3, End},
		// mov $15,%rax; syscall; the address in front is looked up
		"return from a signal handler": {"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05", -1, Signal},
		// xor %rbp,%rbp; mov %rsp,%rdi
		"entry": {"\x48\x31\xed\x48\x89\xe7", 0, End},
	} {
		i := bytes.Index(code, []byte(c.code))
		if i < 0 {
			t.Errorf("%s: no such code", name)
		} else if r := table.Lookup(text.Address + uint64(i+c.at)); r.Kind != c.want {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// padding tells whether an instruction is one of those that fill gaps between functions.
func padding(code []byte) bool {
	code = bytes.TrimLeft(code, "\x66\x2e")
	return bytes.HasPrefix(code, []byte{0x90}) || bytes.HasPrefix(code, []byte{0x0f, 0x1f})
}
