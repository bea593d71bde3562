// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fleetprof/fleetprof/policy/remote"
)

// A policy in a file is read again when it has changed. What is wrong with it is told once,
// with its place, and the agent hears nothing else until it is mended.
func TestPolicyFile(t *testing.T) { synctest.Test(t, testPolicyFile) }

func testPolicyFile(t *testing.T) {
	path := t.TempDir() + "/policy.yaml"
	replaceFile(t, path, "rules: [{selector: '{}', rate: 1/10}]")
	f, err := openPolicyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	next := func(tag string) remote.Answer {
		t.Helper()
		a, err := f.Next(t.Context(), tag, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if !a.Time.Equal(time.Now()) {
			t.Errorf("its time is %v", a.Time)
		}
		return a
	}
	first := next("")
	if first.Unchanged || len(first.Policy.Rules) != 1 || first.Policy.Rules[0].KeepOneIn != 10 {
		t.Errorf("first answer is %+v", first)
	}
	begin := time.Now()
	if a := next(first.Tag); !a.Unchanged || time.Since(begin) != time.Minute {
		t.Errorf("after %v: %+v", time.Since(begin), a)
	}
	replaceFile(t, path, "rules: []")
	second := next(first.Tag)
	if second.Unchanged || second.Tag == first.Tag || len(second.Policy.Rules) != 0 {
		t.Errorf("second answer is %+v", second)
	}

	replaceFile(t, path, "rules:\n  - selector: '{}'\n    rate: 1/0\n")
	if _, err := f.Next(t.Context(), second.Tag, time.Minute); err == nil || !strings.Contains(err.Error(), path+":\nline 3, column 11: rule 1: rate: want 1/N") {
		t.Errorf("error is %v", err)
	}
	begin = time.Now()
	go func() {
		time.Sleep(time.Hour)
		replaceFile(t, path, "rules: []")
	}()
	if a, err := f.Next(t.Context(), second.Tag, 0); err != nil || !a.Unchanged || time.Since(begin) < time.Hour {
		t.Errorf("after %v: %+v, %v", time.Since(begin), a, err)
	}

	replaceFile(t, path, "rules: [{selector: '{}', frequency: 499, until: 2990-01-01T00:00:00Z}]")
	if _, err := f.Next(t.Context(), second.Tag, time.Minute); err == nil || !strings.Contains(err.Error(), "too far ahead") {
		t.Errorf("error is %v", err)
	}
	os.Remove(path)
	if _, err := f.Next(t.Context(), second.Tag, 0); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error is %v", err)
	}
}

// An agent does not start with a policy that is wrong.
func TestOpenPolicyFileRefuses(t *testing.T) {
	dir := t.TempDir()
	replaceFile(t, dir+"/wrong", "rules: [{}]")
	for _, path := range []string{dir, dir + "/none", dir + "/wrong", "/dev/null"} {
		if f, err := openPolicyFile(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", path, f, err)
		}
	}
}
