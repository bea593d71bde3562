// SPDX-License-Identifier: Apache-2.0

package debuginfod

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize"
)

// host opens files by their paths, and has no debug files.
type host struct{}

func (host) Open(o *sample.Object) (*os.File, error) { return os.Open(o.Path) }

func (host) OpenBeside(*sample.Object, string) (*os.File, error) { return nil, os.ErrNotExist }

// TestNames strips a program, and finds the names that nm has of it before, once the file has come.
func TestNames(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "program")
	run(t, dir, "gcc", "-O0", "-Wl,--build-id=0x"+linkedID, "-o", "program", "-x", "c", source(t))
	out, err := exec.Command("nm", path).Output()
	if err != nil {
		t.Skip(err)
	}
	run(t, dir, "objcopy", "--only-keep-debug", "program", "program.debug")
	run(t, dir, "strip", "program")
	content, err := os.ReadFile(path + ".debug")
	if err != nil {
		t.Fatal(err)
	}
	server := newLibrary(t, map[string][]byte{linkedID: content})
	client := newClient(t, filepath.Join(dir, "debuginfod"), LeastBytes, server.URL)
	s, err := symbolize.New(symbolize.Options{
		Files: host{}, DebugFiles: client, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	object, elf := &sample.Object{Kind: sample.File, Path: path}, objfiletest.Open(t, path)
	name := func(address string) string {
		offset, ok := elf.Offset(addressOf(t, address))
		if !ok {
			t.Fatalf("%s is not in the program", address)
		}
		return s.Symbolize(sample.Location{Object: object, Offset: offset}).Frames[0].Function
	}
	functions := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 3 && (f[2] == "hidden" || f[2] == "main") {
			functions[f[0]] = f[2]
			if got := name(f[0]); !strings.HasPrefix(got, "program+0x") {
				t.Errorf("%s is %s before it is fetched", f[2], got)
			}
		}
	}
	client.start(t)
	defer client.end()
	until(t, "the file", func() bool { return client.Available(linkedID) })
	for address, want := range functions {
		if got := name(address); got != want {
			t.Errorf("%s is %s, want %s", address, got, want)
		}
	}
	if len(functions) != 2 || server.times(linkedID) != 1 {
		t.Errorf("%d functions, fetched %d times", len(functions), server.times(linkedID))
	}
}

func addressOf(t *testing.T, text string) uint64 {
	t.Helper()
	address, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return address
}
