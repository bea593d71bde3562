// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/pprof/profile"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fleetprof/fleetprof/server/profiletest"
)

// put sends profiles to a server: `put URL FILE [heap]`. A line of the file is one sample,
//
//	START LABEL=VALUE,… OUTERMOST;…;INNERMOST VALUE
//
// and those with the same start are one profile, of CPU time with VALUE samples of 10 ms, or of
// the heap with VALUE bytes in use.
func put(ts *testscript.TestScript, _ bool, args []string) {
	windows := map[string][]profiletest.Sample{}
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		fields := strings.Fields(line)
		if len(fields) != 4 {
			ts.Fatalf("%s: %q has no four fields", args[1], line)
		}
		s := profiletest.Sample{Stack: fields[2], Labels: map[string]string{}}
		for label := range strings.SplitSeq(fields[1], ",") {
			name, value, _ := strings.Cut(label, "=")
			s.Labels[name] = value
		}
		n, err := strconv.ParseInt(fields[3], 10, 64)
		ts.Check(err)
		s.Count = n
		windows[fields[0]] = append(windows[fields[0]], s)
	}
	for at, samples := range windows {
		start, err := time.Parse(time.RFC3339, at)
		ts.Check(err)
		p := profiletest.New(start, samples...)
		p.Period = int64(10 * time.Millisecond)
		for _, s := range p.Sample {
			s.Value[1] = s.Value[0] * p.Period
		}
		if slices.Contains(args[2:], "heap") {
			p.SampleType = []*profile.ValueType{{Type: "inuse_space", Unit: "bytes"}}
			p.PeriodType = &profile.ValueType{Type: "space", Unit: "bytes"}
			for _, s := range p.Sample {
				s.Value = s.Value[:1]
			}
		}
		var gz bytes.Buffer
		ts.Check(p.Write(&gz))
		answer, err := http.Post(args[0]+"/api/v1/profiles", "application/octet-stream", &gz)
		ts.Check(err)
		answer.Body.Close()
		if answer.StatusCode != http.StatusNoContent {
			ts.Fatalf("put %s: %s", at, answer.Status)
		}
	}
}

// get writes what a URL answers: `get URL FILE`.
func get(ts *testscript.TestScript, _ bool, args []string) {
	answer, err := http.Get(args[0])
	ts.Check(err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), body, 0o600))
}

// fold writes a pprof file as text: `fold PROFILE TEXT`. A line is a stack as in put, a sample
// type, and the sum of its values.
func fold(ts *testscript.TestScript, _ bool, args []string) {
	p, err := profile.Parse(strings.NewReader(ts.ReadFile(args[0])))
	ts.Check(err)
	ts.Check(p.CheckValid())
	sums := map[string]int64{}
	for _, s := range p.Sample {
		var stack []string
		for _, l := range slices.Backward(s.Location) {
			stack = append(stack, l.Line[0].Function.Name)
		}
		for i, v := range s.Value {
			sums[strings.Join(stack, ";")+" "+p.SampleType[i].Type] += v
		}
	}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(&text, "%s %d\n", key, sums[key])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text.String()), 0o600))
}
