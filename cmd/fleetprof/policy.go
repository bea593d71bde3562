// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/user"
	"strings"
	"time"
	"unicode"

	"github.com/fleetprof/fleetprof/policy"
	"github.com/fleetprof/fleetprof/policy/remote"
)

// policyCommand is `fleetprof policy`.
type policyCommand struct {
	Get   policyGetCommand   `cmd:"" help:"Print the policy in force, as YAML that policy set reads."`
	Set   policySetCommand   `cmd:"" help:"Put another policy in force."`
	Boost policyBoostCommand `cmd:"" help:"Sample some processes more often for a time."`
}

// policyServer is the flags that say whose policy.
type policyServer struct {
	Server string `help:"Address of the server that keeps the policy." default:"http://127.0.0.1:7171" placeholder:"URL"`
}

func (s policyServer) client() (*remote.Client, error) {
	c, err := remote.NewClient(s.Server)
	if err != nil {
		return nil, fmt.Errorf("--server: %w", err)
	}
	return c, nil
}

// wayOut adds to an error what can be done about it.
func wayOut(err error) error {
	var refusal *remote.Refusal
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &refusal):
		return fmt.Errorf("%w; is `fleetprof run` or `fleetprof server` running there? (--server)", err)
	case refusal.Status == http.StatusNotFound:
		return fmt.Errorf("%w; does the server know policies? (fleetprof --version there)", err)
	case refusal.Status == http.StatusPreconditionFailed:
		return fmt.Errorf("%w (fleetprof policy get)", err)
	}
	return err
}

// policyGetCommand is `fleetprof policy get`.
type policyGetCommand struct {
	policyServer
	JSON bool `help:"Print JSON, with the rules that have expired."`
}

// Help is the text below the flags.
func (policyGetCommand) Help() string {
	return `  fleetprof policy get >policy.yaml
  $EDITOR policy.yaml
  fleetprof policy set policy.yaml`
}

// Run asks and prints.
func (c *policyGetCommand) Run(ctx context.Context, con *console) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	a, err := server.Get(ctx)
	if err != nil {
		return wayOut(err)
	}
	if c.JSON {
		text, err := json.MarshalIndent(a.Policy, "", "  ")
		if err != nil {
			return fmt.Errorf("print policy: %w", err)
		}
		fmt.Fprintf(con.out, "%s\n", text)
		return nil
	}
	live := a.Policy.Live(serverTime(a))
	if gone := len(a.Policy.Rules) - len(live.Rules); gone > 0 {
		fmt.Fprintf(con.out, "# left out because they have expired: %d\n", gone)
	}
	fmt.Fprint(con.out, live.YAML())
	return nil
}

// serverTime is the clock by which rules expire.
func serverTime(a remote.Answer) time.Time {
	if a.Time.IsZero() {
		return time.Now()
	}
	return a.Time
}

// policySetCommand is `fleetprof policy set`.
type policySetCommand struct {
	policyServer
	File string `arg:"" help:"YAML or JSON; - is standard input." placeholder:"FILE"`
}

// Help is the text below the flags.
func (policySetCommand) Help() string {
	return `The file holds the whole policy, the first rule that matches decides:

  rules:
    - selector: '{k8s_namespace_name="batch"}'
      rate: 1/10
    - selector: '{process_executable_name="cc1plus"}'
      off: true
      until: 2026-12-01T00:00:00Z
      reason: build storm

With the line version, which policy get prints, the file replaces that version only.`
}

// Run checks the file, shows what changes, and sets it.
func (c *policySetCommand) Run(ctx context.Context, con *console) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	next, err := readPolicyFile(c.File)
	if err != nil {
		return err
	}
	now, err := server.Get(ctx)
	if err != nil {
		return wayOut(err)
	}
	if next.Versioned() && next.Version != now.Policy.Version {
		return fmt.Errorf("set policy: %s was made from version %d and version %d is in force: get it again (fleetprof policy get) and repeat the change on that, or take the line version out to replace it",
			c.File, next.Version, now.Policy.Version)
	}
	if err := next.Check(serverTime(now)); err != nil {
		return fmt.Errorf("read policy %s:\n%w", c.File, err)
	}
	changes := policy.Changes(now.Policy, next)
	if len(changes) == 0 {
		fmt.Fprintf(con.out, "version %d says the same already\n", now.Policy.Version)
		return nil
	}
	set, err := server.Set(ctx, next, now.Tag, me())
	if err != nil {
		return wayOut(err)
	}
	fmt.Fprintf(con.out, "%s\nversion %d is in force\n", strings.Join(changes, "\n"), set.Policy.Version)
	return nil
}

// readPolicyFile reads a policy; - is standard input.
func readPolicyFile(name string) (p policy.Policy, err error) {
	file := os.Stdin
	if name != "-" {
		if file, err = os.Open(name); err != nil {
			return p, fmt.Errorf("read policy: %w", err)
		}
		defer file.Close()
	}
	text, err := io.ReadAll(io.LimitReader(file, policy.MaxBytes+1))
	if err != nil {
		return p, fmt.Errorf("read policy: %w", err)
	}
	return parsePolicyFile(name, text)
}

func parsePolicyFile(name string, text []byte) (policy.Policy, error) {
	p, err := policy.ParseYAML(text)
	if err != nil {
		return p, fmt.Errorf("read policy %s:\n%w", name, err)
	}
	return p, nil
}

// policyBoostCommand is `fleetprof policy boost`.
type policyBoostCommand struct {
	policyServer
	Selector  string        `arg:"" help:"Which processes, such as '{service_name=\"checkout\"}'."`
	Frequency int           `help:"Samples per second and CPU." required:"" env:"-" short:"F" placeholder:"HZ"`
	For       time.Duration `help:"For how long." required:"" env:"-" placeholder:"DURATION"`
	Reason    string        `help:"Why, for those who read the policy." env:"-" placeholder:"TEXT"`
}

// Help is the text below the flags.
func (policyBoostCommand) Help() string {
	return `  fleetprof policy boost '{service_name="checkout"}' --frequency 499 --for 60s --reason 'p99 is up'

The boost ends by itself, also on agents that lose the server. It takes the place of an
earlier one for the same selector. What is off stays off if its rule is the first.`
}

// Run asks for the boost.
func (c *policyBoostCommand) Run(ctx context.Context, con *console) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	boost := remote.Boost{Selector: c.Selector, Frequency: c.Frequency, For: c.For.String(), Reason: c.Reason, By: me()}
	if err := checkBoost(boost); err != nil {
		return err
	}
	a, err := server.Boost(ctx, boost)
	if err != nil {
		return wayOut(err)
	}
	fmt.Fprintf(con.out, "version %d is in force: %s at %d samples per second and CPU for %v\n", a.Policy.Version, c.Selector, c.Frequency, c.For)
	return nil
}

// checkBoost reads a boost as the server will.
func checkBoost(b remote.Boost) error {
	text, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("boost: %w", err)
	}
	var faults policy.Faults
	if _, err := policy.ParseBoost(text, time.Now()); errors.As(err, &faults) {
		reasons := make([]string, len(faults))
		for i, f := range faults {
			reasons[i] = f.Reason // its place is in a text that the user never saw
		}
		return fmt.Errorf("boost: %s", strings.Join(reasons, "\nboost: "))
	}
	return nil
}

// me is who changes a policy, as far as the system knows.
func me() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	name = strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return -1
	}, name)
	return strings.ToValidUTF8(name[:min(len(name), maxMe)], "")
}

// maxMe is as much as a policy and a server take, in bytes.
const maxMe = 128
