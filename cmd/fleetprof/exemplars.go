// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// printExemplars prints a server's answer about exemplars as a table, those with the
// most CPU time first, then the longest. No CPU time means that no sample could be
// bound to the request; 0 that none hit it.
func printExemplars(w io.Writer, body []byte, lines int) error {
	var answer struct {
		Data []sample.Exemplar `json:"data"`
		More bool              `json:"more"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("read exemplars: %w", err)
	}
	all := answer.Data
	slices.SortStableFunc(all, func(a, b sample.Exemplar) int {
		return cmp.Or(cmp.Compare(orZero(b.CPU), orZero(a.CPU)), cmp.Compare(b.Duration, a.Duration))
	})
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "%-24s %10s %10s %6s  %-32s  handler\n", "time", "duration", "cpu", "status", "trace id")
	for _, e := range all[:min(lines, len(all))] {
		cpu := "-"
		if e.CPU != nil {
			cpu = milliseconds(*e.CPU)
		}
		value := func(name string) string { return e.Labels[name] }
		fmt.Fprintf(out, "%-24s %10s %10s %6s  %s  %s %s\n", e.Start.UTC().Format("2006-01-02T15:04:05.000Z"), milliseconds(e.Duration), cpu,
			printable(cmp.Or(e.StatusClass, "-")), e.TraceID, printable(value(sample.LabelService)), printable(handlerOf(value)))
	}
	if hidden := len(all) - lines; hidden > 0 || answer.More {
		fmt.Fprintln(out, "(there are more)")
	}
	return out.Flush()
}

func orZero(d *time.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return *d
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.1fms", d.Seconds()*1e3) }
