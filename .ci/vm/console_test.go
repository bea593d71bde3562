// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestReadConsole(t *testing.T) {
	const whole = "SeaBIOS\r\nfleetprof-vm: kernel 6.1.0-50-cloud-amd64\r\n" +
		"fleetprof-vm: start bpf\r\n=== RUN   TestA\r\n--- PASS: TestA (0.00s)\r\nPASS\r\nfleetprof-vm: exit 0\r\n" +
		"fleetprof-vm: start internal/procfs\r\nno newline at the endfleetprof-vm: exit 2\r\n" +
		"fleetprof-vm: end\r\n[    9.1] reboot: Power down\r\n"
	s := readConsole(whole)
	if s.release != "6.1.0-50-cloud-amd64" || s.problem != "" || s.rest != "SeaBIOS\n[    9.1] reboot: Power down\n" {
		t.Errorf("session %+v", s)
	}
	want := []testRun{
		{"bpf", "0", "=== RUN   TestA\n--- PASS: TestA (0.00s)\nPASS\n"},
		{"internal/procfs", "2", "no newline at the end"},
	}
	if !slices.Equal(s.packages, want) {
		t.Errorf("packages %q, want %q", s.packages, want)
	}
}

// However early a console ends, the session is not taken for a good one.
func TestReadConsoleCutShort(t *testing.T) {
	const text = "fleetprof-vm: kernel 5.10\nfleetprof-vm: start bpf\n=== RUN   TestA\n" +
		"Kernel panic\nfleetprof-vm: exit 0\nfleetprof-vm: error mount cgroup: no\nfleetprof-vm: end\n"
	for i, char := range text {
		if char != ' ' && char != '\n' {
			continue
		}
		s := readConsole(text[:i])
		v := judge(kernel{}, s, nil)
		if v.ok(1) {
			t.Errorf("%q is taken for a good session", text[:i])
		}
	}
	if s := readConsole(text); s.problem != "init: mount cgroup: no" {
		t.Errorf("problem %q", s.problem)
	}
}

const zoo = `package zoo

import (
	"os"
	"testing"
)

func TestPass(t *testing.T) { t.Log("instructions: 7") }
func TestSkip(t *testing.T) { t.Skip("no second CPU") }
func TestFail(t *testing.T) {
	if os.Getenv("ZOO") != "fail" { return }
	t.Run("inner", func(t *testing.T) { t.Error("1 is not 2") })
}
func TestExit(t *testing.T) {
	if os.Getenv("ZOO") == "exit" { os.Exit(3) }
}
func TestPanic(t *testing.T) {
	if os.Getenv("ZOO") == "panic" { panic("at the disco") }
}
`

// buildZoo makes a test binary whose outcome depends on its environment.
func buildZoo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module zoo\n", "zoo_test.go": zoo} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "test", "-c", "-o", "zoo.test", ".")
	build.Dir = dir
	if err := run(build); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "zoo.test")
}

// The outputs are those of a real test binary.
func TestResults(t *testing.T) {
	binary := buildZoo(t)
	for _, c := range []struct{ how, exit, cell, want string }{
		{"", "0", "4 pass, 1 skip", "no second CPU"},
		{"fail", "1", "3 pass, 1 skip, 1 FAIL", "1 is not 2"},
		{"exit", "3", "2 pass, 1 skip, 1 FAIL", "ended with exit code 3\n\tTestExit"},
		{"panic", "2", "3 pass, 1 skip, 1 FAIL", "at the disco"},
		{"", "", "4 pass, 1 skip, 1 FAIL", "did not end"},
	} {
		cmd := exec.Command(binary, "-test.v=test2json", "-test.paniconexit0")
		cmd.Env = append(os.Environ(), "ZOO="+c.how)
		text, _ := cmd.CombinedOutput()
		results, err := testRun{"zoo", c.exit, string(text)}.results()
		if err != nil {
			t.Fatal(err)
		}
		v := verdict{packages: []packageVerdict{{"zoo", results}}}
		if got := v.cell("./zoo"); got != c.cell {
			t.Errorf("%s, exit %q: %s, want %s\n%v", c.how, c.exit, got, c.cell, results)
		}
		var printed strings.Builder
		v.print(&printed)
		for _, part := range []string{c.want, "instructions: 7", "pass zoo TestPass"} {
			if !strings.Contains(printed.String(), part) {
				t.Errorf("%s, exit %q: no %q in\n%s", c.how, c.exit, part, &printed)
			}
		}
	}
}

func TestTableTellsOfEveryKernel(t *testing.T) {
	good := packageVerdict{"bpf", []result{{"TestA", "pass", nil}, {"TestA/b", "pass", nil}}}
	bad := packageVerdict{"bpf", []result{{"TestA", "fail", nil}}}
	all := kernels()
	for _, c := range []struct {
		name     string
		verdicts []verdict
		ok       bool
	}{
		{"good", []verdict{{kernel: all[0], packages: []packageVerdict{good}}}, true},
		{"one bad", []verdict{{kernel: all[0], packages: []packageVerdict{good}}, {kernel: all[1], packages: []packageVerdict{bad}}}, false},
		{"not to be had", []verdict{{kernel: all[0], failures: []string{"no such package"}}}, false},
		{"a package missing", []verdict{{kernel: all[0]}}, false},
	} {
		var table strings.Builder
		if ok := printTable(&table, c.verdicts, []string{"./bpf"}); ok != c.ok {
			t.Errorf("%s: ok is %v", c.name, ok)
		}
		if failures := strings.Count(table.String(), "FAIL"); (failures == 0) != c.ok {
			t.Errorf("%s:\n%s", c.name, &table)
		}
		for _, v := range c.verdicts {
			if !strings.Contains(table.String(), v.kernel.String()) {
				t.Errorf("%s: no %s in\n%s", c.name, v.kernel, &table)
			}
		}
	}
}
