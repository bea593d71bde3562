// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/query"
	"github.com/fleetprof/fleetprof/storeclient"
)

// queryCommand is `fleetprof query`.
type queryCommand struct {
	Selector string `arg:"" optional:"" help:"Which samples, such as '{process_executable_name=\"nginx\"}'; all if left out."`
	Server   string `help:"Address of the store: http(s)://HOST:7171, parca(s)://HOST:7070 or pyroscope+http(s)://HOST:4040." default:"http://127.0.0.1:7171" placeholder:"URL"`
	Type     string `help:"Profile type, as the store spells it. Default: its CPU time." placeholder:"TYPE"`
	Last     string `help:"Time up to now, such as 15m or 24h. Default: 15m." placeholder:"DURATION" xor:"last-from,last-to"`
	From     string `help:"Begin: RFC 3339, Unix seconds, or now-1h." placeholder:"TIME" xor:"last-from"`
	To       string `help:"End, written as --from is. Default: now." placeholder:"TIME" xor:"last-to"`

	Diff         string `help:"Compare with another time: functions by how much their share has changed; with --output, pprof in which the other time is negative." placeholder:"FROM..TO"`
	DiffSelector string `help:"Compare with other samples, as --diff does with another time; both can be given." placeholder:"SELECTOR"`

	Top       bool          `help:"Functions by CPU time (the default)." xor:"form"`
	Folded    bool          `help:"One line a stack, outermost first, and its samples." xor:"form"`
	By        string        `help:"CPU time by the values of one label or several, such as http_route,http_request_method, and how certain the requests are. The word handler stands for rpc_method, or else the method and http_route, or else the method and url_template." placeholder:"LABEL,…"`
	Series    bool          `help:"CPU time over time: a row for each step, with --by a column for each value." xor:"form"`
	Step      time.Duration `help:"Step of --series." default:"1m"`
	Exemplars bool          `help:"Requests of which trace ids are kept (--trace-exemplars of the agent), those with the most CPU time first. The selector sees host_name, service_name and the labels of the handler." xor:"form"`
	Output    string        `help:"Write the merged profile to this file, gzip-compressed pprof." short:"o" type:"path" placeholder:"FILE" xor:"form"`
	Lines     int           `help:"Rows to print at most; of --series, columns." short:"n" default:"40"`
}

// Validate is called by the flag parser.
func (c *queryCommand) Validate() error {
	if c.Lines < 1 {
		return badFlag("lines", "must be at least 1")
	}
	if c.Step < time.Millisecond || c.Step%time.Millisecond != 0 {
		return badFlag("step", "must be whole milliseconds, at least one")
	}
	if c.By != "" && slices.Contains(strings.Split(c.By, ","), "") {
		return badFlag("by", "must be names of labels with commas between, not %q", c.By)
	}
	switch {
	case c.compares():
		return c.alone("diff", map[string]bool{"folded": c.Folded, "by": c.By != "", "series": c.Series, "exemplars": c.Exemplars})
	case c.By != "":
		return c.alone("by", map[string]bool{"top": c.Top, "folded": c.Folded, "exemplars": c.Exemplars, "output": c.Output != ""})
	}
	return nil
}

// alone says that a flag is given together with another that asks for something else.
func (c *queryCommand) alone(flag string, others map[string]bool) error {
	for _, name := range slices.Sorted(maps.Keys(others)) {
		if others[name] {
			return badFlag(name, "cannot be given together with --%s", flag)
		}
	}
	return nil
}

func (c *queryCommand) compares() bool { return c.Diff != "" || c.DiffSelector != "" }

// Run asks and prints.
func (c *queryCommand) Run(ctx context.Context, con *console) error {
	client, err := storeclient.New(c.Server)
	if err != nil {
		return fmt.Errorf("--server: %w", err)
	}
	now := time.Now()
	q, err := c.question(now)
	if err != nil {
		return err
	}
	switch {
	case c.Exemplars:
		return c.exemplars(ctx, con, client, q)
	case c.Series:
		return c.series(ctx, con, client, q)
	case c.compares():
		return c.compare(ctx, con, client, q, now)
	case c.By != "" && !client.KeepsLabels():
		return c.sums(ctx, con, client, q)
	}
	p, err := client.Profile(ctx, q)
	if err != nil {
		return err
	}
	if c.Output != "" {
		return writeProfile(c.Output, p)
	}
	r, err := newReport(p)
	if err != nil {
		return fmt.Errorf("read answer of %v: %w", client, err)
	}
	switch {
	case c.Folded:
		return r.folded(con.out)
	case c.By != "":
		return r.by(con.out, strings.Split(c.By, ","), c.Lines)
	}
	return r.top(con.out, c.Lines)
}

// question is what the flags ask for.
func (c *queryCommand) question(now time.Time) (storeclient.Query, error) {
	parameters := url.Values{"last": {c.Last}, "from": {c.From}, "to": {c.To}}
	span, err := query.ParseRange(parameters, now)
	return storeclient.Query{Selector: c.Selector, Type: c.Type, From: span.From, To: span.To}, err
}

func (c *queryCommand) exemplars(ctx context.Context, con *console, client storeclient.Client, q storeclient.Query) error {
	keeper, ok := client.(interface {
		Exemplars(ctx context.Context, q storeclient.Query) ([]byte, error)
	})
	if !ok {
		return fmt.Errorf("--exemplars: only fleetprof servers keep them, and %v is another store", client)
	}
	body, err := keeper.Exemplars(ctx, q)
	if err != nil {
		return err
	}
	return printExemplars(con.out, body, c.Lines)
}

// sums prints sums by labels of a store that merges profiles without labels.
func (c *queryCommand) sums(ctx context.Context, con *console, client storeclient.Client, q storeclient.Query) error {
	labels := strings.Split(c.By, ",")
	needed := append(neededLabels(labels), sample.LabelAttribution)
	s, err := client.Series(ctx, q, needed, q.To.Sub(q.From))
	if err != nil {
		return err
	}
	r, err := newReport(labelled(s, needed, q))
	if err != nil {
		return err
	}
	return r.by(con.out, labels, c.Lines)
}

// labelled is sums by labels as a profile without stacks.
func labelled(s *storeclient.Series, labels []string, q storeclient.Query) *profile.Profile {
	what := "cpu"
	if parts := strings.Split(q.Type, ":"); len(parts) > 1 && s.Unit != "nanoseconds" {
		what = parts[1]
	}
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: what, Unit: s.Unit}},
		TimeNanos:  q.From.UnixNano(), DurationNanos: int64(q.To.Sub(q.From)),
	}
	for _, g := range s.Groups {
		one := &profile.Sample{Value: []int64{g.Total()}, Label: map[string][]string{}}
		for i, name := range labels {
			if g.Values[i] != "" {
				one.Label[name] = []string{g.Values[i]}
			}
		}
		p.Sample = append(p.Sample, one)
	}
	return p
}

func (c *queryCommand) series(ctx context.Context, con *console, client storeclient.Client, q storeclient.Query) error {
	var labels []string
	if c.By != "" {
		labels = strings.Split(c.By, ",")
	}
	q = storeclient.Align(q, c.Step)
	needed := neededLabels(labels)
	s, err := client.Series(ctx, q, needed, c.Step)
	if err != nil {
		return err
	}
	return newTimeTable(s, needed, labels).print(con.out, q, c.Step, c.Lines)
}

// compare prints or writes the difference to another time or other samples.
func (c *queryCommand) compare(ctx context.Context, con *console, client storeclient.Client, q storeclient.Query, now time.Time) error {
	base := q
	if c.DiffSelector != "" {
		base.Selector = c.DiffSelector
	}
	if c.Diff != "" {
		from, to, ok := strings.Cut(c.Diff, "..")
		if !ok {
			return fmt.Errorf("--diff %s: want a range such as now-2h..now-1h", c.Diff)
		}
		span, err := query.ParseRange(url.Values{"from": {from}, "to": {to}}, now)
		if err != nil {
			return fmt.Errorf("--diff: %w", err)
		}
		base.From, base.To = span.From, span.To
	}
	before, err := client.Profile(ctx, base)
	if err != nil {
		return fmt.Errorf("--diff: %w", err)
	}
	after, err := client.Profile(ctx, q)
	if err != nil {
		return err
	}
	if c.Output != "" {
		p, err := difference(before, after)
		if err != nil {
			return fmt.Errorf("subtract profiles: %w", err)
		}
		return writeProfile(c.Output, p)
	}
	d, err := newDiff(before, after)
	if err != nil {
		return fmt.Errorf("read answer of %v: %w", client, err)
	}
	return d.print(con.out, c.Lines)
}

func writeProfile(file string, p *profile.Profile) error {
	var b bytes.Buffer
	err := p.Write(&b)
	if err == nil {
		err = writeFile(file, b.Bytes())
	}
	if err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return nil
}

var errOtherType = errors.New("profiles of different types")
