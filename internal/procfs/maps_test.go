// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// collect reads all mappings of a process.
func collect(t testing.TB, f FS, pid uint32) (all []Mapping) {
	t.Helper()
	if err := f.Maps(pid, func(m Mapping) bool { all = append(all, m); return true }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestMaps(t *testing.T) {
	const rx, rw = Read | Exec, Read | Write
	want := []struct {
		Mapping
		backing Backing
	}{
		{Mapping{0x400000, 0x452000, 0, rx, false, 0x802, 173521, "/usr/bin/dbus-daemon"}, File},
		{Mapping{0x651000, 0x652000, 0x51000, Read, false, 0x802, 173521, "/usr/bin/dbus-daemon"}, File},
		{Mapping{0xe03000, 0xe24000, 0, rw, false, 0, 0, "[heap]"}, Anonymous},
		{Mapping{0x35b1800000, 0x35b1820000, 0, rx, false, unix.Mkdev(0x103, 0xa1b2), 135522, "/usr/lib64/ld-2.15.so"}, File},
		{Mapping{0x7f0000000000, 0x7f0000001000, 0x3000, rx, true, 0xfd01, 77, "/opt/a b/new\nline\\134x"}, File},
		{Mapping{0x7f0000001000, 0x7f0000002000, 0, rx | rw | Shared, true, 1, 1026, "/memfd:doublemapper"}, Memfd},
		{Mapping{0x7f0000002000, 0x7f0000003000, 0, rw | Shared, true, 1, 3, "/dev/zero"}, Anonymous},
		{Mapping{0x7f0000003000, 0x7f0000004000, 0, rw | Shared, true, 1, 5, "/SYSV0052e2c1"}, Anonymous},
		{Mapping{0x7f0000004000, 0x7f0000005000, 0, rw | Shared, false, 14, 12, "anon_inode:[perf_event]"}, Anonymous},
		{Mapping{0x7f0000005000, 0x7f0000006000, 0, rx, false, 0, 0, "[anon:v8 code]"}, Anonymous},
		{Mapping{0x7f0000006000, 0x7f0000007000, 0, rx, false, 0, 0, ""}, Anonymous},
		{Mapping{0x7f0000007000, 0x7f0000200000, 0, rx, true, 15, 31, "/anon_hugepage"}, Anonymous},
		{Mapping{0x7f0000200000, 0x7f0000201000, 0, 0, false, 0, 0, "//anon"}, Anonymous},
		{Mapping{0x7ffc1a9ea000, 0x7ffc1aa0b000, 0, rw, false, 0, 0, "[stack]"}, Anonymous},
		{Mapping{0x7ffc1ab35000, 0x7ffc1ab37000, 0, rx, false, 0, 0, "[vdso]"}, VDSO},
		{Mapping{0xffffffffff600000, 0xffffffffff601000, 0, Exec, false, 0, 0, "[vsyscall]"}, Anonymous},
	}
	got := collect(t, fixture, 300)
	if len(got) != len(want) {
		t.Fatalf("%d mappings, want %d", len(got), len(want))
	}
	for i, w := range want {
		if got[i] != w.Mapping {
			t.Errorf("mapping %d:\n got %+v\nwant %+v", i, got[i], w.Mapping)
		}
		if b := got[i].Backing(); b != w.backing {
			t.Errorf("mapping %d (%q): backing %d, want %d", i, got[i].Path, b, w.backing)
		}
	}
}

func TestExecutableMaps(t *testing.T) {
	want := slices.DeleteFunc(collect(t, fixture, 300), func(m Mapping) bool { return m.Perm&Exec == 0 })
	var got []Mapping
	err := fixture.ExecutableMaps(300, func(m Mapping) bool { got = append(got, m); return true })
	if err != nil || len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("ExecutableMaps = %+v, %v, want %+v", got, err, want)
	}
}

func TestMapsStops(t *testing.T) {
	visits := 0
	err := fixture.Maps(300, func(Mapping) bool { visits++; return visits < 3 })
	if err != nil || visits != 3 {
		t.Errorf("%d visits, %v, want 3", visits, err)
	}
}

// The truth about a mapping made here is known: where it is, of which file,
// whether that has been deleted.
func TestMapsOfThisProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a \\012b\nc")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(1 << 16); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(int(file.Fd()), 1<<12, 1<<13, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	address := uint64(uintptr(unsafe.Pointer(&mem[0])))
	want := Mapping{
		Start: address, Limit: address + 1<<13, Offset: 1 << 12, Perm: Read | Shared,
		Device: st.Dev, Inode: st.Ino,
		// The name's own \012 cannot be told from a newline.
		Path: strings.ReplaceAll(path, `\012`, "\n"),
	}
	find := func(m Mapping) bool { return m.Start == address }
	all := collect(t, live, Self)
	if i := slices.IndexFunc(all, find); i < 0 || !sameButDevice(all[i], want) {
		t.Errorf("own mapping not as made: want %+v among %+v", want, all)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want.Deleted = true
	all = collect(t, live, Self)
	if i := slices.IndexFunc(all, find); i < 0 || !sameButDevice(all[i], want) {
		t.Errorf("own mapping not as made: want %+v among %+v", want, all)
	}
	if !slices.ContainsFunc(all, func(m Mapping) bool { return m.Backing() == VDSO }) {
		t.Error("no vdso")
	}
}

// sameButDevice leaves the device out where the temporary directory lies on a
// file system that shows another in maps than in stat(2).
func sameButDevice(a, b Mapping) bool {
	var st unix.Statfs_t
	if unix.Statfs(os.TempDir(), &st) == nil &&
		(st.Type == unix.OVERLAYFS_SUPER_MAGIC || st.Type == unix.BTRFS_SUPER_MAGIC) {
		a.Device = b.Device
	}
	return a == b
}

// mapsFile is the maps file of process 7 in a proc tree of its own.
type mapsFile struct {
	FS
	path string
}

func newMapsFile(t testing.TB) mapsFile {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "7"), 0o755); err != nil {
		t.Fatal(err)
	}
	return mapsFile{New(root), filepath.Join(root, "7", "maps")}
}

// read parses text as the maps of process 7.
func (m mapsFile) read(t testing.TB, text string) (all []Mapping, err error) {
	t.Helper()
	if err := os.WriteFile(m.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	err = m.Maps(7, func(m Mapping) bool { all = append(all, m); return true })
	return all, err
}

func TestMapsLongLine(t *testing.T) {
	const head = "1000-2000 r-xp 00000000 08:01 5 /"
	fits := strings.Repeat("x", maxLine-len(head)-1)
	text := head + fits + "\n" +
		head + fits + "xx\n" +
		head + strings.Repeat("y", 3*maxLine) + " (deleted)\n" +
		head + "z" // also a last line without a newline
	want := []string{"/" + fits, "", "", "/z"}
	got, err := newMapsFile(t).read(t, text)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d mappings, %v, want %d", len(got), err, len(want))
	}
	for i, m := range got {
		if m.Path != want[i] || m.Inode != 5 || m.Limit != 0x2000 {
			t.Errorf("mapping %d: path of %d bytes, inode %d, want %d bytes, inode 5",
				i, len(m.Path), m.Inode, len(want[i]))
		}
	}
}

func TestMapsBadLine(t *testing.T) {
	for _, line := range []string{
		"\n", "x", "1000-2000", "1000-2000 r-xp", "1000-2000 r-xp 0 08:01", "1000-2000 r-xp 0 08:01 \n",
		"2000-1000 r-xp 0 08:01 5 /x", "1000-2000 r-xp 0 08:01 f /x", "-1-2000 r-xp 0 08:01 5 /x",
		"1000-10000000000000000 r-xp 0 08:01 5 /x", "1000-2000 r-xp 0 08:1000000 5 /x",
	} {
		if got, err := newMapsFile(t).read(t, line); err == nil {
			t.Errorf("%q gives %+v and no error", line, got)
		}
	}
}

// show writes a mapping as the kernel does, independently of the parser.
func show(m Mapping) string {
	perm := []byte("---p")
	for i, c := range []byte("rwxs") {
		if m.Perm&(1<<i) != 0 {
			perm[i] = c
		}
	}
	s := fmt.Sprintf("%08x-%08x %s %08x %02x:%02x %d ", m.Start, m.Limit, perm, m.Offset,
		unix.Major(m.Device), unix.Minor(m.Device), m.Inode)
	if m.Path != "" {
		s = fmt.Sprintf("%-73s%s", s, strings.ReplaceAll(m.Path, "\n", `\012`))
	}
	if m.Deleted {
		s += deletedSuffix
	}
	return s + "\n"
}

// Whatever the file says, a mapping that was read must be read again as the
// same from what the kernel would write for it.
func FuzzMaps(f *testing.F) {
	seed, err := os.ReadFile("testdata/proc/300/maps")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	for line := range bytes.Lines(seed) {
		f.Add(line)
	}
	file := newMapsFile(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		first, _ := file.read(t, string(text)) // up to the first bad line
		var again strings.Builder
		for _, m := range first {
			if m.Start >= m.Limit {
				t.Fatalf("empty mapping %+v", m)
			}
			again.WriteString(show(m))
		}
		second, err := file.read(t, again.String())
		if err != nil || !slices.Equal(first, second) {
			t.Fatalf("read again: %v\n got %+v\nwant %+v", err, second, first)
		}
	})
}

func BenchmarkMaps(b *testing.B) {
	mappings := 0
	if err := live.Maps(Self, func(Mapping) bool { mappings++; return true }); err != nil {
		b.Fatal(err)
	}
	read := map[string]func(FS, uint32, func(Mapping) bool) error{"all": FS.Maps, "executable": FS.ExecutableMaps}
	for name, maps := range read {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := maps(live, Self, func(Mapping) bool { return true }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(mappings), "mappings")
		})
	}
}
