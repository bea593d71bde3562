// SPDX-License-Identifier: Apache-2.0

package objfiletest

import (
	"debug/elf"
	"os"
	"strings"
	"testing"
)

// WipeDebug makes zeroes of the debug information of a file, and of nothing else: headers and build ID stay.
func WipeDebug(t testing.TB, path string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	wiped := 0
	for _, s := range f.Sections {
		if strings.HasPrefix(s.Name, ".debug_") {
			if _, err := out.WriteAt(make([]byte, s.FileSize), int64(s.Offset)); err != nil {
				t.Fatal(err)
			}
			wiped++
		}
	}
	if wiped < 3 {
		t.Fatalf("%s has %d sections of debug information", path, wiped)
	}
}
