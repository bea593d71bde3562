// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"debug/elf"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	record = flag.Bool("record", false, "build the programs of testdata/golden anew, run them, and write recordings and frames")
	update = flag.Bool("update", false, "write the frames of testdata/golden anew from the recordings")
)

// goldenTools says how programs for an architecture are built and run on amd64.
var goldenTools = map[string]struct{ compiler, run []string }{
	"amd64": {
		compiler: []string{"gcc", "-fcf-protection=none"},
		run:      []string{"setarch", "--addr-no-randomize"},
	},
	"arm64": {
		compiler: []string{"aarch64-linux-gnu-gcc"},
		run:      []string{"qemu-aarch64", "-cpu", "max"},
	},
}

// recordGolden builds and runs all programs.
func recordGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/golden/*/program.c")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range paths {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for arch := range goldenTools {
			if only := setting(text, "architectures"); only == nil || slices.Contains(only, arch) {
				recordProgram(t, source, arch, text)
			}
		}
	}
}

// setting is the words of a comment line of a program, such as "// flags: -O1".
func setting(source []byte, name string) []string {
	match := regexp.MustCompile(`(?m)^// ` + name + `: (.*)$`).FindSubmatch(source)
	if match == nil {
		return nil
	}
	return strings.Fields(string(match[1]))
}

// recordProgram writes program and recording of a source for an architecture.
func recordProgram(t *testing.T, source, arch string, text []byte) {
	t.Helper()
	dir := filepath.Join(filepath.Dir(source), arch)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program, tools := filepath.Join(dir, "program"), goldenTools[arch]
	flags := []string{
		"-O2", "-fomit-frame-pointer", "-fasynchronous-unwind-tables", "-ffreestanding", "-fno-stack-protector",
		"-Wall", "-Wextra", "-Werror", "-nostdlib",
		"-Wl,--build-id=none,-z,noseparate-code,-z,max-page-size=4096", "-o", program, source,
	}
	if libraries := setting(text, "shared"); libraries != nil {
		// Never loaded: what counts is the linkage table that it gives the program.
		library := filepath.Join(t.TempDir(), libraries[0]+".so")
		stub := "void " + libraries[0] + "(void) {}"
		output(t, stub, "", append(slices.Clone(tools.compiler),
			"-shared", "-nostdlib", "-Wl,-soname="+libraries[0]+".so", "-x", "c", "-", "-o", library))
		flags = append(flags, "-no-pie", "-fno-pie", "-DBIASED=0", "-Wl,--no-dynamic-linker,-z,lazy", library)
	} else {
		flags = append(flags, "-static-pie", "-fPIE", "-DBIASED=1")
	}
	output(t, "", "", slices.Concat(tools.compiler, flags, setting(text, "flags"), setting(text, arch+" flags")))
	checkProgram(t, program)
	recording := output(t, "", dir, append(slices.Clone(tools.run), "./program"))
	if err := os.WriteFile(filepath.Join(dir, "recording"), recording, 0o644); err != nil {
		t.Fatal(err)
	}
}

// checkProgram refuses one that would have to be relocated, or is too large to
// be kept.
func checkProgram(t *testing.T, path string) {
	t.Helper()
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if s := file.Section(".rela.dyn"); s != nil {
		t.Errorf("%s: has relocations", path)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 20<<10 {
		t.Errorf("%s: %v, %d bytes", path, err, info.Size())
	}
}

// output runs a command without an environment, but for where commands are.
func output(t *testing.T, stdin, dir string, args []string) []byte {
	t.Helper()
	command := exec.Command(args[0], args[1:]...)
	command.Dir, command.Stdin = dir, strings.NewReader(stdin)
	command.Env = []string{"PATH=" + os.Getenv("PATH")}
	if dir != "" {
		command.Env = []string{} // it would be on the recorded stack
	}
	var stderr bytes.Buffer
	command.Stderr = &stderr
	stdout, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, &stderr)
	}
	return stdout
}
