// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/fleetprof/fleetprof/bpf"
)

// doctorCommand is `fleetprof doctor`.
type doctorCommand struct {
	JSON bool `help:"Print JSON." name:"json"`
}

// status is the outcome of a check.
type status string

const (
	statusOK status = "ok"
	// statusDegraded: profiling works, something in the profiles is missing.
	statusDegraded status = "degraded"
	// statusFailed: this host cannot be profiled as it is.
	statusFailed status = "failed"
)

// finding is what one check found.
type finding struct {
	Check  string `json:"check"`
	Status status `json:"status"`
	Detail string `json:"detail"`
	// Remedy is the way out, empty if there is nothing to do.
	Remedy string `json:"remedy,omitempty"`
}

// errCannotProfile is the error of a host that has a failed check.
var errCannotProfile = errors.New("this host cannot be profiled as it is; see the failed checks above")

// Run makes all checks, prints them, and fails if one of them did.
func (c *doctorCommand) Run(ctx context.Context, con *console) error {
	findings := diagnose(ctx)
	show := showText
	if c.JSON {
		show = showJSON
	}
	if err := show(con.out, findings); err != nil {
		return fmt.Errorf("print findings: %w", err)
	}
	for _, f := range findings {
		if f.Status == statusFailed {
			return errCannotProfile
		}
	}
	return nil
}

func showJSON(w io.Writer, findings []finding) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(findings)
}

func showText(w io.Writer, findings []finding) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(out, "%s\t%s\t%s\n", f.Status, f.Check, f.Detail)
		if f.Remedy != "" {
			fmt.Fprintf(out, "\t\t→ %s\n", f.Remedy)
		}
	}
	return out.Flush()
}

// failure makes a finding of an error; the remedy is the error's own if it has
// one.
func failure(check string, worst status, err error, remedy string) finding {
	var unsupported *bpf.Unsupported
	if errors.As(err, &unsupported) {
		return finding{check, worst, fmt.Sprintf("%s: %v", unsupported.Feature, unsupported.Err), unsupported.Remedy}
	}
	return finding{check, worst, err.Error(), remedy}
}
