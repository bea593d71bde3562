// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
)

// An agent that is started again knows what debug information told the one before, which has been wiped from the
// program meanwhile.
func TestIndexOutlivesAgent(t *testing.T) {
	needRoot(t)
	program := compile(t, "indexed", "testdata/inline.c", "-O2", "-g", "-static", "-Wl,--build-id")
	state := filepath.Join(t.TempDir(), "state")
	agent := func(until func(m *mortal)) {
		running := background(t, program, "120")
		defer running.end()
		store := t.TempDir()
		m := startMortal(t, state, "dir:"+store)
		defer m.kill()
		untilSampled(t, store, "hash_all", m.log.String) // of which there is no symbol
		until(m)
	}
	agent(func(m *mortal) {
		for deadline := time.Now().Add(time.Minute); !indexed(t, state, "hash_all"); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no index\n%s", m.log)
			}
		}
	})
	objfiletest.WipeDebug(t, program)
	agent(func(m *mortal) {
		if n := metrics(t, m.address)[`fleetprof_symbolize_failures_total{reason="index"}`]; n != 0 {
			t.Errorf("%v indexes are damaged", n)
		}
	})
}

// indexed tells whether an index has a name.
func indexed(t *testing.T, state, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(state, "symbols", "*.names"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(name)) {
			return true
		}
	}
	return false
}
