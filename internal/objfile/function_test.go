// SPDX-License-Identifier: Apache-2.0

package objfile

import (
	"bytes"
	"debug/elf"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/programtest"
)

const functionSource = `
int far_read(int x) { return x + 1; }
static __attribute__((noinline, used)) int near_read(int x) { return x + 2; }
int far_read_data = 3;
int my_far_write(int x) { return x + 4; } /* the name may share its end with the next one's */
int far_write(int x) { return x + 5; }
extern int getpid(void);
int main(void) { return near_read(far_read(far_write(getpid()))); }
`

// The functions are where debug/elf says, in files of all kinds.
func TestFindFunctions(t *testing.T) {
	for name, c := range map[string]struct {
		flags []string
		want  []string
	}{
		"program":  {nil, []string{"far_read", "near_read", "far_write"}},
		"fixed":    {[]string{"-no-pie"}, []string{"far_read", "near_read", "far_write"}},
		"library":  {[]string{"-shared", "-fPIC"}, []string{"far_read", "near_read", "far_write"}},
		"stripped": {[]string{"-shared", "-fPIC", "-s"}, []string{"far_read", "far_write"}},
		"secret":   {[]string{"-s"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := compileFunctions(t, c.flags...)
			// getpid is imported, far_read_data is no function, read is but an end.
			got, err := open(t, path).FindFunctions([]string{"far_read", "near_read", "far_write", "getpid", "far_read_data", "read"})
			if err != nil {
				t.Fatal(err)
			}
			want := make(map[string]uint64)
			all := functionOffsets(t, path)
			for _, name := range c.want {
				want[name] = all[name]
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %#x, want %#x", got, want)
			}
		})
	}
}

func compileFunctions(t *testing.T, flags ...string) string {
	t.Helper()
	source, binary := filepath.Join(t.TempDir(), "f.c"), filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(source, []byte(functionSource), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(programtest.Need(t, "gcc"), append([]string{"-O1", "-o", binary, source}, flags...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// functionOffsets are the file offsets of all functions that a file defines.
func functionOffsets(t *testing.T, path string) map[string]uint64 {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	offsets := make(map[string]uint64)
	for _, read := range []func() ([]elf.Symbol, error){f.Symbols, f.DynamicSymbols} {
		symbols, err := read()
		if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
			t.Fatal(err)
		}
		for _, s := range symbols {
			for _, p := range f.Progs {
				if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Section != elf.SHN_UNDEF && p.Type == elf.PT_LOAD &&
					s.Value >= p.Vaddr && s.Value < p.Vaddr+p.Filesz {
					offsets[s.Name] = s.Value - p.Vaddr + p.Off
				}
			}
		}
	}
	return offsets
}

// A name that lies across two pieces of the table is found, wherever it begins.
func TestFindNamesAcrossChunks(t *testing.T) {
	const name = "gnutls_record_recv"
	for start := nameChunk - 2*len(name); start < nameChunk+len(name); start++ {
		table := append(bytes.Repeat([]byte{'x'}, start), name+"\x00"+strings.Repeat("y", start)+"\x00"...)
		f := &File{r: bytes.NewReader(table), size: uint64(len(table))}
		places, err := f.findNames(Section{Type: elf.SHT_STRTAB, Size: f.size}, []string{"SSL_read", name})
		if err != nil {
			t.Fatal(err)
		}
		if want := map[uint64]string{uint64(start): name}; !maps.Equal(places, want) {
			t.Fatalf("found at %v, want %v", places, want)
		}
	}
}

// A table made to keep its reader busy is refused.
func TestFindNamesIsBounded(t *testing.T) {
	table := bytes.Repeat([]byte("SSL_read\x00"), 2*maxNamePlaces)
	f := &File{r: bytes.NewReader(table), size: uint64(len(table))}
	if _, err := f.findNames(Section{Type: elf.SHT_STRTAB, Size: f.size}, []string{"SSL_read"}); err == nil {
		t.Error("a name may occur any number of times")
	}
	if _, err := f.findNames(Section{Type: elf.SHT_STRTAB, Size: maxNameTable + 1}, []string{"SSL_read"}); err == nil {
		t.Error("a table may have any size")
	}
}
