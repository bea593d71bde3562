// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/uploader/debuginfo"
)

// Debug information goes to stores that name code, and there must be one.
func TestStoresOfDebugInformation(t *testing.T) {
	dir := "--store=dir:" + t.TempDir()
	for _, c := range []struct{ args, wrong string }{
		{dir + " --symbolize=store", "needs a --store that names code"},
		{"--store=pyroscope+http://127.0.0.1:4040 --store=otlp://127.0.0.1:4317 --symbolize=store", "needs a --store that names code"},
		{dir + " --symbolize=store --debuginfo-upload-rate=0", ""},
		{dir + " --store=http://127.0.0.1:7171 --symbolize=store", ""},
		{"--store=parca://127.0.0.1:7070 --symbolize=store", ""},
		{dir, ""},
		{"--store=parca://127.0.0.1:7070 --debuginfo-upload-rate=1KiB", "at least 64KiB"},
	} {
		_, err := readCommandLine(append([]string{"agent"}, strings.Fields(c.args)...), io.Discard, io.Discard, func(int) {})
		if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: error %v, want %q", c.args, err, c.wrong)
		}
	}
}

// A program without debug information, with it in a file beside, is sampled by an agent that names nothing: it
// sends what the server names it by, inlined calls and lines included.
func TestUploadsDebugInformation(t *testing.T) {
	needRoot(t)
	t.Parallel()
	program, _ := ordersApart(t)
	store := start(t, "server", "--data="+t.TempDir()+"/data")
	of := sampledTwice(t, store, program, "--debuginfo-upload-rate=64MiB") // all that runs here has its turn
	var differ string
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		here, there := framesAt(store.profile(t, of("agent")), program), framesAt(store.profile(t, of("store")), program)
		both := shared(here, there)
		inlined := 0
		differ = ""
		for _, addr := range both {
			if strings.Contains(here[addr], "\n") {
				inlined++
			}
			if here[addr] != there[addr] {
				differ = there[addr] + "\nwant\n" + here[addr]
			}
		}
		if len(both) >= 50 && inlined >= 10 && differ == "" {
			return
		}
	}
	t.Errorf("the server's names differ from the agent's:\n%s", differ)
}

// onDisk opens objects by their path.
type onDisk struct{}

func (onDisk) Open(o *sample.Object) (*os.File, error) { return os.Open(o.Path) }

func (onDisk) OpenBeside(*sample.Object, string) (*os.File, error) { return nil, os.ErrNotExist }

// Why a file is not sent is said in the uploader's own terms, which its metrics go by.
func TestStripper(t *testing.T) {
	for name, c := range map[string]struct {
		flags []string
		want  error
	}{
		"with names":    {[]string{"-g"}, nil},
		"without names": {[]string{"-static", "-s"}, debuginfo.ErrNothing},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "burn")
			if out, err := exec.Command("gcc", append(c.flags, "-Wl,--build-id", "-o", path, "testdata/burn.c")...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			held, err := stripper{onDisk{}}.Hold(&sample.Object{Path: path}, objfiletest.Open(t, path).BuildID())
			if err != nil {
				t.Fatal(err)
			}
			defer held.Close()
			content, size, err := held.Names()
			if !errors.Is(err, c.want) || (err == nil) != (content != nil && size > 0) {
				t.Errorf("%d bytes, %v, want %v", size, err, c.want)
			}
		})
	}
}
