// SPDX-License-Identifier: Apache-2.0

package perfmap

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/symbolize/codemap"
)

// mapFile is a file that a test writes while it is read.
type mapFile struct {
	*os.File
	t *testing.T
}

func newMapFile(t *testing.T) mapFile {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "perf-1.map"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return mapFile{f, t}
}

func (f mapFile) add(text string) int64 {
	f.t.Helper()
	if _, err := f.WriteString(text); err != nil {
		f.t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		f.t.Fatal(err)
	}
	return info.Size()
}

// anew writes other text into the same file, as Java does.
func (f mapFile) anew(text string) int64 {
	f.t.Helper()
	if err := f.Truncate(0); err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		f.t.Fatal(err)
	}
	return f.add(text)
}

func check(t *testing.T, table *Table, want map[uint64]string) {
	t.Helper()
	for addr, name := range want {
		if got, err := table.Lookup(addr); got.Function != name || err != nil {
			t.Errorf("%#x is %+v, %v, want %q", addr, got, err, name)
		}
	}
}

func TestLines(t *testing.T) {
	f := newMapFile(t)
	table := Open(f, 1<<20)
	err := table.Update(f.add("7f0000001000 20 JS:*a b /x y.js:1:2\n" +
		"0x7F0000000000 0x10 first \r\n" +
		"7f0000002000\t30\tvoid f(int)\n" +
		"\n7f0000003000 10\n7f0000003000 10 \nzz 10 name\n7f0000003000 10name\n7f0000003000 100000000 huge\n10000000000000000 10 long\n" +
		"7f0000004000 0 empty\n" +
		"ffffffffffffffff 10 beyond\n" +
		"7f0000005000 10 cut"))
	if err == nil || !strings.Contains(err.Error(), "7 lines") {
		t.Errorf("%v, want 7 bad lines", err)
	}
	check(t, table, map[uint64]string{
		0x7f0000000000: "first", 0x7f000000000f: "first", 0x7f0000000010: "",
		0x7f0000000fff: "", 0x7f0000001000: "JS:*a b /x y.js:1:2", 0x7f000000101f: "JS:*a b /x y.js:1:2", 0x7f0000001020: "",
		0x7f0000002001: "void f(int)", 0x7f0000003000: "", 0x7f0000004000: "", 0x7f0000005000: "", math.MaxUint64: "",
	})
	if err := table.Update(f.add(" in two\n")); err != nil {
		t.Error(err)
	}
	check(t, table, map[uint64]string{0x7f0000005000: "cut in two", 0x7f0000000000: "first"})
}

// What comes later is there now; what it overlaps is not, nor is any part of it.
func TestLaterLinesWin(t *testing.T) {
	f := newMapFile(t)
	table := Open(f, 1<<20)
	if err := table.Update(f.add("1000 100 old\n1100 100 kept\n10f0 10 new\n")); err != nil {
		t.Error(err)
	}
	check(t, table, map[uint64]string{0x1000: "", 0x10ef: "", 0x10f0: "new", 0x1100: "kept"})
	if err := table.Update(f.add("1000 f0 newer\n")); err != nil {
		t.Error(err)
	}
	check(t, table, map[uint64]string{0x1000: "newer", 0x10f0: "new"})
}

// counting counts what is read.
type counting struct {
	mapFile
	bytes int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.mapFile.ReadAt(p, off)
	c.bytes += n
	return n, err
}

func TestOnlyWhatWasAppendedIsReadAgain(t *testing.T) {
	f := &counting{mapFile: newMapFile(t)}
	table := Open(f, 16<<20)
	var text strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&text, "%x 10 function%d\n", 0x1000+16*i, i)
	}
	if err := table.Update(f.add(text.String())); err != nil {
		t.Fatal(err)
	}
	f.bytes = 0
	if err := table.Update(f.add("10 10 more\n")); err != nil {
		t.Fatal(err)
	}
	if f.bytes > 2*tailBytes {
		t.Errorf("%d bytes were read for a line", f.bytes)
	}
	check(t, table, map[uint64]string{0x10: "more", 0x1000: "function0", 0x1000 + 16*19_999: "function19999"})
}

// A file that is written anew is read anew, shorter or longer. Until then no wrong name is taken from it.
func TestWrittenAnew(t *testing.T) {
	f := newMapFile(t)
	table := Open(f, 1<<20)
	if err := table.Update(f.add("1000 10 one\n2000 10 two\n")); err != nil {
		t.Fatal(err)
	}
	size := f.anew("3000 10 three\n2000 10 II\n4000 10 four\n")
	check(t, table, map[uint64]string{0x1000: "", 0x2000: ""})
	if err := table.Update(size); err != nil {
		t.Fatal(err)
	}
	check(t, table, map[uint64]string{0x1000: "", 0x2000: "II", 0x3000: "three", 0x4000: "four"})
	if err := table.Update(f.anew("5000 10 five\n")); err != nil {
		t.Fatal(err)
	}
	check(t, table, map[uint64]string{0x2000: "", 0x5000: "five"})
}

func TestLongLines(t *testing.T) {
	f := newMapFile(t)
	table := Open(f, 1<<20)
	long := strings.Repeat("x", 3*maxLine)
	if err := table.Update(f.add("1000 10 " + long + "\n2000 10 next\n3000 10 " + long)); err != nil {
		t.Error(err)
	}
	check(t, table, map[uint64]string{0x1000: long[:maxLine-len("1000 10 ")], 0x2000: "next", 0x3000: ""})
	if err := table.Update(f.add("\n4000 10 last\n")); err != nil {
		t.Error(err)
	}
	check(t, table, map[uint64]string{0x1000: long[:maxLine-len("1000 10 ")], 0x3000: long[:maxLine-len("1000 10 ")], 0x4000: "last"})
}

// However much a process writes, only so much is kept, and so much read.
func TestBounds(t *testing.T) {
	f := newMapFile(t)
	var text strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&text, "%x 1 f\n", 16*i+16)
	}
	const limit = 1 << 20
	table := Open(f, limit)
	if err := table.Update(f.add(text.String())); !errors.Is(err, codemap.ErrTooLarge) || table.Bytes() > limit+1<<14 {
		t.Errorf("%v with %d bytes", err, table.Bytes())
	}
	same := newMapFile(t)
	table = Open(same, limit)
	if err := table.Update(same.add(strings.Repeat("1000 10 same place\n", 100_000))); err != nil || table.Bytes() > 1<<14 {
		t.Errorf("code at one place: %v with %d bytes", err, table.Bytes())
	}
	if err := f.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	if err := Open(f, limit).Update(1 << 40); !errors.Is(err, codemap.ErrTooLarge) {
		t.Errorf("a file of a TiB: %v", err)
	}
}
