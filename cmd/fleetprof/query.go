// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// queryCommand is `fleetprof query`.
type queryCommand struct {
	Selector string `arg:"" optional:"" help:"Which samples, such as '{process_executable_name=\"nginx\"}'; all if left out."`
	Server   string `help:"Address of the store." default:"http://127.0.0.1:7171" placeholder:"URL"`
	Last     string `help:"Time up to now, such as 15m or 24h. Default: 15m." placeholder:"DURATION" xor:"last-from,last-to"`
	From     string `help:"Begin: RFC 3339, Unix seconds, or now-1h." placeholder:"TIME" xor:"last-from"`
	To       string `help:"End, written as --from is. Default: now." placeholder:"TIME" xor:"last-to"`

	Top       bool   `help:"Functions by CPU time (the default)." xor:"form"`
	Folded    bool   `help:"One line a stack, outermost first, and its samples." xor:"form"`
	By        string `help:"CPU time by the values of one label or several, such as http_route,http_request_method, and how certain the requests are. The word handler stands for rpc_method, or else the method and http_route, or else the method and url_template." placeholder:"LABEL,…" xor:"form"`
	Exemplars bool   `help:"Requests of which trace ids are kept (--trace-exemplars of the agent), those with the most CPU time first. The selector sees host_name, service_name and the labels of the handler." xor:"form"`
	Output    string `help:"Write the merged profile to this file, gzip-compressed pprof." short:"o" type:"path" placeholder:"FILE" xor:"form"`
	Lines     int    `help:"Rows to print at most." short:"n" default:"40"`
}

// Validate is called by the flag parser.
func (c *queryCommand) Validate() error {
	if c.Lines < 1 {
		return badFlag("lines", "must be at least 1")
	}
	if c.By != "" && slices.Contains(strings.Split(c.By, ","), "") {
		return badFlag("by", "must be names of labels with commas between, not %q", c.By)
	}
	return nil
}

// maxAnswer bounds what a server can make us read, in bytes.
const maxAnswer = 512 << 20

// Run asks and prints.
func (c *queryCommand) Run(ctx context.Context, con *console) error {
	if c.Exemplars {
		body, err := c.fetch(ctx, "api/v1/exemplars")
		if err != nil {
			return err
		}
		return printExemplars(con.out, body, c.Lines)
	}
	body, err := c.fetch(ctx, "api/v1/pprof")
	if err != nil {
		return err
	}
	if c.Output != "" {
		if err := writeFile(c.Output, body); err != nil {
			return fmt.Errorf("write profile: %w", err)
		}
		return nil
	}
	p, err := profile.ParseData(body)
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", c.Server, err)
	}
	r, err := newReport(p)
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", c.Server, err)
	}
	switch {
	case c.Folded:
		return r.folded(con.out)
	case c.By != "":
		return r.by(con.out, strings.Split(c.By, ","), c.Lines)
	}
	return r.top(con.out, c.Lines)
}

// fetch gets what the server answers at a path.
func (c *queryCommand) fetch(ctx context.Context, path string) ([]byte, error) {
	address, err := c.address(path)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.Server, err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w; is `fleetprof run` or `fleetprof server` running there? (--server)", c.Server, errors.Unwrap(err))
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", c.Server, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s", strings.TrimSpace(string(body[:min(len(body), 4096)])))
	}
	return body, nil
}

func (c *queryCommand) address(path string) (string, error) {
	base, err := url.Parse(c.Server)
	if err != nil || base.Host == "" {
		return "", fmt.Errorf("--server %s: want a URL such as http://127.0.0.1:7171", c.Server)
	}
	parameters := url.Values{}
	for name, value := range map[string]string{"query": c.Selector, "last": c.Last, "from": c.From, "to": c.To} {
		if value != "" {
			parameters.Set(name, value)
		}
	}
	base = base.JoinPath(path)
	base.RawQuery = parameters.Encode()
	return base.String(), nil
}
