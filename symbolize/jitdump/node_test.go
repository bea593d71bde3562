// SPDX-License-Identifier: Apache-2.0

package jitdump

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/programtest"
)

// Node.js tells of its code in both formats: by the jitdump a piece has the name that it has in the text,
// unless other code was put there later.
func TestNode(t *testing.T) {
	node := programtest.Need(t, "node")
	dir := t.TempDir()
	cmd := exec.Command(node, "--perf-prof", "--perf-basic-prof", "-e",
		"function f(n) { let s = 0; for (let i = 0; i < n; i++) s ^= i * 31; return s } for (let i = 0; i < 300; i++) f(1e5); [3, 1, 2].sort((a, b) => a - b)")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pid := strconv.Itoa(cmd.Process.Pid)
	path := "/tmp/perf-" + pid + ".map"
	defer os.Remove(path)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(dir, "jit-"+pid+".dump"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	table := Open(file, 8<<20)
	if err := table.Update(info.Size()); err != nil {
		t.Fatal(err)
	}
	if table.read != info.Size() {
		t.Errorf("%d of %d bytes read", table.read, info.Size())
	}
	same, all := 0, 0
	for line := range bytes.Lines(text) {
		fields := strings.SplitN(strings.TrimSpace(string(line)), " ", 3)
		start, err := strconv.ParseUint(fields[0], 16, 64)
		if err != nil || len(fields) < 3 {
			t.Fatalf("bad line %q", line)
		}
		if strings.Contains(fields[2], ":~") {
			continue // bytecode, which is interpreted
		}
		all++
		got, err := table.Lookup(start)
		switch {
		case err == nil && got.Function == fields[2]:
			same++
		case strings.HasPrefix(fields[2], "JS:*f "):
			t.Errorf("%s is %+v, %v", fields[2], got, err)
		}
	}
	t.Logf("%d of %d pieces of code have the same name", same, all)
	if all < 1000 || same < all*99/100 {
		t.Errorf("%d of %d pieces of code have the same name", same, all)
	}
}
