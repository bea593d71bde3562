// SPDX-License-Identifier: Apache-2.0

package elfsym

import (
	"bufio"
	"bytes"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/internal/programtest"
)

// pltLine is a line of objdump's, such as "0000000000001030 <puts@plt>:".
var pltLine = regexp.MustCompile(`^([0-9a-f]{16}) <([^>]+@plt)>:$`)

// checkPLT compares with the names that binutils makes up.
func checkPLT(t *testing.T, objdump, path string, least int) {
	t.Helper()
	table, n := load(t, path), 0
	for lines := bufio.NewScanner(bytes.NewReader(run(t, programtest.Need(t, objdump), "-d", path))); lines.Scan(); {
		found := pltLine.FindStringSubmatch(lines.Text())
		if found == nil || strings.HasPrefix(found[2], "*ABS*") { // calls of IFUNCs have no name
			continue
		}
		addr, err := strconv.ParseUint(found[1], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []uint64{addr, addr + 7} {
			if got, err := table.Lookup(at); err != nil || got != found[2] {
				t.Errorf("%#x is %q, %v, objdump says %s", at, got, err, found[2])
			}
		}
		n++
	}
	if n < least {
		t.Errorf("objdump knows %d entries only", n)
	}
	t.Logf("%d entries of %s", n, path)
}

func TestPLT(t *testing.T) {
	for name, flags := range map[string][]string{
		"lazy":      {"-Wl,-z,lazy"},
		"at once":   {"-Wl,-z,now"},
		"fixed":     {"-no-pie", "-Wl,-z,lazy"},
		"ibt":       {"-fcf-protection=full", "-Wl,-z,ibtplt", "-Wl,-z,lazy"},
		"ibt, once": {"-fcf-protection=full", "-Wl,-z,ibtplt", "-Wl,-z,now"},
		"gold":      {"-fuse-ld=gold"},
	} {
		t.Run(name, func(t *testing.T) { checkPLT(t, "objdump", buildPLT(t, "gcc", flags...), 4) })
	}
	t.Run("stripped", func(t *testing.T) {
		path := buildPLT(t, "gcc")
		run(t, programtest.Need(t, "strip"), path)
		checkPLT(t, "objdump", path, 4)
	})
	for name, flags := range map[string][]string{
		"arm64":     {"-Wl,-z,lazy"},
		"arm64 bti": {"-mbranch-protection=standard", "-Wl,-z,force-bti"},
	} {
		t.Run(name, func(t *testing.T) {
			checkPLT(t, "aarch64-linux-gnu-objdump", buildPLT(t, "aarch64-linux-gnu-gcc", flags...), 4)
		})
	}
}

// buildPLT compiles testdata/calls.c.
func buildPLT(t *testing.T, compiler string, flags ...string) string {
	t.Helper()
	out := t.TempDir() + "/calls"
	run(t, programtest.Need(t, compiler), append([]string{"-O1", "-o", out, "testdata/calls.c"}, flags...)...)
	return out
}

func TestPLTOfSystemFiles(t *testing.T) {
	for _, program := range []string{"nginx", "node", "openssl"} {
		t.Run(program, func(t *testing.T) {
			path := programtest.Need(t, program)
			if info, err := os.Stat(path); err != nil || info.Size() > 8<<20 {
				t.Skipf("%s is no small file: %v", path, err)
			}
			checkPLT(t, "objdump", path, 100)
		})
	}
}
